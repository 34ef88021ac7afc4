"""What a check of this machine finds, and how it is told."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from exo_actors.settings import Settings


class Verdict(StrEnum):
    """How a check came out; only `fail` keeps the node from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, how it is, and what to do about it."""

    verdict: Verdict
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<4}  {self.what}" + (f"  ->  {self.advice}" if self.advice else "")


Check = Callable[[Settings], Iterator[Finding]]
