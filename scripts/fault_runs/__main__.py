"""The command line of the fault runs.

scripts/faults                        200 runs with seed 1; takes about an hour
scripts/faults --runs 8               a look
scripts/faults --seed 7 --only 17     run 17 of seed 7 again
scripts/faults --only kill-engine     all of the 200 whose kind begins with that
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Never

from scripts.fault_runs import history
from scripts.fault_runs.bench import Bench, Terms
from scripts.fault_runs.checker import Rule, Violation
from scripts.fault_runs.cluster import ClusterBroken
from scripts.fault_runs.network import why_no_namespaces
from scripts.fault_runs.scenarios import Scenario, in_order, kinds, scenario
from scripts.fault_runs.summary import Outcome, judge, render, render_violations
from scripts.make_model import make_model

MODEL = "faults-llama"
LOG_BYTES = 1 << 20
"""How much of a node's log is kept of a run that failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the runs asked for; 0: no promise was broken, 1: some were, or it failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)  # so that a `kill` takes the nodes down, too
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    no_cuts = why_no_namespaces()
    if no_cuts:
        print(f"Without cut links: {no_cuts}.")
    chosen = choose(options.seed, options.runs, options.only, not no_cuts)
    if not chosen:
        parser.error(f"--only {options.only}: no such run; kinds are {', '.join(kinds(not no_cuts))}")
    folder = Path(tempfile.mkdtemp(prefix="exo-faults-"))
    outcomes: list[Outcome] = []
    try:
        asyncio.run(_all(chosen, options.seed, folder, options.keep, outcomes))
    except (KeyboardInterrupt, SystemExit):
        print(f"\nStopped after {len(outcomes)} of {len(chosen)} runs.")
    except ClusterBroken as broken:
        print(f"No cluster could be had: {broken}\nSee {folder}.", file=sys.stderr)
        return 1
    print("\n" + render(outcomes))
    failed = [outcome for outcome in outcomes if outcome.violations]
    for outcome in failed:
        print(f"Again: {_again(options.seed, outcome.number)}  ({outcome.name})")
    if failed or options.keep:
        print(f"Histories: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed else 0


def choose(seed: int, runs: int, only: str | None, namespaces: bool) -> list[Scenario]:
    """Which runs to do, in the order that needs the fewest clusters."""
    if only is not None and only.isdecimal():
        return [scenario(seed, int(only), namespaces)]
    drawn = (scenario(seed, number, namespaces) for number in range(runs))
    return in_order(run for run in drawn if only is None or run.kind.startswith(only))


async def _all(
    chosen: Sequence[Scenario], seed: int, folder: Path, keep: bool, outcomes: list[Outcome]
) -> None:
    models = folder / "models"
    make_model("llama", models / MODEL, seed=seed, layers=6, hidden=128, context=4096)
    bench = Bench(Terms(seed, folder, models, MODEL))
    try:
        for count, run in enumerate(chosen, 1):
            print(f"{count}/{len(chosen)}  run {run.number}: {run.name}", flush=True)
            outcome = await _one(bench, run)
            if outcomes and outcome.took_s == outcomes[-1].took_s == 0.0:
                raise ClusterBroken(outcome.violations[0].what)
            outcomes.append(outcome)
            print(_words(outcome), flush=True)
            if outcome.violations or keep:
                _keep(bench, folder / f"run-{run.number}")
    finally:
        await bench.close()


async def _one(bench: Bench, run: Scenario) -> Outcome:
    try:
        return judge(run, await bench.run(run))
    except ClusterBroken as broken:
        found = Violation(Rule.CONVERGED, f"no cluster could be had for this run: {broken}", 0.0)
        return Outcome(run.number, run.kind, run.name, (found,), (), (), 0, 0.0)


def _words(outcome: Outcome) -> str:
    if not outcome.violations:
        longest = f", longest pause {max(outcome.pauses):.1f} s" if outcome.pauses else ""
        return f"    held, {outcome.took_s:.1f} s{longest}"
    return f"    BROKEN, {outcome.took_s:.1f} s\n{render_violations(outcome.violations)}"


def _keep(bench: Bench, folder: Path) -> None:
    """The history, and the ends of the nodes' logs."""
    folder.mkdir(exist_ok=True)
    history.write(bench.recorder.events, folder / "history.jsonl")
    for log in bench.logs:
        if log.exists():
            (folder / f"{log.parent.name}.log").write_bytes(log.read_bytes()[-LOG_BYTES:])


def _again(seed: int, number: int) -> str:
    return f"scripts/faults --seed {seed} --only {number} --keep"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="how many (200)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what the runs are drawn from (1)")
    parser.add_argument("--only", metavar="NAME", help="a run's number, or how its kind begins")
    parser.add_argument("--keep", action="store_true", help="keep the histories of runs that held, too")
    return parser


def _stop(number: int, frame: object) -> Never:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
