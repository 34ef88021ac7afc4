"""What it costs per token to hold answers to a JSON schema: on our own node only, since nobody else can."""

from collections.abc import Sequence
from math import nan

from scripts.benchmark.contenders import Ours, Server
from scripts.benchmark.cpu import cpu_time
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import CHATTY, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.stats import gaps, median, quantile
from scripts.benchmark.traffic import Message, Seen, Wish

STREAMS = 16
TOKENS = 256
PROMPT_TOKENS = 48
DEADLINE_S = 300.0
HELD, FREE = "with a schema", "plain"

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 40},
        "items": {
            "type": "array",
            "minItems": 100,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 24},
                    "kind": {"enum": ["small", "medium", "large"]},
                    "count": {"type": "integer", "minimum": 0, "maximum": 9999},
                    "tags": {
                        "type": "array",
                        "items": {"type": "string", "maxLength": 16},
                        "minItems": 1,
                        "maxItems": 3,
                    },
                },
                "required": ["name", "kind", "count", "tags"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "items"],
    "additionalProperties": False,
}
FORMAT: dict[str, object] = {"type": "json_schema", "json_schema": {"name": "list", "schema": SCHEMA}}

REMARK = (
    "Both columns are the same node, in turn; mlx_lm.server takes no `response_format`, so there is nobody "
    "to compare with. Each answer has the same number of tokens: the schema's list is longer than that."
)


def run(rig: Rig) -> list[Section]:
    """One section, whose contenders are the two ways of asking."""
    measures = _Measures()
    with rig.serving([Ours()], CHATTY) as (server,):
        for number in range(-1, rig.rounds(12)):
            for name in (HELD, FREE):
                rig.say(f"schema, {CHATTY.name}, round {number + 1}: {name}")
                wishes = _wishes(rig, CHATTY, server, name)
                before_s = cpu_time(server.engine_pid)
                seen = rig.run(server, wishes, DEADLINE_S).seen
                if number >= 0:  # the first round is for the grammar, which is kept
                    measures.add(name, seen, cpu_time(server.engine_pid) - before_s)
    title = f"Schema: {CHATTY.name}, {STREAMS} streams of {TOKENS} tokens"
    return [Section(title, HELD, (FREE,), tuple(measures.all), (REMARK,))]


def _wishes(rig: Rig, shape: Shape, server: Server, name: str) -> list[Wish]:
    held = FORMAT if name == HELD else None
    return [
        rig.chat(
            server,
            [Message(role="user", content=rig.prompt(shape, PROMPT_TOKENS).lstrip())],
            TOKENS,
            response_format=held,
            ignore_eos=held is None,
        )
        for _ in range(STREAMS)
    ]


def per_token_s(seen: Sequence[Seen]) -> float:
    """Seconds per token of a stream while all of them run: between the last first token and the first end.

    nan where that time is too short for a token.
    """
    start = max(one.token_s[0] for one in seen)
    end = min(one.token_s[-1] for one in seen)
    found = [mean_gap(one.token_s, start, end) for one in seen]
    return median([gap for gap in found if gap == gap])


def mean_gap(times: Sequence[float], start: float, end: float) -> float:
    """Of those within a time; nan if there is none."""
    within = [at_s for at_s in times if start <= at_s <= end]
    return (within[-1] - within[0]) / (len(within) - 1) if len(within) > 1 else nan


class _Measures:
    def __init__(self) -> None:
        self.token = Measure("time per token", "ms", target=Target(Aim.RATIO_AT_MOST, 1.1))
        self.work = Measure("processor time of the engine per token, prefill included", "ms")
        self.itl_p50 = Measure("ITL p50", "ms")
        self.itl_p99 = Measure("ITL p99", "ms")
        self.ttft = Measure("TTFT p50", "ms")
        self.tokens = Measure("tokens per answer", "tokens")

    @property
    def all(self) -> list[Measure]:
        return [self.token, self.work, self.itl_p50, self.itl_p99, self.ttft, self.tokens]

    def add(self, name: str, seen: Sequence[Seen], cpu_s: float) -> None:
        between = [1000 * gap for one in seen for gap in gaps(one.token_s)]
        self.token.add(name, 1000 * per_token_s(seen))
        self.work.add(name, 1000 * cpu_s / sum(one.completion_tokens for one in seen))
        self.itl_p50.add(name, quantile(between, 0.5))
        self.itl_p99.add(name, quantile(between, 0.99))
        self.ttft.add(name, 1000 * median([one.first_token_s for one in seen]))
        self.tokens.add(name, median([one.completion_tokens for one in seen]))
