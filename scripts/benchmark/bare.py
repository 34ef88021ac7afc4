"""A bare mlx_lm loop: what tokens are, and cost, when nothing else goes on, in a process of its own.

It reads one order from standard input and writes the answers' texts, or times, to standard output, as JSON.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from host import blas
from scripts.benchmark.contenders import ROOT
from scripts.benchmark.process import ProcessDied
from scripts.benchmark.stats import median

TIMES = 3
DEADLINE_S = 300.0


class Order(msgspec.Struct, frozen=True, tag="continue"):
    """Continue each of these prompts, greedily."""

    model: str
    prompts: tuple[str, ...]
    max_tokens: int
    slice_tokens: int
    """Prompt tokens per prefill step."""


def answers(order: Order) -> list[str]:
    """One text per prompt."""
    import mlx.core as mx  # after the BLAS is lent
    import mlx_lm
    from mlx_lm.generate import generate_step

    model, tokenizer = mlx_lm.load(order.model)[:2]
    texts = []
    for prompt in order.prompts:
        steps = generate_step(
            mx.array(tokenizer.encode(prompt)),
            model,
            max_tokens=order.max_tokens,
            prefill_step_size=order.slice_tokens,
        )
        texts.append(str(tokenizer.decode([token for token, _ in steps])))
    return texts


class Costs(msgspec.Struct, frozen=True, tag="costs"):
    """Find out how long it takes to compute so many tokens behind so many others, and to choose the next."""

    model: str
    pieces: tuple[tuple[int, int], ...]
    """Tokens before, and tokens; each begins where the one before it ended, or later."""


def costs(order: Costs) -> list[float]:
    """Seconds for each piece, the median of a few tries."""
    import mlx.core as mx  # after the BLAS is lent
    import mlx_lm
    from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

    model = mlx_lm.load(order.model)[0]
    words = range(100, 400)
    cache = make_prompt_cache(model)

    def compute(tokens: int) -> float:
        start_s = time.perf_counter()
        ids = [words[place % len(words)] for place in range(tokens)]
        mx.eval(mx.argmax(model(mx.array([ids]), cache=cache)[:, -1], axis=-1))
        return time.perf_counter() - start_s

    found, length = [], 0
    for before, tokens in order.pieces:
        if before > length:
            compute(before - length)
        tries = []
        for _ in range(TIMES + 1):  # the first one compiles
            tries.append(compute(tokens))
            trim_prompt_cache(cache, tokens)
        compute(tokens)
        length = before + tokens
        found.append(median(tries[1:]))
    return found


def ask(order: Order | Costs) -> bytes:
    """What the loop answers, from a process of its own. Raises ProcessDied, with its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark.bare"],
        input=msgspec.json.encode(order),
        cwd=ROOT,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode:
        raise ProcessDied(f"the bare loop failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def cost_of(model: str, pieces: Sequence[tuple[int, int]]) -> list[float]:
    """As `costs`, in a process of its own."""
    return msgspec.json.decode(ask(Costs(model, tuple(pieces))), type=list[float])


def main() -> None:
    blas.preload()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order | Costs)
    done = answers(order) if isinstance(order, Order) else costs(order)
    sys.stdout.buffer.write(msgspec.json.encode(done))


if __name__ == "__main__":
    main()
