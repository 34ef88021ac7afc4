"""What all runs came to, as tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scripts.benchmark.stats import median, quantile
from scripts.benchmark.table import lines, number
from scripts.fault_runs.checker import Rule, Violation, check
from scripts.fault_runs.history import History
from scripts.fault_runs.measures import detections, pauses
from scripts.fault_runs.requests import requests_of
from scripts.fault_runs.scenarios import Scenario

PAUSE_TARGET_S = 3.0
HEAD = [
    "scenario",
    "runs",
    "passed",
    "violations",
    "refused",
    *["pause s", "p90", "max"],
    *["seen s", "p90", "max"],
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    number: int
    kind: str
    name: str
    violations: tuple[Violation, ...]
    pauses: tuple[float, ...]
    detections: tuple[float, ...]
    refused: int
    """Requests that were answered with an error instead of being accepted, by nodes that lived."""
    took_s: float


def judge(scenario: Scenario, history: History) -> Outcome:
    """The outcome of a run, from its history."""
    return Outcome(
        number=scenario.number,
        kind=scenario.kind,
        name=scenario.name,
        violations=tuple(check(history)),
        pauses=tuple(pauses(history)),
        detections=tuple(detections(history)),
        refused=sum(
            request.refused is not None and not request.lost_its_node for request in requests_of(history)
        ),
        took_s=history[-1].at_s if history else 0.0,
    )


def render(outcomes: Sequence[Outcome]) -> str:
    """A row for each kind of scenario and one for all; what was broken; how long streams paused."""
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.kind):
        by_kind.setdefault(outcome.kind, []).append(outcome)
    rows = [_row(kind, found) for kind, found in by_kind.items()]
    broken = Counter(violation.rule for outcome in outcomes for violation in outcome.violations)
    words = [
        *lines([HEAD, *rows, _row("all", outcomes)]),
        "",
        "Broken promises: "
        + (", ".join(f"{rule} {broken[rule]}" for rule in Rule if broken[rule]) or "none"),
        _verdict([pause for outcome in outcomes for pause in outcome.pauses]),
    ]
    return "\n".join(words)


def _row(kind: str, outcomes: Sequence[Outcome]) -> list[str]:
    return [
        kind,
        str(len(outcomes)),
        str(sum(not outcome.violations for outcome in outcomes)),
        str(sum(len(outcome.violations) for outcome in outcomes)),
        str(sum(outcome.refused for outcome in outcomes)),
        *_spread([pause for outcome in outcomes for pause in outcome.pauses]),
        *_spread([seen for outcome in outcomes for seen in outcome.detections]),
    ]


def _spread(values: Sequence[float]) -> list[str]:
    return [number(median(values)), number(quantile(values, 0.9)), number(max(values)) if values else ""]


def _verdict(paused: Sequence[float]) -> str:
    if not paused:
        return "No stream was both hit and carried on."
    met = "met" if median(paused) < PAUSE_TARGET_S else "missed"
    return (
        f"Pause of the {len(paused)} streams that were hit and carried on: median {number(median(paused))} s "
        f"(target: under {PAUSE_TARGET_S:g} s, {met})"
    )


def render_violations(violations: Iterable[Violation]) -> str:
    """A line each."""
    return "\n".join(f"    {found.at_s:6.2f} s  {found.rule}: {found.what}" for found in violations)
