"""A request's answers are counted one by one and shown in order, whatever order the engine reports in."""

from msgspec.structs import replace

from actors.tally import Tally, sequence_id
from bus.messages.base import ModelId, RequestId
from bus.messages.engine import Prefilled, Queued
from bus.messages.facts import RequestState
from bus.messages.generation import Delta, Finish, FinishReason, JsonFormat, Sampling, TextPrompt
from bus.messages.request import Order

REQUEST = RequestId("cmpl-1")


def order(n: int = 1, prompts: tuple[str, ...] = ("a",), seed: int | None = None) -> Order:
    return Order(
        request=REQUEST,
        model=ModelId("m"),
        prompts=tuple(TextPrompt(text=text) for text in prompts),
        n=n,
        sampling=Sampling(seed=seed),
    )


def finish(tokens: int, cached: int = 0) -> Finish:
    return Finish(reason=FinishReason.STOP, completion_tokens=tokens, cached_tokens=cached)


def flowing(n: int = 1, prompt_tokens: int = 10) -> Tally:
    """All answers have their first token."""
    tally = Tally(order(n=n))
    for index in range(n):
        tally.accept(sequence_id(REQUEST, index), prompt_tokens)
        tally.add(Delta(sequence_id(REQUEST, index), text="x", tokens=1, ids=(1,)), now=1.0)
    return tally


def in_line(index: int, place: int, reason: str = "its turn") -> Queued:
    return Queued(sequence_id(REQUEST, index), place, reason)


def test_answers_are_numbered_by_prompt_then_by_copy() -> None:
    submits = Tally(order(n=2, prompts=("a", "b"))).submits()
    assert [submit.sequence for submit in submits] == [sequence_id(REQUEST, i) for i in range(4)]
    assert [submit.prompt for submit in submits] == [TextPrompt(text=text) for text in "aabb"]


def test_copies_of_a_seeded_prompt_get_different_seeds_that_depend_on_the_seed_alone() -> None:
    seeds = [submit.sampling.seed for submit in Tally(order(n=3, prompts=("a", "b"), seed=7)).submits()]
    assert seeds[0] == 7
    assert len(set(seeds[:3])) == 3
    assert seeds[:3] == seeds[3:]


def test_nothing_is_shown_before_every_sequence_is_accepted() -> None:
    tally = Tally(order(n=2))
    first, second = sequence_id(REQUEST, 0), sequence_id(REQUEST, 1)
    assert not tally.accept(first, 5)
    assert tally.add(Delta(sequence=first, text="x", tokens=1), now=1.0) == []
    assert tally.accept(second, 5)
    shown = tally.add(Delta(sequence=second, text="y", tokens=1), now=2.0)
    assert [(chunk.index, chunk.text) for chunk in shown] == [(0, "x"), (1, "y")]


def test_a_delta_that_says_nothing_is_counted_and_not_shown() -> None:
    tally = Tally(order())
    tally.accept(sequence_id(REQUEST, 0), 5)
    assert tally.add(Delta(sequence=sequence_id(REQUEST, 0), tokens=1), now=1.0) == []
    assert tally.generated == 1


def test_the_bill_counts_each_prompt_once_and_every_answer() -> None:
    tally = Tally(order(n=2, prompts=("a", "b")))
    for index in range(4):
        tally.accept(sequence_id(REQUEST, index), 10)
        tally.add(Delta(sequence=sequence_id(REQUEST, index), tokens=3, finish=finish(3)), now=float(index))
    assert tally.finished
    assert tally.unfinished == ()
    assert (tally.usage().prompt_tokens, tally.usage().completion_tokens) == (20, 12)


def test_a_request_waits_then_prefills_then_decodes() -> None:
    tally, sequence = Tally(order()), sequence_id(REQUEST, 0)
    states = [tally.state]
    tally.accept(sequence, 100)
    tally.prefill(Prefilled(sequence=sequence, done=40, total=100))
    states.append(tally.state)
    assert (tally.prefilled, tally.to_prefill) == (40, 100)
    tally.add(Delta(sequence=sequence, text="x", tokens=1), now=10.0)
    tally.add(Delta(sequence=sequence, text="y", tokens=1), now=10.5)
    states.append(tally.state)
    assert states == [RequestState.WAITING, RequestState.PREFILL, RequestState.DECODE]
    assert tally.tokens_per_s == 2.0


def test_without_a_seed_every_answer_gets_one_of_its_own_that_it_keeps() -> None:
    tally = Tally(order(n=2, prompts=("a", "a")))
    seeds = [submit.sampling.seed for submit in tally.submits()]
    assert None not in seeds
    assert len(set(seeds)) == 4
    tally.lose()
    assert [submit.sampling.seed for submit in tally.submits()] == seeds
    assert seeds[0] != Tally(order()).submits()[0].sampling.seed


def test_only_what_is_unfinished_is_submitted_again_with_the_tokens_that_it_has() -> None:
    tally = Tally(order(n=3))
    for index in range(3):
        tally.accept(sequence_id(REQUEST, index), 10)
    tally.add(Delta(sequence_id(REQUEST, 0), text="x", tokens=1, ids=(7,)), now=1.0)
    tally.add(Delta(sequence_id(REQUEST, 1), tokens=1, ids=(9,), finish=finish(1)), now=1.0)
    tally.add(Delta(sequence_id(REQUEST, 0), tokens=2, ids=(8, 8)), now=2.0)
    assert tally.lose() == (sequence_id(REQUEST, 0), sequence_id(REQUEST, 2))
    again = tally.submits()
    assert [submit.resume for submit in again] == [(7, 8, 8), ()]
    assert tally.unfinished == tuple(submit.sequence for submit in again)


def test_what_a_lost_engine_still_says_is_not_expected() -> None:
    tally, before = Tally(order(n=2)), sequence_id(REQUEST, 0)
    assert tally.expects(before)
    tally.lose()
    (now, _) = tally.unfinished
    assert not tally.expects(before)
    assert tally.expects(now)
    tally.add(Delta(now, tokens=1, finish=finish(1)), now=1.0)
    assert not tally.expects(now)


def test_a_request_is_admitted_once_and_counts_on_where_it_was() -> None:
    tally = Tally(order())
    assert tally.accept(sequence_id(REQUEST, 0), 5)
    tally.add(Delta(sequence_id(REQUEST, 0), text="x", tokens=2, ids=(1, 2)), now=1.0)
    tally.lose()
    (now,) = tally.unfinished
    assert not tally.accept(now, 5)
    (chunk,) = tally.add(Delta(now, text="y", tokens=1, ids=(3,)), now=2.0)
    assert (chunk.index, chunk.text, chunk.generated) == (0, "y", 3)
    assert tally.prompt_tokens == (5,)


def test_an_engine_that_is_lost_before_all_were_accepted_admits_with_the_next_one() -> None:
    tally = Tally(order(n=2))
    assert not tally.accept(sequence_id(REQUEST, 0), 5)
    assert tally.add(Delta(sequence_id(REQUEST, 0), text="x", tokens=1, ids=(1,)), now=1.0) == []
    tally.lose()
    first, second = tally.unfinished
    assert tally.accept(second, 5)
    shown = tally.add(Delta(first, text="y", tokens=1, ids=(2,)), now=2.0)
    assert [chunk.text for chunk in shown] == ["x", "y"]


def test_an_answer_that_lost_its_engine_waits_and_prefills_again_before_it_decodes() -> None:
    tally = Tally(order())
    tally.accept(sequence_id(REQUEST, 0), 100)
    tally.add(Delta(sequence_id(REQUEST, 0), text="x", tokens=2, ids=(1, 2)), now=1.0)
    tally.lose()
    (now,) = tally.unfinished
    states = [tally.state]
    tally.prefill(Prefilled(now, done=101, total=102))
    states.append(tally.state)
    assert tally.prefilled == tally.to_prefill == 100
    tally.add(Delta(now, tokens=1, ids=(3,)), now=2.0)
    states.append(tally.state)
    assert states == [RequestState.WAITING, RequestState.PREFILL, RequestState.DECODE]


def test_what_is_asked_for_reaches_the_engine() -> None:
    asked = replace(order(), format=JsonFormat(), priority=3, embed=True)
    (submit,) = Tally(asked).submits()
    assert (submit.format, submit.priority, submit.embed) == (JsonFormat(), 3, True)


def test_what_was_kept_of_a_prompt_is_billed_once_for_all_its_answers() -> None:
    tally = Tally(order(n=2, prompts=("a", "b")))
    for index, cached in enumerate((4, 9, 99, 9)):
        tally.accept(sequence_id(REQUEST, index), 10)
        tally.add(Delta(sequence_id(REQUEST, index), tokens=1, finish=finish(1, cached)), now=1.0)
    assert tally.usage().cached_tokens == 4 + 10, "of each prompt the first answer's, and no more than it has"


def test_every_chunk_says_what_was_kept_of_its_prompt() -> None:
    tally, sequence = Tally(order()), sequence_id(REQUEST, 0)
    tally.accept(sequence, 100)
    tally.prefill(Prefilled(sequence, done=100, total=100, cached=64))
    (chunk,) = tally.add(Delta(sequence, text="x", tokens=1), now=1.0)
    assert chunk.cached == 64


def test_an_embedding_comes_with_its_finish() -> None:
    tally = Tally(order())
    tally.accept(sequence_id(REQUEST, 0), 5)
    (chunk,) = tally.add(Delta(sequence_id(REQUEST, 0), finish=finish(0), embedding=b"1234"), now=1.0)
    assert chunk.embedding == b"1234"


def test_prefill_says_how_much_was_kept_and_how_long_the_rest_takes() -> None:
    tally = Tally(order(n=2))
    first, second = (sequence_id(REQUEST, index) for index in range(2))
    tally.accept(first, 100)
    tally.accept(second, 100)
    tally.prefill(Prefilled(first, done=60, total=100, eta_s=2.0, cached=40))
    tally.prefill(Prefilled(second, done=80, total=100, eta_s=3.0, cached=80))
    assert (tally.cached, tally.eta_s) == (120, 3.0)
    tally.add(Delta(second, text="x", tokens=1, ids=(1,)), now=1.0)
    assert tally.eta_s == 2.0


def test_a_request_stands_in_line_with_the_first_of_its_answers() -> None:
    tally = Tally(order(n=2))
    seen = [tally.queued]
    for queued in (in_line(1, 7), in_line(0, 6), in_line(0, 2)):
        tally.queue(queued)
        seen.append(tally.queued)
    # Of the other one nothing is known at first: it may be about to be computed.
    assert seen == [None, None, in_line(0, 6), in_line(0, 2)]
    tally.prefill(Prefilled(sequence_id(REQUEST, 0), done=1, total=10))
    assert (tally.queued, tally.state) == (None, RequestState.PREFILL)


def test_an_answer_that_is_put_off_in_the_middle_waits_and_goes_on() -> None:
    tally, sequence = flowing(), sequence_id(REQUEST, 0)
    tally.queue(in_line(0, 3))
    assert tally.resumes
    assert (tally.state, tally.flowing) == (RequestState.WAITING, False)
    tally.prefill(Prefilled(sequence, done=4, total=11))
    assert (tally.state, tally.queued) == (RequestState.PREFILL, None)
    (chunk,) = tally.add(Delta(sequence, text="y", tokens=1, ids=(2,)), now=2.0)
    assert (chunk.generated, tally.flowing, tally.resumes) == (2, True, False)


def test_while_one_answer_flows_the_request_does_not_wait() -> None:
    tally = flowing(n=2)
    tally.queue(in_line(1, 0))
    assert (tally.flowing, tally.queued) == (True, None)
    tally.add(Delta(sequence_id(REQUEST, 0), tokens=1, finish=finish(2)), now=2.0)
    assert (tally.flowing, tally.queued) == (False, in_line(1, 0))


def test_an_engine_that_is_lost_takes_its_line_along() -> None:
    tally = flowing()
    tally.queue(in_line(0, 3))
    tally.lose()
    assert (tally.queued, tally.resumes, tally.cached) == (None, False, 0)
    (now,) = tally.unfinished
    tally.queue(Queued(now, 1, "its turn"))
    assert not tally.resumes, "no token of it has flowed from this engine"
