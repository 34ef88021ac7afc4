"""How long it takes from starting a process to the first token of an answer."""

from scripts.benchmark.contenders import Contender, Ours, running
from scripts.benchmark.measures import Measure, Section
from scripts.benchmark.models import SMALL
from scripts.benchmark.rig import READY_S, Rig


def run(rig: Rig) -> list[Section]:
    """One section: each start anew, asked from the first moment on."""
    first = Measure("to the first token", "ms")
    contenders: list[Contender] = [Ours(), *rig.peers[:1]]
    model = rig.model(SMALL)
    for number in range(rig.rounds(7)):
        for contender in contenders:
            rig.say(f"cold start, {SMALL.name}, round {number + 1}: {contender.name}")
            with running(contender, model, rig.folder()) as server:
                wish = rig.wish(server, SMALL, 64, 2, insist_s=READY_S)
                (seen,) = rig.run(server, [wish], READY_S).seen
                first.add(contender.name, 1000 * (seen.token_s[0] - server.process.started_s))
    names = [contender.name for contender in contenders]
    return [Section(f"Cold start: {SMALL.name}", names[0], tuple(names[1:]), (first,))]
