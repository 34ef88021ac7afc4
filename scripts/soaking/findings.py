"""What is to be run in a soak, and what came of it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bus.messages.placement import Sharding
from scripts.soaking.asking import Outcome
from scripts.soaking.errands import Errand
from scripts.soaking.holding import Held, Watch
from scripts.soaking.judging import problems
from scripts.soaking.sameness import Verdict

WARM_UP = 0.1
"""Of the time: so long traffic runs without a bound, and again before the baseline is looked at; a minute at
most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    seconds: float
    seed: int = 1
    users: int = 24
    ranks: int = 1
    """2: each on a node of its own."""
    sharding: Sharding = Sharding.PIPELINE
    """Of two ranks."""
    draft: bool = False
    """A small model guesses ahead; else guesses are looked up only."""
    again: int = 60
    """Greedy requests that are asked again, alone."""
    budget: float = 0.5
    """Of the KV cache that the same traffic takes where it has no bound, kept prefixes not counted."""
    kv_bytes: int | None = None
    """In place of that share: nothing is tried without a bound."""

    @property
    def warm_up_s(self) -> float:
        return min(60.0, WARM_UP * self.seconds)


@dataclass
class Findings:
    """What came of it."""

    wanted_bytes: int = 0
    budget_bytes: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and end."""
    formed: int = 0
    """Answers that were checked against their form."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    visits: int = 0
    """How often another model was placed on the same machine."""
    watch: Watch = field(default_factory=Watch)
    baseline: Held | None = None
    end: Held | None = None
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    put_off_again: int = 0
    """Requests that were asked again of those that had been put off."""
    wrong: list[str] = field(default_factory=list)
    """Each broken promise."""
    warnings: list[str] = field(default_factory=list)
    """Lines of the server's log."""

    def take(self, errand: Errand, seen: Outcome) -> None:
        """Note how a request ended."""
        self.ends[errand.kind, ending(seen)] += 1
        self.formed += len(seen.answers) if errand.form.ends and seen.is_whole else 0
        self.prompt_tokens += seen.prompt_tokens
        self.cached_tokens += seen.cached_tokens
        self.completion_tokens += seen.completion_tokens or 0
        self.wrong += [f"{errand.name} ({errand.kind}): {what}" for what in problems(errand, seen)]

    def untried(self) -> list[str]:
        """What did not happen, and should have: of that this soak says nothing."""
        return list(self._untried())

    def _untried(self) -> Iterator[str]:
        last = self.end.instance if self.end is not None else None
        if last is None or not last.preempted:
            yield "nobody was put off for want of memory"
        elif not self.put_off_again:
            yield "no answer that was put off was asked again, alone"
        if last is None or not last.accepted_tokens:
            yield "no guess was right"
        if not self.visits:
            yield "no other model came to the same machine"
        if not self.cached_tokens:
            yield "no prompt began with what was kept"
        if not self.watch.most_waiting:
            yield "nobody waited"


def ending(seen: Outcome) -> str:
    """How a request ended, in a word or two: pure."""
    if seen.overdue:
        return "overdue"
    if seen.left:
        return "left"
    if seen.broken:
        return "broken"
    return seen.code or "error" if seen.error else "answered"
