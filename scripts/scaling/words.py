"""What the measuring process and those that hold light nodes tell each other: a JSON object per line."""

from typing import TypeAlias

import msgspec


class Word(msgspec.Struct, frozen=True, tag=True):
    """Anything that is said on these pipes."""


class Open(Word, frozen=True):
    """Start these nodes at once; answered by Opened."""

    nodes: tuple[int, ...]
    peers: tuple[str, ...]


class Mark(Word, frozen=True):
    """Have one node publish a fact that all others are to report."""

    node: int
    mark: int


class Measure(Word, frozen=True):
    """Say what has passed so far; answered by Measured."""


class Opened(Word, frozen=True):
    """These nodes can be called, at HOST:PORT each."""

    addresses: dict[int, str]


class Saw(Word, frozen=True):
    """What a node sees of the cluster has changed."""

    node: int
    at: float
    """In seconds of the monotonic clock, which the processes of a machine share."""
    members: int = 0
    """Others that are members for it."""
    nodes: int = 0
    """Nodes whose facts it holds, itself too."""
    models: int = 0
    coordinators: tuple[str, ...] = ()
    """Ids of those that say that they are."""


class Heard(Word, frozen=True):
    """A mark came to a node."""

    node: int
    mark: int
    after_s: float


class Passed(msgspec.Struct, frozen=True):
    """Traffic of a node with all others, since it met each."""

    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int


class Measured(Word, frozen=True):
    """What has passed so far."""

    at: float
    cpu_s: float
    """Of the whole process."""
    passed: dict[int, Passed]


Order: TypeAlias = Open | Mark | Measure
Report: TypeAlias = Opened | Saw | Heard | Measured
