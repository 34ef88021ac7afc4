"""A request's answers are counted one by one and shown in order, whatever order the engine reports in."""

from actors.tally import Tally, sequence_id
from bus.messages.base import ModelId, RequestId
from bus.messages.engine import Prefilled
from bus.messages.facts import RequestState
from bus.messages.generation import Delta, Finish, FinishReason, Sampling, TextPrompt
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


def finish(tokens: int) -> Finish:
    return Finish(reason=FinishReason.STOP, completion_tokens=tokens)


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
