"""Decode gets no more BLAS threads than are worth it; prefill gets all."""

from engine.threads import Threads, worth_it


def test_few_threads_are_kept_unless_more_are_clearly_faster() -> None:
    assert worth_it({1: 2.0, 2: 1.9}) == 1
    assert worth_it({1: 2.0, 2: 1.2}) == 2
    assert worth_it({1: 8.0, 4: 3.0, 8: 2.9}) == 4
    assert worth_it({1: 8.0, 4: 3.0, 8: 2.0}) == 8
    assert worth_it({4: 1.0}) == 4


def test_all_halves_and_one_are_tried() -> None:
    assert Threads(16, lambda count: None).candidates == (1, 8, 16)
    assert Threads(2, lambda count: None).candidates == (1, 2)
    assert Threads(1, lambda count: None).candidates == (1,)


def test_prefill_gets_all_and_the_number_is_set_only_when_it_changes() -> None:
    was_set: list[int] = []
    threads = Threads(4, was_set.append)
    threads.settle({1: 1.0, 2: 1.0, 4: 1.0})
    for prefills in (False, False, True, True, False):
        threads.for_step(prefills)
    assert was_set == [1, 4, 1]


def test_what_can_not_be_set_is_left_alone() -> None:
    threads = Threads(8, None)
    assert threads.candidates == (1,)
    threads.settle({1: 1.0})
    threads.for_step(prefills=True)
