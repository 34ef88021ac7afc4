"""Bodies that no client should send: random bytes, broken JSON, and valid requests with something wrong."""

import json
import random
from collections.abc import Iterator

Body = dict[str, object]

CHAT: Body = {
    "model": "tiny",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    "max_tokens": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["x"],
    "n": 1,
    "seed": 3,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"5": 1},
    "presence_penalty": 0.1,
    "stream": False,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
COMPLETION: Body = {
    "model": "tiny",
    "prompt": ["Hello", "World"],
    "max_tokens": 2,
    "top_k": 5,
    "logprobs": 1,
    "echo": False,
    "frequency_penalty": 0.1,
    "stop": "x",
    "stream": True,
    "stream_options": {"include_usage": True},
}
ODD: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 1e308, -1.5, 0.1),
    *("", "x", "\x00", "\ud83d\ude00" * 50, "a" * 10_000, "guide", "../../etc/passwd"),
    *([], [[]], [None], [1, 2], [-1], [2**40], ["a", 5], {}, {"a": {}}, {"999999999": 1}, {"-1": 101}),
)
KEPT = frozenset({"max_tokens"})
"""What keeps a request that is taken short."""


def bodies(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many paths and bodies, always the same for a seed."""
    randomness = random.Random(seed)
    for _ in range(count):
        path, valid = randomness.choice((("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)))
        yield path, _body(valid, randomness)


def _body(valid: Body, randomness: random.Random) -> bytes:
    kind = randomness.random()
    if kind < 0.1:
        return randomness.randbytes(randomness.randrange(200))
    text = json.dumps(_mutated(valid, randomness)).encode()
    if kind < 0.2:
        return text[: randomness.randrange(len(text))]
    if kind < 0.3:
        place = randomness.randrange(len(text))
        return text[:place] + randomness.randbytes(3) + text[place + 3 :]
    return text


def _mutated(valid: Body, randomness: random.Random) -> Body:
    """One to three fields missing, of another type, out of range or of a name that nobody knows."""
    body = dict(valid)
    for _ in range(randomness.randint(1, 3)):
        field = randomness.choice(sorted(body.keys() - KEPT))
        match randomness.randrange(4):
            case 0:
                del body[field]
            case 1:
                body[f"{field}_"] = body.pop(field)
            case _:
                body[field] = randomness.choice(ODD)
    return body
