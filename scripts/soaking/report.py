"""What a soak found, for a person to read: pure."""

from collections.abc import Iterator

from scripts.benchmark.table import lines
from scripts.soaking.findings import Findings, Plan

SHOWN = 40
MB = 1e6


def render(plan: Plan, found: Findings) -> str:
    """The report."""
    return "\n".join(_parts(plan, found))


def _parts(plan: Plan, found: Findings) -> Iterator[str]:
    yield (
        f"{plan.seconds / 60:g} minutes, seed {plan.seed}, {plan.users} users, {_ranks(plan)}, "
        f"guesses {'of a draft model' if plan.draft else 'looked up'}: {sum(found.ends.values())} requests"
    )
    yield (
        f"KV cache: the traffic took {found.wanted_bytes / MB:.1f} MB without a bound, beside kept prefixes, "
        f"and has {found.budget_bytes / MB:.1f} MB with them; {found.watch.most_kv / MB:.1f} MB were its most"
    )
    yield (
        f"another model came {found.visits} times: of its first rank's KV cache between "
        f"{found.watch.least_limit / MB:.1f} and {found.watch.most_limit / MB:.1f} MB were left"
    )
    yield (
        f"{found.completion_tokens} tokens were generated, {found.prompt_tokens} prompted, of which "
        f"{found.cached_tokens} came from kept prefixes ({_share(found):.0%}); {found.formed} answers were "
        "held to a form\n"
    )
    yield from lines([["requests", *(end for end in _ends(found)), "all"], *_rows(found)])
    yield ""
    yield from _memory(found)
    yield (
        "asked again, alone: "
        + (", ".join(f"{count} {verdict.value}" for verdict, count in found.verdicts.items()) or "none")
        + f"; {found.put_off_again} of them had been put off"
    )
    yield ""
    yield f"{len(found.wrong)} broken promises" if found.wrong else "Every promise was kept."
    yield from found.wrong[:SHOWN]
    if len(found.wrong) > SHOWN:
        yield f"... and {len(found.wrong) - SHOWN} more"
    yield from (f"Not tried: {what}." for what in found.untried())
    if found.warnings:
        yield "\nWhat the server warned of:"
        yield from found.warnings[-SHOWN:]


def _ranks(plan: Plan) -> str:
    return "one rank" if plan.ranks == 1 else f"{plan.ranks} ranks ({plan.sharding.value})"


def _share(found: Findings) -> float:
    return found.cached_tokens / found.prompt_tokens if found.prompt_tokens else 0.0


def _ends(found: Findings) -> list[str]:
    return sorted({end for _, end in found.ends})


def _rows(found: Findings) -> Iterator[list[str]]:
    for kind in sorted({kind for kind, _ in found.ends}):
        counts = [found.ends[kind, end] for end in _ends(found)]
        yield [kind, *(str(count or "") for count in counts), str(sum(counts))]


def _memory(found: Findings) -> Iterator[str]:
    if found.baseline is None or found.end is None:
        return
    for name, held in (("baseline", found.baseline), ("end", found.end)):
        instance = held.instance
        yield (
            f"{name}: KV cache {instance.kv_bytes / MB:.1f} MB, of which kept prefixes "
            f"{instance.prefix_bytes / MB:.1f} MB; MLX beside it {instance.other_bytes / MB:.1f} MB, freed "
            f"{instance.cached_bytes / MB:.1f} MB; processes {held.rss_bytes / MB:.0f} MB"
        )
    last = found.end.instance
    yield (
        f"{last.preempted} sequences were put off, {found.watch.most_waiting} waited at most; "
        f"{last.accepted_tokens} of {last.drafted_tokens} guesses were right; processes took "
        f"{found.watch.most_rss / MB:.0f} MB at most"
    )
