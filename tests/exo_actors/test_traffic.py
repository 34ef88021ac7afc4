"""Anything on the bus becomes one readable line."""

from datetime import datetime

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from exo_actors import traffic

NOON = datetime(2026, 1, 2, 12, 0, 0, 45_000)


def packed(content: object) -> bytes:
    body = msgpack.packb(content)
    assert isinstance(body, bytes)
    return body


def test_a_line_has_time_topic_kind_content_and_size() -> None:
    body = packed({"type": "Head", "session": "a", "number": 3})
    assert traffic.line(b"fact", body, NOON) == f"12:00:00.045 fact   Head session=a number=3  {len(body)} B"


def test_what_is_long_is_shortened_and_what_is_binary_counted() -> None:
    assert traffic.describe(packed({"type": "X", "raw": b"12345"})) == "X raw=<5 bytes>"
    assert traffic.describe(packed({"text": "two words"})) == "? text='two words'"
    assert traffic.describe(packed({"n": list(range(20))})) == "? n=[0, 1, 2, 3, 4, 5, 6, 7, … 20 in all]"
    assert len(traffic.line(b"fact", packed({"a": ["x" * 79] * 8}), NOON)) < 450


def test_numbers_are_short() -> None:
    assert traffic.describe(packed({"a": 0.123456789, "b": 1760000000.25})) == "? a=0.123457 b=1760000000.2"


@given(st.binary(), st.binary(max_size=10))
def test_no_bytes_upset_it(body: bytes, topic: bytes) -> None:
    assert "\n" not in traffic.line(topic, body, NOON)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.binary() | st.integers(-(2**63), 2**63),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    )
)
def test_any_content_is_one_line(content: object) -> None:
    assert "\n" not in traffic.line(b"fact", packed(content), NOON)
