"""How much was said and heard, and when last: what idle traffic is measured by, and silence noticed."""

import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages of the bus with one node, and their bytes without what ZeroMQ, CURVE and TCP add."""

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0

    def __add__(self, other: Self) -> "Traffic":
        return Traffic(
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.messages_in + other.messages_in,
            self.messages_out + other.messages_out,
        )

    def __sub__(self, other: Self) -> "Traffic":
        return Traffic(
            self.bytes_in - other.bytes_in,
            self.bytes_out - other.bytes_out,
            self.messages_in - other.messages_in,
            self.messages_out - other.messages_out,
        )


class Meter:
    """Counts the traffic of one end of something."""

    def __init__(self) -> None:
        self._bytes_in = self._bytes_out = self._messages_in = self._messages_out = 0
        self.heard_at = float("-inf")
        """When something came in last, in seconds of the monotonic clock."""

    def heard(self, size_bytes: int) -> None:
        self._bytes_in += size_bytes
        self._messages_in += 1
        self.heard_at = time.monotonic()

    def said(self, size_bytes: int) -> None:
        self._bytes_out += size_bytes
        self._messages_out += 1

    def read(self) -> Traffic:
        return Traffic(self._bytes_in, self._bytes_out, self._messages_in, self._messages_out)
