"""Whether the first answer after a server is ready is as fast as the second."""

import time
import urllib.error
import urllib.request
from math import nan

from scripts.benchmark.contenders import Contender, Ours, Server, running
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import SMALL
from scripts.benchmark.process import ProcessDied
from scripts.benchmark.rig import READY_S, Rig
from scripts.benchmark.traffic import Seen

PROMPT_TOKENS = 400
TOKENS = 64
ANSWERS = 4
SETTLE_S = 1.0
"""Between two answers: each comes to a server at rest."""
ASK_S = 0.05
AIM = 1.1
READY_PATHS = {Ours().name: "/ready"}
HEALTH = "/health"
"""mlx_lm.server's: it answers once it listens; the model is loaded by then or by the first request."""


def run(rig: Rig) -> list[Section]:
    """One section: each start anew."""
    measures = _Measures()
    contenders: list[Contender] = [Ours(), *rig.peers[:1]]
    model = rig.model(SMALL)
    for number in range(rig.rounds(12)):
        for contender in contenders:
            rig.say(f"warm, {SMALL.name}, start {number + 1}: {contender.name}")
            with running(contender, model, rig.folder()) as server:
                _wait_until_ready(server)
                measures.add(contender.name, [_answer(rig, server) for _ in range(ANSWERS)])
    names = [contender.name for contender in contenders]
    title = f"Warm: {SMALL.name}, the first answers after a start, prompts of {PROMPT_TOKENS} tokens"
    return [Section(title, names[0], tuple(names[1:]), tuple(measures.all))]


def _answer(rig: Rig, server: Server) -> Seen:
    wish = rig.wish(server, SMALL, PROMPT_TOKENS, TOKENS, delay_s=SETTLE_S)
    (seen,) = rig.run(server, [wish], READY_S).seen
    return seen


def _wait_until_ready(server: Server) -> None:
    """Raises ProcessDied when it never is."""
    url = server.url + READY_PATHS.get(server.contender, HEALTH)
    until = time.monotonic() + READY_S
    while not _says_yes(url):
        server.process.check()
        if time.monotonic() > until:
            raise ProcessDied(f"{server.contender} was not ready within {READY_S:g} s")
        time.sleep(ASK_S)


def _says_yes(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as response:
            return int(response.status) == 200
    except (urllib.error.URLError, OSError):
        return False


class _Measures:
    def __init__(self) -> None:
        self.ttft = [Measure(f"answer {place + 1}: TTFT", "ms") for place in range(ANSWERS)]
        self.token = [Measure(f"answer {place + 1}: time per token", "ms") for place in range(ANSWERS)]
        within = Target(Aim.AT_MOST, AIM)
        self.ttft_times = Measure("first ÷ second: TTFT", "times", target=within)
        self.token_times = Measure("first ÷ second: time per token", "times", target=within)
        self.noise = Measure("third ÷ fourth: TTFT, which is noise", "times")

    @property
    def all(self) -> list[Measure]:
        return [*self.ttft, *self.token, self.ttft_times, self.token_times, self.noise]

    def add(self, contender: str, answers: list[Seen]) -> None:
        firsts = [one.first_token_s for one in answers]
        tokens = [(one.token_s[-1] - one.token_s[0]) / (len(one.token_s) - 1) for one in answers]
        for measures, values in ((self.ttft, firsts), (self.token, tokens)):
            for measure, value in zip(measures, values, strict=True):
                measure.add(contender, 1000 * value)
        self.ttft_times.add(contender, times(firsts[0], firsts[1]))
        self.token_times.add(contender, times(tokens[0], tokens[1]))
        self.noise.add(contender, times(firsts[2], firsts[3]))


def times(one: float, other: float) -> float:
    """One over the other; nan where a client that got no processor saw all of an answer at once."""
    return one / other if other > 0 else nan
