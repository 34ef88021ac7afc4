"""Bytes: every message comes back equal, any MessagePack reader understands it, and rubbish is named."""

import random
from collections.abc import Iterator

import msgpack
import msgspec
import pytest

from bus.codec import MESSAGE_LIMIT, Undecodable, decode_envelope, decode_news, encode
from bus.counts import Count
from bus.errors import TooLarge
from bus.messages.base import Message, SequenceId
from bus.messages.engine import Cancel, Load, Shutdown, Step
from bus.messages.envelope import Command, Envelope, Notice, Reply
from bus.messages.facts import Snapshot, Update
from bus.salvage import Unanswerable, salvage_envelope, salvage_news
from tests.bus.examples import EXAMPLES, NODE, SUBMIT, UPDATE
from tests.bus.rubbish import mutated, rubbish


def kinds(of: type[Message]) -> Iterator[type[Message]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def name(message: Message) -> str:
    return type(message).__name__


def test_there_is_an_example_of_every_message() -> None:
    ours = {kind for kind in kinds(Message) if kind.__module__.startswith("bus.")}
    assert {type(example) for example in EXAMPLES} == ours


@pytest.mark.parametrize("message", EXAMPLES, ids=name)
def test_a_message_comes_back_equal(message: Message) -> None:
    assert msgspec.msgpack.decode(encode(message), type=type(message)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=name)
def test_any_messagepack_reader_understands_a_message(message: Message) -> None:
    read = msgpack.unpackb(encode(message), strict_map_key=False)
    assert read["type"] == name(message)
    assert msgspec.convert(read, type(message)) == message


@pytest.mark.parametrize("body", [Load("p"), SUBMIT, Cancel(()), Shutdown(), Step(1)], ids=name)
def test_an_envelope_keeps_its_body(body: Load | Step) -> None:
    envelopes: tuple[Envelope, ...] = (Command(3, 1.5, body), Notice(body))
    for envelope in envelopes:
        assert decode_envelope(encode(envelope)) == envelope


def test_a_message_written_by_another_library_is_read() -> None:
    written = msgpack.packb(
        {"body": {"sequences": ["a"], "type": "Cancel"}, "number": 1, "timeout_s": 2, "type": "Command"}
    )
    assert decode_envelope(written) == Command(1, 2.0, Cancel((SequenceId("a"),)))


def test_a_newer_version_may_add_fields() -> None:
    written = msgpack.packb(
        {
            "type": "Notice",
            "urgent": True,
            "body": {"type": "Step", "number": 1, "energy_j": [1.5, {"a": None}]},
        }
    )
    assert decode_envelope(written) == Notice(Step(1))


def test_an_older_version_may_leave_fields_out() -> None:
    written = msgpack.packb(
        {"type": "Command", "number": 1, "timeout_s": 1.0, "body": {"type": "Load", "path": "p"}}
    )
    assert decode_envelope(written) == Command(1, 1.0, Load("p"))


def test_a_message_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(TooLarge, match=r"Notice of .* the bus carries at most 16,777,216"):
        encode(Notice(Load("x" * MESSAGE_LIMIT)))


NAMED = {
    b"": Count.MALFORMED,
    b"\xc1": Count.MALFORMED,
    b"\x91" * 100_000: Count.MALFORMED,
    b"\x82\xa4type\xa6Notice\xa1x" + b"\x91" * 100_000: Count.MALFORMED,
    b"\xdd\xff\xff\xff\xff": Count.MALFORMED,
    b"\x81\xa4type\xa2\xff\xff": Count.MALFORMED,
    b"\x00" * (MESSAGE_LIMIT + 1): Count.OVERSIZED,
    encode(Notice(Step(1))) + b"\x00": Count.MALFORMED,
    encode(Notice(Step(1)))[:-1]: Count.MALFORMED,
    msgpack.packb({"type": "Hint"}): Count.UNKNOWN_TYPE,
    msgpack.packb({"type": "Notice", "body": {"type": "Hint"}}): Count.UNKNOWN_TYPE,
    msgpack.packb({"type": "Notice", "body": {"type": "Step"}}): Count.MALFORMED,
    msgpack.packb({"type": "Notice"}): Count.MALFORMED,
    msgpack.packb({"type": 7}): Count.MALFORMED,
    msgpack.packb([1, 2]): Count.MALFORMED,
    encode(UPDATE): Count.UNKNOWN_TYPE,
}


@pytest.mark.parametrize(("data", "count"), NAMED.items(), ids=range(len(NAMED)))
def test_what_is_no_envelope_is_called_by_its_name(data: bytes, count: Count) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_envelope(data)
    assert caught.value.count is count


def test_a_thousand_random_and_mutated_messages_do_no_harm() -> None:
    """They decode or are named, and nothing else is ever raised."""
    source = random.Random(1)
    originals = [encode(example) for example in EXAMPLES]
    named: set[Count] = set()
    for data in [*rubbish(source, 500), *(mutated(source, source.choice(originals)) for _ in range(500))]:
        for decode in (decode_envelope, decode_news, salvage_envelope, salvage_news):
            try:
                decode(data)
            except Undecodable as error:
                named.add(error.count)
    assert named == {Count.MALFORMED, Count.UNKNOWN_TYPE}


# -- what a newer version wrote --------------------------------------------------------------------


def test_an_update_with_an_unknown_fact_still_counts() -> None:
    written = msgpack.packb(
        {
            "type": "Update",
            "session": "s",
            "number": 4,
            "key": "link/1",
            "fact": {"type": "LinkFact", "ms": 1},
        }
    )
    with pytest.raises(Undecodable) as caught:
        decode_news(written)
    assert caught.value.count is Count.UNKNOWN_TYPE
    assert salvage_news(written) == Update("s", 4, "link/1")


def test_a_snapshot_keeps_the_facts_that_are_known() -> None:
    facts = {"link/1": {"type": "LinkFact"}, "node/n-1": msgspec.to_builtins(NODE)}
    written = msgpack.packb(
        {"type": "Notice", "body": {"type": "Snapshot", "session": "s", "number": 4, "facts": facts}}
    )
    with pytest.raises(Undecodable) as caught:
        decode_envelope(written)
    assert caught.value.count is Count.UNKNOWN_TYPE
    assert salvage_envelope(written) == Notice(Snapshot("s", 4, {"node/n-1": NODE}))


def test_of_a_command_that_is_not_known_the_number_is() -> None:
    written = msgpack.packb({"type": "Command", "number": 9, "timeout_s": 1.0, "body": {"type": "Migrate"}})
    assert salvage_envelope(written) == Unanswerable(9)
    assert salvage_envelope(encode(Reply(9))) is None
