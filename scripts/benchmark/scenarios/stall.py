"""What a running stream notes of a long prompt that arrives, and how long that prompt waits."""

from collections.abc import Iterator
from dataclasses import dataclass

from scripts.benchmark.contenders import Contender, Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import SMALL, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.stats import gaps, gaps_within, quantile
from scripts.benchmark.traffic import Seen

PROMPT_TOKENS = 4000
ALONE_S = 3.0
SETTLED_S = 0.5
"""The stream's first moments do not count."""
RUNNING_TOKENS = 12000
FLOOR_S = 0.1
"""A gap that is shorter than this is never too long."""
DEADLINE_S = 300.0
PACES_MS = [20.0, 40.0, 100.0, 200.0]


@dataclass(frozen=True, slots=True)
class Stall:
    """A stream, alone and while another prompt was prefilled. Seconds."""

    alone: list[float]
    during: list[float]
    long_ttft: float

    @property
    def worst(self) -> float:
        return max(self.during, default=0.0)

    @property
    def p99(self) -> float:
        return quantile(self.alone, 0.99)

    @property
    def allowed(self) -> float:
        return max(2 * self.p99, FLOOR_S)


def observe(running: Seen, long: Seen) -> Stall:
    """The running stream's gaps before the long prompt was sent, and from then to that one's first token."""
    began = running.token_s[0] + SETTLED_S
    alone = gaps([at_s for at_s in running.token_s if began <= at_s <= long.sent_s])
    during = gaps_within(running.token_s, long.sent_s, long.token_s[0])
    return Stall(alone, during, long.first_token_s)


def run(rig: Rig) -> Iterator[Section]:
    """One section against the peers, one over our own settings."""
    yield _section(rig, SMALL, [Ours(), *rig.peers], 7, "the default pace")
    for pace in [] if rig.quick else PACES_MS:
        yield _section(rig, SMALL, [Ours(pace), *rig.peers[:1]], 4, f"--pace {pace:g}")


def _section(rig: Rig, shape: Shape, contenders: list[Contender], rounds: int, setting: str) -> Section:
    measures = _Measures()
    with rig.serving(contenders, shape) as servers:
        for number in range(rig.rounds(rounds)):
            # The slow one is there to be seen, not to be compared with closely.
            for server in servers[: 3 if number == 0 else 2]:
                rig.say(f"stall, {shape.name}, {setting}, round {number + 1}: {server.contender}")
                measures.add(server.contender, _once(rig, shape, server))
    names = [server.contender for server in servers]
    title = f"Stall: {shape.name}, a prompt of {PROMPT_TOKENS} tokens beside a stream, {setting}"
    return Section(title, names[0], tuple(names[1:]), tuple(measures.all))


def _once(rig: Rig, shape: Shape, server: Server) -> Stall:
    wishes = [
        rig.wish(server, shape, 32, RUNNING_TOKENS, background=True),
        rig.wish(server, shape, PROMPT_TOKENS, 8, delay_s=SETTLED_S + ALONE_S),
    ]
    running, long = rig.run(server, wishes, DEADLINE_S).seen
    if not running.hung_up:
        raise RuntimeError("the running stream ended before the long prompt was answered")
    return observe(running, long)


class _Measures:
    def __init__(self) -> None:
        self.p50 = Measure("alone: ITL p50", "ms")
        self.p99 = Measure("alone: ITL p99", "ms")
        self.most = Measure("alone: worst gap", "ms")
        self.during_p50 = Measure("beside the long prompt: ITL p50", "ms")
        self.during_p90 = Measure("beside the long prompt: ITL p90", "ms")
        self.worst = Measure("beside the long prompt: worst gap", "ms")
        self.times = Measure("worst gap ÷ p99 alone", "times")
        self.share = Measure(
            f"worst gap ÷ allowed (twice the p99 alone, {1000 * FLOOR_S:g} ms at least)",
            "times",
            target=Target(Aim.AT_MOST, 1.0),
        )
        self.ttft = Measure("the long prompt's TTFT", "ms", target=Target(Aim.RATIO_AT_MOST, 1.5))

    @property
    def all(self) -> list[Measure]:
        alone = [self.p50, self.p99, self.most]
        during = [self.during_p50, self.during_p90, self.worst, self.times, self.share]
        return [*alone, *during, self.ttft]

    def add(self, contender: str, stall: Stall) -> None:
        self.p50.add(contender, 1000 * quantile(stall.alone, 0.5))
        self.p99.add(contender, 1000 * stall.p99)
        self.most.add(contender, 1000 * max(stall.alone))
        self.during_p50.add(contender, 1000 * quantile(stall.during, 0.5))
        self.during_p90.add(contender, 1000 * quantile(stall.during, 0.9))
        self.worst.add(contender, 1000 * stall.worst)
        self.times.add(contender, stall.worst / stall.p99)
        self.share.add(contender, stall.worst / stall.allowed)
        self.ttft.add(contender, 1000 * stall.long_ttft)
