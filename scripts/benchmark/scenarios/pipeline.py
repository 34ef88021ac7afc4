"""What a second machine gains that takes half of the layers: one node on one core, and two on one each."""

from collections.abc import Iterator

from bus.messages.placement import Sharding
from scripts.benchmark.clusters import TwoNodes
from scripts.benchmark.contenders import Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import DEEP, DEEP_8BIT, LARGE, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.scenarios.throughput import DEADLINE_S, Load, output_rate
from scripts.benchmark.stats import gaps, median

PROMPT_TOKENS = 32
ALONE, HALF, MANY = Load(1, 256), Load(8, 160), Load(16, 160)
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}

REMARK = (
    "What could be gained at most: the time of a step of 16 sequences over that of a step of 8, both on one "
    "node. Two stages compute 16 sequences as two lanes of 8, one in each stage at a time."
)


def run(rig: Rig) -> Iterator[Section]:
    """A section per model."""
    for shape in [DEEP, DEEP_8BIT] if rig.quick else [DEEP, DEEP_8BIT, LARGE]:
        yield _on(rig, shape)


def _on(rig: Rig, shape: Shape) -> Section:
    first, second = rig.two_cores()
    half = shape.layers // 2
    nodes = TwoNodes(Sharding.PIPELINE, (first, second), ONE_THREAD, (half, shape.layers - half))
    one = Ours(name="exo_actors, one node", environment=ONE_THREAD, cores=first)
    figures = _Figures(nodes.name, one.name)
    with rig.serving([nodes, one], shape) as servers:
        for number in range(rig.rounds(12)):
            for load in (ALONE, MANY, HALF):
                for server in servers[1:] if load is HALF else servers:
                    rig.say(f"pipeline, {shape.name}, {load}, round {number + 1}: {server.contender}")
                    figures.take(rig, shape, server, load)
            figures.bound()
    title = f"Pipeline over two nodes: {shape.name}, prompts of {PROMPT_TOKENS} tokens"
    held = (REMARK, "" if first else "Processes can't be held to a core here: the nodes shared all of them.")
    return Section(title, nodes.name, (one.name,), figures.all, tuple(filter(None, held)))


class _Figures:
    def __init__(self, ours: str, one: str) -> None:
        self._ours = ours
        self._one = one
        self._rates = {
            ALONE: Measure(f"{ALONE}: output", "tokens/s", target=Target(Aim.RATIO_AT_LEAST, 0.8)),
            MANY: Measure(f"{MANY}: output", "tokens/s", target=Target(Aim.RATIO_AT_LEAST, 1.8)),
            HALF: Measure(f"{HALF}: output", "tokens/s"),
        }
        self._between = {load: Measure(f"{load}: ITL p50", "ms") for load in (ALONE, MANY)}
        self._most = Measure(f"{MANY}: what could be gained at most", "x")

    @property
    def all(self) -> tuple[Measure, ...]:
        alone, many = ((self._rates[load], self._between[load]) for load in (ALONE, MANY))
        return (*alone, *many, self._rates[HALF], self._most)

    def take(self, rig: Rig, shape: Shape, server: Server, load: Load) -> None:
        wishes = [rig.wish(server, shape, PROMPT_TOKENS, load.tokens) for _ in range(load.streams)]
        seen = rig.run(server, wishes, DEADLINE_S).seen
        self._rates[load].add(server.contender, output_rate(seen))
        if load in self._between:
            between = [1000 * gap for one in seen for gap in gaps(one.token_s)]
            self._between[load].add(server.contender, median(between))

    def bound(self) -> None:
        """From the last round's rates: a step takes as long as its sequences' tokens."""
        many_s, half_s = (load.streams / self._rates[load].figures[self._one][-1] for load in (MANY, HALF))
        self._most.add(self._one, many_s / half_s)
