"""What every message on the bus is: a frozen, tagged struct that travels as a MessagePack map.

Map form and a default for every field that is added later let versions mix: a reader ignores fields
that it does not know and fills in those that an older writer leaves out.
"""

from typing import NewType

import msgspec

NodeId = NewType("NodeId", str)
"""A machine's own name for itself, made once and kept across restarts."""

ModelId = NewType("ModelId", str)
"""What a client writes in `model`: the folder's path below its models directory, or a built-in's name."""

InstanceId = NewType("InstanceId", str)
"""One placed model; it keeps its id through every epoch."""

RequestId = NewType("RequestId", str)
"""One API request, as the client sees it: `chatcmpl-…` or `cmpl-…`."""

SequenceId = NewType("SequenceId", str)
"""One sequence of tokens being generated: a request has `n` times the number of its prompts of them."""


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a message: frozen and compared by value, but never sent alone."""


class Message(Value, frozen=True, tag=True, tag_field="type", omit_defaults=True):
    """Anything that may be sent alone. Its `type` on the wire is its class's name."""
