"""What was measured, what was promised, and whether the promise is kept."""

from dataclasses import dataclass, field
from enum import Enum

from scripts.benchmark.stats import median, ratios


class Aim(Enum):
    """What a promise is about, and in which direction."""

    RATIO_AT_LEAST = "≥ {}x"
    RATIO_AT_MOST = "≤ {}x"
    AT_MOST = "≤ {}"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: about our figure as a ratio to the peer's, or by itself."""

    aim: Aim
    bound: float

    def __str__(self) -> str:
        return self.aim.value.format(f"{self.bound:g}")


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity, of each contender, in each round."""

    name: str
    unit: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Of a contender: one per round; the same place in two lists is the same round."""
    target: Target | None = None

    def add(self, contender: str, figure: float) -> None:
        self.figures.setdefault(contender, []).append(figure)

    def figure(self, contender: str) -> float:
        """The median of its rounds; nan if it has none."""
        return median(self.figures.get(contender, []))

    def ratios(self, ours: str, theirs: str) -> list[float]:
        return ratios(self.figures.get(ours, []), self.figures.get(theirs, []))

    def is_met(self, ours: str, peer: str) -> bool | None:
        """Whether the promise is kept; None: there is none, or nothing to judge by."""
        if self.target is None:
            return None
        about_ratio = self.target.aim is not Aim.AT_MOST
        figure = median(self.ratios(ours, peer)) if about_ratio else self.figure(ours)
        if figure != figure:
            return None
        match self.target.aim:
            case Aim.RATIO_AT_LEAST:
                return figure >= self.target.bound
            case Aim.RATIO_AT_MOST | Aim.AT_MOST:
                return figure <= self.target.bound


@dataclass(frozen=True, slots=True)
class Section:
    """The measures of a scenario on a model."""

    title: str
    ours: str
    peers: tuple[str, ...]
    """The first is the one to compare with."""
    measures: tuple[Measure, ...]
    remarks: tuple[str, ...] = ()
