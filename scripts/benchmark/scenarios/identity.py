"""Whether answers are those of a bare greedy loop, however the prompts were sliced and batched."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from scripts.benchmark.bare import Order, ask
from scripts.benchmark.contenders import Contender, Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import SMALL, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.traffic import Seen, Wish

MAX_TOKENS = 64
PACES_MS = (5.0, 60.0, 500.0)
"""From the smallest slices beside a running stream to whole prompts."""
SLICES = (17, 256, 2048)
"""Of the bare loop."""
DEADLINE_S = 300.0
OURS = Ours().name


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
    ours: list[Contender] = [Ours(pace, f"--pace {pace:g}") for pace in PACES_MS]
    counts: Counter[tuple[Case, str]] = Counter()
    rounds = rig.rounds(4)
    with rig.serving([*ours, *rig.peers[:1]], SMALL) as servers:
        for number in range(rounds):
            for case in CASES:
                rig.say(f"identity, {SMALL.name}, {case}, round {number + 1}")
                _compare(rig, SMALL, case, servers, counts)
    peers = tuple(peer.name for peer in rig.peers[:1])
    measures = [_measure(case, contender.name, peers, counts, rounds) for contender in ours for case in CASES]
    remark = f"Answers of {MAX_TOKENS} tokens at temperature 0 that are not the same text as the bare loop's."
    return [Section(f"Identity: {SMALL.name}", OURS, peers, (*measures, _bare_itself(rig, SMALL)), (remark,))]


def _measure(
    case: Case, contender: str, peers: Sequence[str], counts: Counter[tuple[Case, str]], rounds: int
) -> Measure:
    measure = Measure(
        f"{contender}: {case}", f"differ of {rounds * len(case.lengths)}", target=Target(Aim.AT_MOST, 0.0)
    )
    measure.add(OURS, counts[case, contender])
    for peer in peers:
        measure.add(peer, counts[case, peer])
    return measure


def _bare_itself(rig: Rig, shape: Shape) -> Measure:
    """What slices alone change, without any server."""
    prompts = [rig.prompt(shape, length) for length in (100, 1000, 4000)]
    whole, *sliced = (_bare(rig, shape, prompts, size) for size in reversed(SLICES))
    sizes = ", ".join(map(str, SLICES[:-1]))
    measure = Measure(f"bare loop in slices of {sizes}", f"differ of {len(sliced) * len(prompts)}")
    measure.add(OURS, sum(_unlike(whole, texts) for texts in sliced))
    return measure


def _compare(
    rig: Rig, shape: Shape, case: Case, servers: Sequence[Server], counts: Counter[tuple[Case, str]]
) -> None:
    prompts = [rig.prompt(shape, length) for length in case.lengths]
    expected = _bare(rig, shape, prompts, SLICES[-1])
    for server in servers:
        texts = [one.text for one in _ask(rig, shape, case, server, prompts)]
        counts[case, server.contender] += _unlike(expected, texts)


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
    return msgspec.json.decode(ask(order), type=list[str])


def _unlike(expected: Sequence[str], got: Sequence[str]) -> int:
    """How many differ; a blank at the start, which mlx_lm.server leaves out, is no token."""
    return sum(one.strip() != other.strip() for one, other in zip(expected, got, strict=True))
