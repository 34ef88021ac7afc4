"""How long an engine works on for a client that has left."""

import time
from dataclasses import dataclass, replace

from scripts.benchmark import cpu
from scripts.benchmark.contenders import Contender, Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import SMALL, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.stats import gaps, median
from scripts.benchmark.traffic import Seen

WATCHED_S = 3.0
"""How long an engine is watched after its client left; who works on for longer gets this figure."""
STEP_AND_MS = 50.0


@dataclass(frozen=True, slots=True)
class Leaving:
    """A client that leaves before its answer is whole."""

    name: str
    prompt_tokens: int
    max_tokens: int
    after_s: float
    stream: bool = True


IN_DECODE = Leaving("in decode, streaming", 64, 8000, 1.0)
IN_PREFILL = Leaving("in prefill, streaming", 15000, 8, 2.0)
WHOLE = Leaving("in decode, not streaming", 64, 4000, 1.0, stream=False)
LEAVINGS = (IN_DECODE, IN_PREFILL, WHOLE)

DOZE = {"OPENBLAS_THREAD_TIMEOUT": "4"}
"""OpenBLAS's threads wait for more work in a loop for 2**26 cycles, some 25 ms, which looks like work. Now
it is 2**4."""
REST_S = 300.0


def run(rig: Rig) -> list[Section]:
    """One section, with the time to idle of each way to leave."""
    contenders: list[Contender] = [Ours(environment=DOZE)]
    contenders += [replace(peer, environment=DOZE) for peer in rig.peers[:1]]
    measures: list[Measure] = []
    with rig.serving(contenders, SMALL) as servers:
        for leaving in LEAVINGS:
            measures += _measure(rig, SMALL, leaving, servers)
    names = [server.contender for server in servers]
    remark = (
        f"Idle: the engine's process uses less than {cpu.BUSY:.0%} of a core from then on, as sampled every "
        f"{1000 * cpu.EVERY_S:g} ms. {1000 * WATCHED_S:.0f} ms: it was still busy at the end of the watch."
    )
    return [Section(f"Cancel: {SMALL.name}", names[0], tuple(names[1:]), tuple(measures), (remark,))]


def _measure(rig: Rig, shape: Shape, leaving: Leaving, servers: list[Server]) -> list[Measure]:
    idle = Measure(f"{leaving.name}: to idle", "ms")
    step = Measure(f"{leaving.name}: a step", "ms")
    beyond = Measure(
        f"{leaving.name}: to idle, beyond one step", "ms", target=Target(Aim.AT_MOST, STEP_AND_MS)
    )
    for number in range(rig.rounds(9)):
        for server in servers:
            rig.say(f"cancel, {shape.name}, {leaving.name}, round {number + 1}: {server.contender}")
            if leaving is WHOLE and number and idle.figures[server.contender][0] >= 1000 * WATCHED_S:
                continue  # it runs to its end, which takes a while and is no different each time
            seen, idle_s = _once(rig, shape, leaving, server)
            idle.add(server.contender, 1000 * idle_s)
            step_s = step_of(seen)
            step.add(server.contender, 1000 * step_s)
            beyond.add(server.contender, 1000 * max(idle_s - step_s, 0.0))
    return [idle, step, beyond]


def _once(rig: Rig, shape: Shape, leaving: Leaving, server: Server) -> tuple[Seen, float]:
    """What the client saw, and the seconds from when it left to an idle engine."""
    wish = rig.wish(
        server,
        shape,
        leaving.prompt_tokens,
        leaving.max_tokens,
        stream=leaving.stream,
        hang_up_after_s=leaving.after_s,
    )
    engine = server.engine_pid
    rig.start(server, [wish], 2 * leaving.after_s)
    samples = cpu.watch(engine, leaving.after_s + WATCHED_S)
    (seen,) = rig.finish(server).seen
    if not seen.hung_up or (leaving is IN_PREFILL and seen.token_s):
        raise RuntimeError(f"{server.contender}: the answer was there before the client left")
    idle_s = cpu.idle_from(samples, seen.ended_s)
    if idle_s is None:
        _wait_for_idle(server)
        return seen, WATCHED_S
    return seen, idle_s - seen.ended_s


def _wait_for_idle(server: Server) -> None:
    """Let it finish what it works on, so that the next round begins with an idle engine."""
    until_s = time.monotonic() + REST_S
    while time.monotonic() < until_s:
        samples = cpu.watch(server.engine_pid, 1.0)
        if cpu.idle_from(samples, samples[0].at_s) == samples[0].at_s:
            return
    raise RuntimeError(f"{server.contender} does not come to rest")


def step_of(seen: Seen) -> float:
    """How long a step took, as the client saw it: between tokens, else between signs of life in prefill.

    Slices grow, so the longest one seen is nearest to the one that the client left in.
    """
    if len(seen.token_s) > 1:
        return median(gaps(seen.token_s))
    return max(gaps(seen.comment_s), default=0.0)
