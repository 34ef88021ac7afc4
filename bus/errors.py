"""What can go wrong between two ends of the bus, by what the caller can do about it."""

from bus.messages.generation import Refusal


class BusError(Exception):
    """Any failure of the bus; each kind below calls for something else."""


class Refused(BusError):
    """The peer took the command and said no: its refusal tells why and what to do."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class PeerGone(BusError):
    """There is no such peer (any more): start it again, or go to another one."""


class QueueFull(BusError):
    """More is under way to this peer than may be: it is slow or stuck; try again later or elsewhere."""


class CommandTimeout(BusError, TimeoutError):
    """No answer within the deadline; the peer may still act on it, so cancel what was asked for."""


class TooLarge(BusError, ValueError):
    """The message is larger than the bus carries; a smaller one will go."""
