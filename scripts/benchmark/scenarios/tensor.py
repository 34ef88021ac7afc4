"""Every layer divided between two ranks: two nodes, and mlx_lm.server as `mlx.launch` starts it."""

from collections.abc import Iterator
from contextlib import contextmanager

from bus.messages.placement import Sharding
from scripts.benchmark.clusters import MlxLmRanks, TwoNodes
from scripts.benchmark.contenders import Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import LARGE, SMALL, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.scenarios.throughput import DEADLINE_S, Load, output_rate
from scripts.benchmark.stats import gaps, median

PROMPT_TOKENS = 32
LOADS = (Load(1, 256), Load(8, 160), Load(16, 160))
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


def run(rig: Rig) -> Iterator[Section]:
    """A section per model."""
    for shape in [SMALL] if rig.quick else [SMALL, LARGE]:
        yield _on(rig, shape)


def _on(rig: Rig, shape: Shape) -> Section:
    cores = rig.two_cores()
    ours = TwoNodes(Sharding.TENSOR, cores, ONE_THREAD)
    theirs = MlxLmRanks(rig.peers[0].blas, cores, ONE_THREAD)
    rates = {
        load: Measure(f"{load}: output", "tokens/s", target=Target(Aim.RATIO_AT_LEAST, 1.0)) for load in LOADS
    }
    between = {load: Measure(f"{load}: ITL p50", "ms") for load in LOADS}
    with rig.serving([ours, theirs], shape) as (our_server, their_server):
        for number in range(rig.rounds(12)):
            for load in LOADS:
                for server in (our_server, their_server):
                    rig.say(f"tensor, {shape.name}, {load}, round {number + 1}: {server.contender}")
                    wishes = [
                        rig.wish(server, shape, PROMPT_TOKENS, load.tokens) for _ in range(load.streams)
                    ]
                    # Ranks of mlx_lm.server ask each other ten times a second whether there is work.
                    with _at_rest(their_server, server is our_server):
                        seen = rig.run(server, wishes, DEADLINE_S).seen
                    rates[load].add(server.contender, output_rate(seen))
                    each = [1000 * gap for one in seen for gap in gaps(one.token_s)]
                    between[load].add(server.contender, median(each))
    title = f"Tensor over two ranks: {shape.name}, prompts of {PROMPT_TOKENS} tokens"
    measures = [measure for load in LOADS for measure in (rates[load], between[load])]
    held = () if cores[0] else ("Processes can't be held to a core here: the ranks shared all of them.",)
    return Section(title, ours.name, (theirs.name,), tuple(measures), held)


@contextmanager
def _at_rest(server: Server, wanted: bool) -> Iterator[None]:
    """While another is measured, if that is wanted."""
    if not wanted:
        yield
        return
    for process in server.processes:
        process.pause()
    try:
        yield
    finally:
        for process in server.processes:
            process.go_on()
