"""Prints how good the guide is: the share of held-out questions that it answers with the facts asked for.

python -m scripts.measure_guide [FOLDER]
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from host.blas import preload
from scripts.guide.conversation import Conversation
from scripts.guide.corpus import Corpus
from scripts.guide.encoding import Encoder
from scripts.guide.measure import Answered, Answerer, ask, report

GUIDE = Path(__file__).parent.parent / "models" / "guide"
SEED = 1
"""Which names, values and typing the held-out questions are filled with."""


def load_answerer(folder: Path) -> Answerer:
    """The model in `folder`, answering greedily, many prompts in one batch, by mlx-lm's own means."""
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))

    def answer(prompts: list[list[int]], max_tokens: list[int]) -> list[list[int]]:
        response = mlx_lm.batch_generate(
            model, tokenizer, prompts, max_tokens=max_tokens, return_token_ids=True
        )
        return cast(list[list[int]], response.token_ids)

    return answer


def held_out(seed: int = SEED) -> list[Conversation]:
    """The questions that measure."""
    return Corpus().held_out(random.Random(seed))


def measure(folder: Path, conversations: list[Conversation]) -> list[Answered]:
    """Ask the model in `folder`."""
    return ask(conversations, Encoder(folder), load_answerer(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.measure_guide", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=GUIDE)
    folder = parser.parse_args(arguments).folder
    preload()
    for line in report(measure(folder, held_out())):
        print(line)


if __name__ == "__main__":
    main()
