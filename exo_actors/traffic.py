"""One line of text for anything that passes on the bus, without knowing any of its types."""

from datetime import datetime

import msgpack

LONGEST_TEXT = 80
LONGEST_LIST = 8
LONGEST_LINE = 400


def line(topic: bytes, body: bytes, at: datetime) -> str:
    """Time, topic, kind, content and size of one message."""
    head = f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {_words(topic.decode(errors='replace')):<6}"
    return f"{head} {_shortened(describe(body))}  {len(body)} B"


def describe(body: bytes) -> str:
    """A MessagePack map as `type key=value ...`; anything else in its own words."""
    try:
        content: object = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        return f"not MessagePack: {_words(str(error) or type(error).__name__)}"
    if not isinstance(content, dict):
        return _words(content)
    kind = content.pop("type", "?")
    return " ".join([_words(kind), *(f"{_words(key)}={_words(value)}" for key, value in content.items())])


def _words(value: object) -> str:
    match value:
        case bytes():
            return f"<{len(value)} bytes>"
        case str():
            text = value if len(value) <= LONGEST_TEXT else value[: LONGEST_TEXT - 1] + "…"
            return repr(text) if not text or any(not c.isprintable() or c.isspace() for c in text) else text
        case float():
            return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.1f}"
        case dict():
            return "{" + " ".join(f"{_words(key)}={_words(inner)}" for key, inner in value.items()) + "}"
        case list():
            more = [f"… {len(value)} in all"] if len(value) > LONGEST_LIST else []
            return "[" + ", ".join([*map(_words, value[:LONGEST_LIST]), *more]) + "]"
        case _:
            return str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
