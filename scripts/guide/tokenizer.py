"""The guide's tokenizer: byte-level BPE whose pieces are the same in a question and in a tool call."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|end|>"
ASSISTANT = "<|assistant|>"
PAD = "<|pad|>"
SPECIAL = (END, PAD, "<|system|>", "<|tools|>", "<|user|>", ASSISTANT, "<|tool|>")
CALL = ("<tool_call>", "</tool_call>")
"""Ordinary text to a decoder: a client's tool parser has to see them."""

PIECES = Regex(r"\p{Lu}+\p{Ll}*| ?\p{Ll}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
"""A capitalised word or a digit never takes the space before it along, so that `in Paris` and `"Paris"` hold
the same pieces: a small model can then copy a value by looking it up. Lower-case words do take it, which
keeps sentences short."""

TEMPLATE = Path(__file__).parent / "chat_template.jinja"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn `vocabulary` tokens (bytes and special ones included) from texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *(AddedToken(call, special=False) for call in CALL)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the tokenizer and its chat template in the form that transformers and mlx-lm read."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    shutil.copy(TEMPLATE, folder / "chat_template.jinja")
