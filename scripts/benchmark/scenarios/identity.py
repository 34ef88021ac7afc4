"""Whether answers are those of a bare greedy loop, however the prompts were sliced and batched."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from scripts.benchmark.bare import Order
from scripts.benchmark.contenders import ROOT, Contender, Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import SMALL, Shape
from scripts.benchmark.process import ProcessDied
from scripts.benchmark.rig import Rig
from scripts.benchmark.traffic import Seen, Wish

MAX_TOKENS = 64
PACES_MS = (5.0, 60.0, 500.0)
"""From the smallest slices beside a running stream to whole prompts."""
SLICES = (17, 256, 2048)
"""Of the bare loop."""
DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """Prompts of these lengths at once, beside a stream that runs or not."""

    lengths: tuple[int, ...]
    beside: bool

    def __str__(self) -> str:
        prompts = " + ".join(f"{length}" for length in sorted(set(self.lengths)))
        count = f"{len(self.lengths)} prompts" if len(self.lengths) > 1 else "a prompt"
        return f"{count} of {prompts} tokens{' beside a stream' if self.beside else ''}"


CASES = (
    Case((1000,), False),
    Case((4000,), False),
    Case((100,), True),
    Case((1000,), True),
    Case((4000,), True),
    Case((50, 100, 300, 700) * 2, False),
    Case((50, 100, 300, 700) * 2, True),
)


def run(rig: Rig) -> list[Section]:
    """One section: how many answers differ from the bare loop's, of all rounds."""
    contenders: list[Contender] = [*(Ours(pace) for pace in PACES_MS), *rig.peers[:1]]
    measures = [Measure(str(case), "differ", target=Target(Aim.AT_MOST, 0.0)) for case in CASES]
    bare = Measure(f"bare loop, slices of {SLICES[:-1]} against {SLICES[-1]}", "differ")
    with rig.serving(contenders, SMALL) as servers:
        for _ in range(rig.rounds(3)):
            for case, measure in zip(CASES, measures, strict=True):
                rig.say(f"identity, {SMALL.name}, {case}")
                _compare(rig, SMALL, case, measure, servers)
    prompts = [rig.prompt(SMALL, length) for length in (100, 1000, 4000)]
    whole = _bare(rig, SMALL, prompts, SLICES[-1])
    bare.add(
        contenders[0].name, sum(_unlike(whole, _bare(rig, SMALL, prompts, size)) for size in SLICES[:-1])
    )
    names = [server.contender for server in servers]
    remark = f"Answers of {MAX_TOKENS} tokens at temperature 0 that are not the same text as the bare loop's."
    title = f"Identity: {SMALL.name}"
    return [Section(title, names[0], tuple(names[1:]), (*measures, bare), (remark,))]


def _compare(rig: Rig, shape: Shape, case: Case, measure: Measure, servers: Sequence[Server]) -> None:
    prompts = [rig.prompt(shape, length) for length in case.lengths]
    expected = _bare(rig, shape, prompts, SLICES[-1])
    for server in servers:
        texts = [one.text for one in _ask(rig, shape, case, server, prompts)]
        measure.add(server.contender, _unlike(expected, texts))


def _ask(rig: Rig, shape: Shape, case: Case, server: Server, prompts: Sequence[str]) -> Sequence[Seen]:
    """What the clients got for the prompts; the stream beside them is left out."""
    running = [rig.wish(server, shape, 32, 12000, background=True)] if case.beside else []
    wishes: list[Wish] = []
    for prompt in prompts:
        wish = rig.wish(server, shape, 2, MAX_TOKENS, delay_s=0.3 if case.beside else 0.0)
        body = msgspec.structs.replace(wish.body, prompt=prompt)
        wishes.append(msgspec.structs.replace(wish, body=body))
    return rig.run(server, [*running, *wishes], DEADLINE_S).seen[len(running) :]


def _bare(rig: Rig, shape: Shape, prompts: Sequence[str], slice_tokens: int) -> list[str]:
    order = Order(str(rig.model(shape)), tuple(prompts), MAX_TOKENS, slice_tokens)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark.bare"],
        input=msgspec.json.encode(order),
        cwd=ROOT,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode:
        raise ProcessDied(f"the bare loop failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return msgspec.json.decode(done.stdout, type=list[str])


def _unlike(expected: Sequence[str], got: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(expected, got, strict=True))
