"""A bare mlx_lm loop: what the tokens are when nothing else is going on; a process of its own, with our BLAS.

It reads one order from standard input and writes the answers' texts to standard output, as JSON.
"""

import sys

import msgspec

from host import blas


class Order(msgspec.Struct, frozen=True):
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


def main() -> None:
    blas.preload()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(answers(order)))


if __name__ == "__main__":
    main()
