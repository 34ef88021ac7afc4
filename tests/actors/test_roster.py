"""A Runner knows whose every sequence is, and which ones its engine has."""

from actors.kernel.actor import ThreadActor
from actors.kernel.reference import Ref
from actors.messages import RequestMessage
from actors.running.roster import Roster
from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import TextPrompt


class Asker(ThreadActor[RequestMessage]):
    def on_receive(self, message: RequestMessage) -> None:
        raise AssertionError(message)


def submits(*names: str) -> list[Submit]:
    return [Submit(sequence=SequenceId(name), prompt=TextPrompt(text="x")) for name in names]


def askers(count: int) -> list[Ref[RequestMessage]]:
    return [Asker.start() for _ in range(count)]


def stop(refs: list[Ref[RequestMessage]]) -> None:
    for ref in refs:
        ref.stop()


def test_what_waits_is_drained_once_and_in_order() -> None:
    roster, refs = Roster(10), askers(1)
    roster.add(submits("a", "b"), refs[0])
    roster.add(submits("c"), refs[0])
    assert [submit.sequence for submit in roster.drain()] == ["a", "b", "c"]
    assert roster.drain() == []
    assert len(roster) == 3
    stop(refs)


def test_the_bound_counts_what_runs_and_what_waits() -> None:
    roster, refs = Roster(3), askers(1)
    roster.add(submits("a", "b"), refs[0])
    roster.drain()
    assert roster.takes(1)
    assert not roster.takes(2)
    stop(refs)


def test_when_a_request_ends_only_what_the_engine_has_needs_a_cancel() -> None:
    roster, refs = Roster(10), askers(2)
    roster.add(submits("a"), refs[0])
    roster.add(submits("other"), refs[1])
    roster.drain()
    roster.add(submits("b"), refs[0])
    assert roster.remove_owner(refs[0]) == ("a",)
    assert [submit.sequence for submit in roster.drain()] == []
    assert roster.owner(SequenceId("other")) is refs[1]
    stop(refs)


def test_an_engine_that_is_lost_takes_along_only_what_it_had() -> None:
    roster, refs = Roster(10), askers(1)
    roster.add(submits("a"), refs[0])
    roster.drain()
    roster.add(submits("b"), refs[0])
    assert [name for name, _ in roster.lose_engine()] == ["a"]
    assert [submit.sequence for submit in roster.drain()] == ["b"]
    stop(refs)
