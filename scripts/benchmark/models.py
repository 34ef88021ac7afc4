"""The models that the benchmark runs on: random weights, since speed does not depend on what they say."""

import random
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from tokenizers import Tokenizer

from scripts.make_model import make_model, quantise

HEADS = 8
KV_HEADS = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama of float32 weights, or quantised."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    context: int = 16384
    bits: int | None = None
    """Per weight; None: float32."""
    words: bool = False
    """It says whole words only, which are the same tokens when they come back in a conversation."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers, float32."""
        return 2 * 4 * self.layers * KV_HEADS * self.hidden // HEADS


SMALL = Shape("llama-5m", layers=6, hidden=256, intermediate=704)
DEEP = Shape("llama-6m", layers=8, hidden=256, intermediate=704)
"""For stages: beside more layers the output weighs less, of which the last stage has all."""
DEEP_8BIT = Shape("llama-6m-8bit", layers=8, hidden=256, intermediate=704, bits=8)
LARGE = Shape("llama-30m", layers=10, hidden=512, intermediate=1408)
CHATTY = Shape("llama-5m-chat", layers=6, hidden=256, intermediate=704, words=True)
"""For conversations: a prefix cache can only know an answer again that is read as it was written."""

SHARPNESS = 2.0
"""Times the output's random weights: makes likely tokens stand out, so that silent ones are never sampled."""


def make(shape: Shape, folder: Path) -> Path:
    """Write the model to `folder`/its name, and return that.

    Each of its tokens is text that can be shown at once, and it never ends by itself: so a client sees each
    token when it comes, and every answer is as long as was asked for.
    """
    path = make_model(
        "llama",
        folder / shape.name,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=HEADS,
        kv_heads=KV_HEADS,
        intermediate=shape.intermediate,
        context=shape.context,
    )
    tokenizer = _tokenizer(path)
    _silence(path / "model.safetensors", _said(tokenizer, shape.words))
    return path if shape.bits is None else quantise(path, shape.bits)


def _silence(weights: Path, said: set[int]) -> None:
    """Take from the model all tokens but those."""
    arrays = mx.load(str(weights))
    assert isinstance(arrays, dict)
    head = arrays["lm_head.weight"]
    kept = [token in said for token in range(head.shape[0])]
    arrays["lm_head.weight"] = head * SHARPNESS * mx.array(kept)[:, None]
    mx.eval(arrays)
    mx.save_safetensors(str(weights), arrays, metadata={"format": "mlx"})


def _said(tokenizer: Tokenizer, only_words: bool) -> set[int]:
    """The tokens that a model says: those of letters or digits, not ends, parts of characters or blanks."""
    if only_words:
        return {tokenizer.encode(word).ids[0] for word in single_words(tokenizer)}
    return {token for token in range(tokenizer.get_vocab_size()) if _is_shown(tokenizer, token)}


def _is_shown(tokenizer: Tokenizer, token: int) -> bool:
    text = str(tokenizer.decode([token], skip_special_tokens=True)).strip()
    return text.isascii() and text.isalnum()


def _tokenizer(model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model / "tokenizer.json"))


class Prompts:
    """Prompts of so many tokens, none of which begins like another: a prefix cache would skip the work."""

    def __init__(self, model: Path) -> None:
        self._random = random.Random(model.name)
        self._words = words(model)
        self._begun: set[tuple[str, ...]] = set()

    def next(self, tokens: int) -> str:
        """Words of one token each."""
        drawn = self._random.choices(self._words, k=tokens)
        while tuple(drawn[:2]) in self._begun:
            drawn[:2] = self._random.choices(self._words, k=2)
        self._begun.add(tuple(drawn[:2]))
        return "".join(drawn)


def words(model: Path) -> list[str]:
    """All words that are one token of a model."""
    return single_words(_tokenizer(model))


def single_words(tokenizer: Tokenizer) -> list[str]:
    """All words of one token each, with the blank before them."""
    return [word for word in _words(tokenizer) if len(tokenizer.encode(word).ids) == 1]


def _words(tokenizer: Tokenizer) -> list[str]:
    texts = (str(tokenizer.decode([token])) for token in range(tokenizer.get_vocab_size()))
    return sorted({text for text in texts if text.startswith(" ") and text.isascii() and text[1:].isalpha()})
