"""Agents that share a long system prompt with tools, and go on step by step with what their tools said."""

from collections.abc import Iterator, Sequence

from scripts.benchmark.contenders import Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import CHATTY, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.scenarios.throughput import output_rate
from scripts.benchmark.stats import gaps, quantile
from scripts.benchmark.traffic import Message, Seen, Wish

AGENTS = 8
STEPS = 5
SYSTEM_TOKENS = 2000
TASK_TOKENS = 60
RESULT_TOKENS = 150
ANSWER_TOKENS = 48
DEADLINE_S = 300.0


def _tool(name: str, **fields: str) -> dict[str, object]:
    properties = {field: {"type": kind} for field, kind in fields.items()}
    parameters = {"type": "object", "properties": properties, "required": list(fields)}
    function = {"name": name, "description": f"Use {name}.", "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = (
    _tool("read_file", path="string", offset="integer"),
    _tool("write_file", path="string", text="string"),
    _tool("run_command", command="string", timeout="integer"),
    _tool("search", query="string", limit="integer"),
)


def run(rig: Rig) -> list[Section]:
    """One section; each round has a system prompt of its own."""
    measures = _Measures()
    with rig.serving([Ours(), *rig.peers[:1]], CHATTY) as servers:
        for number in range(rig.rounds(7)):
            for server in servers:
                rig.say(f"agents, {CHATTY.name}, round {number + 1}: {server.contender}")
                wishes = trace(rig, CHATTY, server)
                measures.add(server.contender, rig.run(server, wishes, DEADLINE_S).seen)
    names = [server.contender for server in servers]
    title = (
        f"Agents: {CHATTY.name}, {AGENTS} at once, {STEPS} steps, a system prompt of {SYSTEM_TOKENS} tokens"
    )
    return [Section(title, names[0], tuple(names[1:]), tuple(measures.all))]


def trace(rig: Rig, shape: Shape, server: Server) -> list[Wish]:
    """What the agents ask: nobody knows the system prompt yet, and all have the same."""
    system = Message(role="system", content=rig.prompt(shape, SYSTEM_TOKENS))
    wishes = []
    for _ in range(AGENTS):
        task = Message(role="user", content=rig.prompt(shape, TASK_TOKENS).lstrip())
        results = [
            [Message(role="tool", content=rig.prompt(shape, RESULT_TOKENS), tool_call_id=f"call_{step}")]
            for step in range(1, STEPS)
        ]
        wishes.append(rig.chat(server, [system, task], ANSWER_TOKENS, turns=results, tools=TOOLS))
    return wishes


def first_steps(seen: Sequence[Seen]) -> Iterator[Seen]:
    """Of each agent, the step before which nothing is known of its task."""
    return (one for place, one in enumerate(seen) if place % STEPS == 0)


def later_steps(seen: Sequence[Seen]) -> Iterator[Seen]:
    """All others."""
    return (one for place, one in enumerate(seen) if place % STEPS)


class _Measures:
    def __init__(self) -> None:
        no_worse = Target(Aim.RATIO_AT_MOST, 1.0)
        self.total = Measure("all steps of all agents", "s", target=no_worse)
        self.rate = Measure("output", "tokens/s", target=Target(Aim.RATIO_AT_LEAST, 1.0))
        self.first_p50 = Measure("first step: TTFT p50", "ms")
        self.first_p95 = Measure("first step: TTFT p95", "ms")
        self.later_p50 = Measure("later steps: TTFT p50", "ms", target=no_worse)
        self.later_p95 = Measure("later steps: TTFT p95", "ms", target=no_worse)
        self.itl_p50 = Measure("ITL p50", "ms")
        self.itl_p99 = Measure("ITL p99", "ms")
        self.cached = Measure("prompt tokens from the cache, as usage tells", "%")

    @property
    def all(self) -> list[Measure]:
        firsts = [self.first_p50, self.first_p95, self.later_p50, self.later_p95]
        return [self.total, self.rate, *firsts, self.itl_p50, self.itl_p99, self.cached]

    def add(self, contender: str, seen: Sequence[Seen]) -> None:
        first = [1000 * one.first_token_s for one in first_steps(seen)]
        later = [1000 * one.first_token_s for one in later_steps(seen)]
        between = [1000 * gap for one in seen for gap in gaps(one.token_s)]
        prompted = sum(one.prompt_tokens for one in seen)
        self.total.add(contender, max(one.ended_s for one in seen) - min(one.sent_s for one in seen))
        self.rate.add(contender, output_rate(tuple(seen)))
        self.first_p50.add(contender, quantile(first, 0.5))
        self.first_p95.add(contender, quantile(first, 0.95))
        self.later_p50.add(contender, quantile(later, 0.5))
        self.later_p95.add(contender, quantile(later, 0.95))
        self.itl_p50.add(contender, quantile(between, 0.5))
        self.itl_p99.add(contender, quantile(between, 0.99))
        self.cached.add(contender, 100 * sum(one.cached_tokens for one in seen) / prompted)
