"""How many requests per second are answered as they should be, when all lengths come as they like."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import msgspec

from scripts.benchmark.contenders import Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import SMALL, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.stats import gaps, quantile
from scripts.benchmark.traffic import Seen, Wish

SEED = 1
PATIENCE_S = 12.0
"""Who has no answer by then leaves, so that one rate's crowd is gone before the next one's comes."""
DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of a sort: how many of a hundred, and how long they are."""

    percent: int
    prompt: tuple[int, int]
    answer: tuple[int, int]


KINDS = (
    Kind(70, (50, 200), (16, 64)),
    Kind(20, (500, 1000), (32, 96)),
    Kind(10, (2000, 4000), (32, 96)),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer was good."""

    ttft_s: float
    itl_p99_s: float

    def __str__(self) -> str:
        return f"TTFT ≤ {self.ttft_s:g} s and 99 % of its gaps ≤ {1000 * self.itl_p99_s:g} ms"

    def are_met(self, seen: Seen) -> bool:
        """Whether an answer came to its end, soon enough and evenly enough."""
        if seen.hung_up or seen.error or not seen.token_s:
            return False
        between = gaps(seen.token_s)
        return seen.first_token_s <= self.ttft_s and not quantile(between, 0.99) > self.itl_p99_s


LIMITS = Limits(ttft_s=2.0, itl_p99_s=0.15)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, and when it comes after the first."""

    at_s: float
    prompt: int
    answer: int


def arrivals(seed: int, rate: float, seconds: float) -> list[Arrival]:
    """A Poisson process of requests of all kinds: pure, the same for all who are measured."""
    random = Random(f"{seed}/{rate:g}")
    found: list[Arrival] = []
    at_s = 0.0
    while True:
        at_s += random.expovariate(rate)
        if at_s >= seconds:
            return found
        (kind,) = random.choices(KINDS, [kind.percent for kind in KINDS])
        found.append(Arrival(at_s, random.randint(*kind.prompt), random.randint(*kind.answer)))


def run(rig: Rig) -> list[Section]:
    """One section, some rows per rate."""
    rates, seconds, rounds = ((1.0, 3.0), 12.0, 1) if rig.quick else ((0.5, 1.0, 2.0, 4.0), 40.0, 3)
    measures: list[Measure] = []
    with rig.serving([Ours(), *rig.peers[:1]], SMALL) as servers:
        for rate in rates:
            at_rate = _Measures(rate, LIMITS)
            for number in range(rounds):
                coming = arrivals(SEED + number, rate, seconds)
                for server in servers:
                    rig.say(f"goodput, {SMALL.name}, {rate:g}/s, round {number + 1}: {server.contender}")
                    seen = rig.run(server, _wishes(rig, SMALL, server, coming), DEADLINE_S).seen
                    at_rate.add(server.contender, seen, seconds)
            measures += at_rate.all
    names = [server.contender for server in servers]
    title = f"Goodput: {SMALL.name}, {LIMITS}, arrivals for {seconds:g} s"
    return [Section(title, names[0], tuple(names[1:]), tuple(measures), (_mix(),))]


def _mix() -> str:
    kinds = (
        f"{kind.percent} % of {kind.prompt[0]} to {kind.prompt[1]} tokens, answered with {kind.answer[0]} to "
        f"{kind.answer[1]}"
        for kind in KINDS
    )
    return f"Prompts: {'; '.join(kinds)}. Who has no whole answer after {PATIENCE_S:g} s leaves."


def _wishes(rig: Rig, shape: Shape, server: Server, coming: Sequence[Arrival]) -> list[Wish]:
    return [
        msgspec.structs.replace(
            rig.wish(server, shape, each.prompt, each.answer, delay_s=each.at_s), hang_up_after_s=PATIENCE_S
        )
        for each in coming
    ]


class _Measures:
    def __init__(self, rate: float, limits: Limits) -> None:
        self._limits = limits
        head = f"{rate:g} requests/s"
        self.good = Measure(f"{head}: goodput", "requests/s", target=Target(Aim.RATIO_AT_LEAST, 1.0))
        self.share = Measure(f"{head}: within the limits", "%")
        self.ttft_p50 = Measure(f"{head}: TTFT p50", "ms")
        self.ttft_p95 = Measure(f"{head}: TTFT p95", "ms")
        self.itl_p99 = Measure(f"{head}: ITL p99", "ms")
        self.left = Measure(f"{head}: left without an answer", "%")

    @property
    def all(self) -> list[Measure]:
        return [self.good, self.share, self.ttft_p50, self.ttft_p95, self.itl_p99, self.left]

    def add(self, contender: str, seen: Sequence[Seen], seconds: float) -> None:
        good = sum(self._limits.are_met(one) for one in seen)
        # Who never got a first token waited for as long as it had patience, at least.
        firsts = [1000 * (one.first_token_s if one.token_s else PATIENCE_S) for one in seen]
        between = [1000 * gap for one in seen for gap in gaps(one.token_s)]
        self.good.add(contender, good / seconds)
        self.share.add(contender, 100 * good / len(seen))
        self.ttft_p50.add(contender, quantile(firsts, 0.5))
        self.ttft_p95.add(contender, quantile(firsts, 0.95))
        self.itl_p99.add(contender, quantile(between, 0.99))
        self.left.add(contender, 100 * sum(one.hung_up for one in seen) / len(seen))
