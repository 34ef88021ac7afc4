"""From conversations to tokens, by the very chat template and tokenizer that the finished model carries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from transformers import AutoTokenizer

from scripts.guide.conversation import Conversation, Tool, Turn
from scripts.guide.tokenizer import ASSISTANT, END


class ChatTokenizer(Protocol):
    """What is used of transformers' tokenizers."""

    def apply_chat_template(
        self,
        conversation: list[Turn],
        *,
        tools: list[Tool] | None,
        add_generation_prompt: bool,
        tokenize: bool,
    ) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def convert_tokens_to_ids(self, token: str) -> int: ...

    def get_vocab(self) -> dict[str, int]: ...

    def decode(self, tokens: list[int]) -> str: ...


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens of a conversation, and for each whether the model has to say it (1) or is given it (0)."""

    tokens: tuple[int, ...]
    said: tuple[int, ...]


class Encoder:
    """Renders and tokenizes as mlx-lm does."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = cast(ChatTokenizer, AutoTokenizer.from_pretrained(str(folder)))
        self.end = self.tokenizer.convert_tokens_to_ids(END)
        self._assistant = self.tokenizer.convert_tokens_to_ids(ASSISTANT)

    def example(self, conversation: Conversation) -> Example:
        """The whole conversation, to be trained on."""
        tokens = self._encode(conversation.turns, conversation.tools, prompt=False)
        return Example(tuple(tokens), tuple(self._said(tokens)))

    def prompt(self, conversation: Conversation) -> list[int]:
        """All but the answer, as a client's request would be."""
        return self._encode(conversation.question, conversation.tools, prompt=True)

    def text(self, tokens: list[int]) -> str:
        """What an answer's tokens say, without the end mark."""
        return self.tokenizer.decode([token for token in tokens if token != self.end])

    def _encode(self, turns: tuple[Turn, ...], tools: tuple[Tool, ...], prompt: bool) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            list(turns), tools=list(tools) or None, add_generation_prompt=prompt, tokenize=False
        )
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _said(self, tokens: list[int]) -> list[int]:
        said: list[int] = []
        speaking = 0
        for token in tokens:
            said.append(speaking)
            if token == self._assistant:
                speaking = 1
            elif token == self.end:
                speaking = 0
        return said
