"""How messages travel over ROUTER and DEALER: commands that are answered, and notices that are not."""

from typing import TypeAlias

from bus.messages.base import Message
from bus.messages.engine import FromEngine, ToEngine
from bus.messages.facts import Since, Snapshot, Updates
from bus.messages.generation import Refusal
from bus.messages.peers import BetweenNodes
from bus.messages.placement import Created, ToCoordinator

Body: TypeAlias = ToEngine | FromEngine | Since | Updates | Snapshot | BetweenNodes | ToCoordinator | Created


class Command(Message, frozen=True):
    """Do this, and say so; the sender stops waiting after `timeout_s`."""

    number: int
    timeout_s: float
    body: Body


class Reply(Message, frozen=True):
    """A command was taken, perhaps with something to say, or refused with a reason."""

    number: int
    refusal: Refusal | None = None
    body: Body | None = None


class Notice(Message, frozen=True):
    """For your information: no answer is expected."""

    body: Body


class Passed(Message, frozen=True):
    """A command, reply or notice went by; published for who watches the bus, without what it says."""

    peer: str
    outgoing: bool
    kind: str
    size_bytes: int


Envelope: TypeAlias = Command | Reply | Notice
