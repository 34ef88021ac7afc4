"""Sections as Markdown tables, which read well on a terminal too."""

from collections.abc import Sequence

from scripts.benchmark.measures import Measure, Section
from scripts.benchmark.stats import median

MET = {True: "yes", False: "NO", None: ""}


def render(section: Section) -> str:
    """A section's title, its table and its remarks."""
    peer = section.peers[0] if section.peers else ""
    head = ["", "unit", section.ours, "range", *section.peers, "ratio", "range", "target", "met"]
    rows = [_row(measure, section, peer) for measure in section.measures]
    body = lines([head, *rows])
    return "\n".join([f"### {section.title}", "", *body, *("\n" + remark for remark in section.remarks), ""])


def _row(measure: Measure, section: Section, peer: str) -> list[str]:
    found = measure.ratios(section.ours, peer)
    return [
        measure.name,
        measure.unit,
        number(measure.figure(section.ours)),
        span(measure.figures.get(section.ours, [])),
        *(number(measure.figure(name)) for name in section.peers),
        f"{number(median(found))}x" if found else "",
        span(found),
        str(measure.target or ""),
        MET[measure.is_met(section.ours, peer)],
    ]


def span(values: Sequence[float]) -> str:
    """From the lowest round to the highest; empty for a single one."""
    return f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""


def number(value: float) -> str:
    """Three digits that count; empty for what was not measured."""
    if value != value:
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a Markdown table, the first of which is its head, with columns of even width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = (_line(row, widths) for row in rows)
    return [head, _line(["-" * width for width in widths], widths), *body]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
