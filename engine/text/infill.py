"""Prompts with a gap to be filled, in the form that a model was trained on (https://arxiv.org/abs/2207.14255)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bus.messages.generation import InfillPrompt
from engine.text.detokenizer import SPACE


class NoInfill(ValueError):
    """The model has no tokens for it."""


class Pieces(Protocol):
    """The part of a tokenizer that this needs."""

    def token(self, text: str) -> int | None:
        """The token that is written so, if there is one."""

    def opening(self) -> list[int]:
        """What stands before every text."""

    def encode_plainly(self, text: str) -> list[int]:
        """A text's tokens, and nothing around them."""


@dataclass(frozen=True, slots=True)
class Form:
    """The tokens that stand before the parts of such a prompt."""

    source: str
    """Whose model cards, or what source, tell it."""
    prefix: str
    suffix: str
    middle: str
    """Before the answer; empty: nothing."""
    suffix_first: bool = False
    """Else the prefix comes first, as with most."""


FORMS: Final = (
    Form("Qwen2.5-Coder, CodeGemma, Granite 4", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    Form("StarCoder, Stable Code, Granite Code", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    Form("SantaCoder", "<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    Form(
        "DeepSeek Coder, V2 and V3",
        "<\N{FULLWIDTH VERTICAL LINE}fim\N{LOWER ONE EIGHTH BLOCK}begin\N{FULLWIDTH VERTICAL LINE}>",
        "<\N{FULLWIDTH VERTICAL LINE}fim\N{LOWER ONE EIGHTH BLOCK}hole\N{FULLWIDTH VERTICAL LINE}>",
        "<\N{FULLWIDTH VERTICAL LINE}fim\N{LOWER ONE EIGHTH BLOCK}end\N{FULLWIDTH VERTICAL LINE}>",
    ),
    Form("Code Llama (llama/generation.py)", f"{SPACE}<PRE>", f"{SPACE}<SUF>", f"{SPACE}<MID>"),
    Form("GLM-4.5 (llama.cpp, src/llama-vocab.cpp)", "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    Form("Seed-Coder", "<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", suffix_first=True),
    Form("Codestral (mistral-common, encode_fim)", "[PREFIX]", "[SUFFIX]", "", suffix_first=True),
)


def infill(prompt: InfillPrompt, pieces: Pieces) -> list[int]:
    """The prompt's tokens, after which the model writes what is in the gap. Raises NoInfill."""
    for form in FORMS:
        marks = [pieces.token(text) for text in (form.prefix, form.suffix, form.middle) if text]
        known = [mark for mark in marks if mark is not None]
        if len(known) == len(marks):
            return pieces.opening() + _in_order(prompt, form, known, pieces)
    raise NoInfill(
        "This model has no tokens for filling gaps: leave out the suffix, or use a model for code that was "
        "trained to do it."
    )


def _in_order(prompt: InfillPrompt, form: Form, marks: Sequence[int], pieces: Pieces) -> list[int]:
    prefix = [marks[0], *pieces.encode_plainly(prompt.prefix)]
    suffix = [marks[1], *pieces.encode_plainly(prompt.suffix)]
    return [*suffix, *prefix, *marks[2:]] if form.suffix_first else [*prefix, *suffix, *marks[2:]]
