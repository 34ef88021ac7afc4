"""How many tokens per second, how soon the first one, how even the rest: at 1, 8 and 32 streams."""

from collections.abc import Iterator
from dataclasses import dataclass

from scripts.benchmark.contenders import Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import LARGE, SMALL, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.stats import gaps, quantile
from scripts.benchmark.traffic import Seen

PROMPT_TOKENS = 64
DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many clients that ask at the same moment."""

    streams: int
    tokens: int
    temperature: float = 0.0

    def __str__(self) -> str:
        warm = f", temperature {self.temperature:g}" if self.temperature else ""
        return f"{self.streams} stream{'s' if self.streams > 1 else ''}{warm}"


LOADS = (Load(1, 384), Load(8, 192), Load(8, 192, temperature=0.7), Load(32, 96))


def run(rig: Rig) -> Iterator[Section]:
    """A section per model."""
    shapes = [SMALL] if rig.quick else [SMALL, LARGE]
    for shape in shapes:
        yield _on(rig, shape)


def _on(rig: Rig, shape: Shape) -> Section:
    # Without a fast BLAS the larger model takes minutes per round: nobody would run it so.
    peers = rig.peers if shape is SMALL else rig.peers[:1]
    measures: list[Measure] = []
    with rig.serving([Ours(), *peers], shape) as servers:
        for load in LOADS:
            measures += _measure(rig, shape, load, servers)
    names = [server.contender for server in servers]
    title = f"Throughput: {shape.name}, prompts of {PROMPT_TOKENS} tokens"
    return Section(title, names[0], tuple(names[1:]), tuple(measures))


def _measure(rig: Rig, shape: Shape, load: Load, servers: list[Server]) -> list[Measure]:
    measures = _Measures(load)
    for number in range(rig.rounds(9)):
        # The slow one is there to be seen, not to be compared with closely.
        for server in servers[: 3 if number == 0 else 2]:
            rig.say(f"throughput, {shape.name}, {load}, round {number + 1}: {server.contender}")
            wishes = [
                rig.wish(server, shape, PROMPT_TOKENS, load.tokens, temperature=load.temperature)
                for _ in range(load.streams)
            ]
            measures.add(server.contender, rig.run(server, wishes, DEADLINE_S).seen)
    return measures.all


class _Measures:
    def __init__(self, load: Load) -> None:
        better = Target(Aim.RATIO_AT_LEAST, 1.0)
        no_worse = Target(Aim.RATIO_AT_MOST, 1.0)
        self.rate = Measure(f"{load}: output", "tokens/s", target=better)
        self.ttft_p50 = Measure(f"{load}: TTFT p50", "ms", target=no_worse)
        self.ttft_p95 = Measure(f"{load}: TTFT p95", "ms", target=no_worse)
        self.itl_p50 = Measure(f"{load}: ITL p50", "ms")
        self.itl_p99 = Measure(f"{load}: ITL p99", "ms")

    @property
    def all(self) -> list[Measure]:
        return [self.rate, self.ttft_p50, self.ttft_p95, self.itl_p50, self.itl_p99]

    def add(self, contender: str, seen: tuple[Seen, ...]) -> None:
        firsts = [1000 * one.first_token_s for one in seen]
        between = [1000 * gap for one in seen for gap in gaps(one.token_s)]
        self.rate.add(contender, output_rate(seen))
        self.ttft_p50.add(contender, quantile(firsts, 0.5))
        self.ttft_p95.add(contender, quantile(firsts, 0.95))
        self.itl_p50.add(contender, quantile(between, 0.5))
        self.itl_p99.add(contender, quantile(between, 0.99))


def output_rate(seen: tuple[Seen, ...]) -> float:
    """Tokens per second of all answers together, from the first request to the last answer's end."""
    took_s = max(one.ended_s for one in seen) - min(one.sent_s for one in seen)
    return sum(one.completion_tokens for one in seen) / took_s
