"""What a turn of a growing chat costs until its first token, against what its new tokens cost alone."""

from collections.abc import Iterator, Sequence

from scripts.benchmark.bare import cost_of
from scripts.benchmark.contenders import Ours, Server
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import CHATTY, Shape
from scripts.benchmark.rig import Rig
from scripts.benchmark.traffic import Message, Seen, Wish

TURNS = 10
SYSTEM_TOKENS = 300
TURN_TOKENS = 250
ANSWER_TOKENS = 64
DEADLINE_S = 300.0
AIM = 1.1

REMARK = (
    "New tokens of a turn: those of its prompt that are in neither the last turn's prompt nor its answer. "
    "Their cost: a bare mlx_lm loop, in a process of its own with the same BLAS, computes so many tokens "
    "behind a cache of what was before, and chooses the next token. A time to first token has HTTP, the chat "
    "template and the tokenizer beside that."
)


def run(rig: Rig) -> Iterator[Section]:
    """One section of times, one of what was cached."""
    names, rounds = _rounds(rig, CHATTY)
    ours, *peers = names
    times = _times(names, rounds)
    title = f"Chat: {CHATTY.name}, {TURNS} turns of {TURN_TOKENS} tokens, answers of {ANSWER_TOKENS}"
    yield Section(title, ours, tuple(peers), tuple(times), (REMARK,))
    yield Section(f"{title}: cached tokens", ours, tuple(peers), tuple(_cached(names, rounds)))


Round = tuple[dict[str, Sequence[Seen]], Sequence[float]]
"""What each contender's client saw, turn by turn, and what the turns' new tokens cost in seconds."""


def _rounds(rig: Rig, shape: Shape) -> tuple[list[str], list[Round]]:
    found: list[Round] = []
    with rig.serving([Ours(), *rig.peers[:1]], shape) as servers:
        for number in range(rig.rounds(8)):
            seen: dict[str, Sequence[Seen]] = {}
            for server in servers:
                rig.say(f"chat, {shape.name}, round {number + 1}: {server.contender}")
                seen[server.contender] = rig.run(server, [conversation(rig, shape, server)], DEADLINE_S).seen
            pieces = new_tokens(seen[servers[0].contender])
            found.append((seen, cost_of(str(rig.model(shape)), pieces)))
    return [server.contender for server in servers], found


def conversation(rig: Rig, shape: Shape, server: Server) -> Wish:
    """A chat that nobody had before."""
    system = Message(role="system", content=rig.prompt(shape, SYSTEM_TOKENS))
    first, *others = (
        Message(role="user", content=rig.prompt(shape, TURN_TOKENS).lstrip()) for _ in range(TURNS)
    )
    return rig.chat(server, [system, first], ANSWER_TOKENS, turns=[[said] for said in others])


def new_tokens(seen: Sequence[Seen]) -> list[tuple[int, int]]:
    """For each turn, the tokens that were there before it and those that are new."""
    pieces, known = [], 0
    for turn in seen:
        pieces.append((known, turn.prompt_tokens - known))
        known = turn.prompt_tokens + turn.completion_tokens
    return pieces


def _times(names: Sequence[str], rounds: Sequence[Round]) -> Iterator[Measure]:
    for turn in range(TURNS):
        ttft = Measure(f"turn {turn + 1}: TTFT", "ms")
        times = Measure(f"turn {turn + 1}: TTFT ÷ cost of its new tokens", "times")
        for seen, cost in rounds:
            for name in names:
                ttft.add(name, 1000 * seen[name][turn].first_token_s)
                times.add(name, seen[name][turn].first_token_s / cost[turn])
        yield ttft
        yield times
    overall = Measure(
        f"turns 2 to {TURNS}: TTFT ÷ cost of their new tokens", "times", target=Target(Aim.AT_MOST, AIM)
    )
    beyond = Measure(f"turns 2 to {TURNS}: TTFT beyond that cost, per turn", "ms")
    for seen, cost in rounds:
        for name in names:
            took_s = sum(one.first_token_s for one in seen[name][1:])
            overall.add(name, took_s / sum(cost[1:]))
            beyond.add(name, 1000 * (took_s - sum(cost[1:])) / (TURNS - 1))
    yield overall
    yield beyond


def _cached(names: Sequence[str], rounds: Sequence[Round]) -> Iterator[Measure]:
    for turn in range(TURNS):
        before = Measure(f"turn {turn + 1}: known before", "tokens")
        cached = Measure(f"turn {turn + 1}: cached, as usage tells", "tokens")
        for seen, _ in rounds:
            for name in names:
                before.add(name, new_tokens(seen[name])[turn][0])
                cached.add(name, seen[name][turn].cached_tokens)
        yield before
        yield cached
