"""A model's tokenizer with its chat template and its markers, as mlx-lm has it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Final, Protocol, cast

from mlx_lm import tokenizer_utils, utils
from mlx_lm.generate import TextStateMachine, make_text_state_machine

from engine.text.detokenizer import Spelling
from engine.text.markers import CallMarkers, Thinking
from engine.text.reply import Channel, Segment
from engine.text.template import Ending
from engine.text.thinking import Template, template_of, template_of_function
from engine.tools.formats import Parser, ToolFormat, format_name, tool_format

_CHANNELS: Final = {"normal": Channel.CONTENT, "reasoning": Channel.REASONING, "tool": Channel.TOOL}


class _Decoder(Protocol):
    def __getstate__(self) -> bytes: ...


class _Backend(Protocol):
    @property
    def decoder(self) -> _Decoder | None: ...


class _Encoding(Protocol):
    """BatchEncoding of transformers."""

    is_fast: bool

    def __getitem__(self, key: str) -> list[int]: ...
    def char_to_token(self, character: int) -> int | None: ...


class _AddedToken(Protocol):
    special: bool


class _HuggingFace(Protocol):
    """A tokenizer of transformers."""

    added_tokens_decoder: Mapping[int, _AddedToken]

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool) -> _Encoding: ...
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]: ...
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int | None]: ...
    def get_added_vocab(self) -> dict[str, int]: ...
    def get_chat_template(self, name: str | None, tools: list[object] | None) -> str: ...


_Transitions = Mapping[str, Sequence[tuple[str, str]]]


class _Wrapper(Protocol):
    """mlx-lm's TokenizerWrapper."""

    _tokenizer: _HuggingFace
    _chat_template: FunctionType | None
    eos_token_ids: set[int]
    has_chat_template: bool
    has_thinking: bool
    think_start: str | None
    think_end: str | None
    think_start_tokens: Sequence[int] | None
    think_end_tokens: Sequence[int] | None
    has_tool_calling: bool
    tool_call_start: str | None
    tool_call_end: str | None
    tool_parser: Parser
    structural_markers: Sequence[str]
    response_initial_state: str | None
    response_transitions: _Transitions

    def __len__(self) -> int: ...
    def encode(self, text: str, *, verbose: bool) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...
    def apply_chat_template(self, messages: list[dict[str, object]], **options: object) -> str: ...


_State = tuple[str, object, object, str]
"""Of a TextStateMachine: the channel's name, two things of its own, and the text that is held back."""


class Machine(Protocol):
    """mlx-lm's TextStateMachine."""

    def make_state(self, initial: str) -> _State: ...


class Tokenizer:
    """A model's tokenizer with its chat template and its markers."""

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        # Code from a model's folder is not run, and nobody is asked on standard input whether it may.
        self._wrapper = cast(
            _Wrapper,
            tokenizer_utils.load(
                folder,
                {"trust_remote_code": False, "local_files_only": True},
                eos_token_ids=config.get("eos_token_id"),
                defaults=_tokenizer_defaults(folder),
            ),
        )
        self._hf = self._wrapper._tokenizer

    @property
    def eos(self) -> frozenset[int]:
        return frozenset(int(token) for token in self._wrapper.eos_token_ids)

    def __len__(self) -> int:
        return len(self._wrapper)

    def encode(self, text: str) -> list[int]:
        """With the tokens that the tokenizer puts around a text, as most put one before it."""
        # Not verbose: how long a prompt may be is the intake's to say, and not a warning in a log.
        return [int(token) for token in self._wrapper.encode(text, verbose=False)]

    def decode(self, tokens: Sequence[int]) -> str:
        return self._wrapper.decode(list(tokens))

    def pieces(self) -> list[str]:
        """Each token as the tokenizer writes it."""
        pieces = self._hf.convert_ids_to_tokens(list(range(len(self))))
        return ["" if piece is None else str(piece) for piece in pieces]

    def added(self) -> dict[str, int]:
        """Tokens that were added to the vocabulary: literal text."""
        return {str(text): int(token) for text, token in self._hf.get_added_vocab().items()}

    @property
    def special(self) -> frozenset[int]:
        """Added tokens that are markers for the model, not text."""
        added = self._hf.added_tokens_decoder.items()
        return frozenset(int(token) for token, description in added if description.special)

    def spelling(self) -> tuple[Spelling, bool]:
        """How tokens are written, and whether an answer's first space is the tokenizer's own."""
        backend = cast("_Backend | None", getattr(self._hf, "backend_tokenizer", None))
        if backend is None or backend.decoder is None:
            return Spelling.OPAQUE, False
        return _spelling(json.loads(backend.decoder.__getstate__()))

    @property
    def has_template(self) -> bool:
        return bool(self._wrapper.has_chat_template)

    @property
    def think_markers(self) -> tuple[str, str] | None:
        start, end = self._wrapper.think_start, self._wrapper.think_end
        return (start, end) if start and end else None

    def template(self, tools: bool) -> Template:
        if self._wrapper._chat_template is not None:
            return template_of_function(self._wrapper._chat_template)
        try:
            source = self._hf.get_chat_template(None, [{}] if tools else None)
        except ValueError:  # it has no template but a way of its own
            return Template()
        return template_of(source)

    def compose(
        self,
        messages: list[dict[str, object]],
        tools: list[object] | None,
        options: Mapping[str, object],
        ending: Ending,
    ) -> str:
        """A conversation's text; raises whatever the template raises."""
        return self._wrapper.apply_chat_template(
            messages,
            tools=tools,
            tokenize=False,
            continue_final_message=ending is Ending.OPEN,
            add_generation_prompt=ending is Ending.ASKS,
            **options,
        )

    def spell(self, text: str) -> "Encoded":
        """The tokens of a text with the model's markers in it, and nothing around them."""
        return Encoded(self._hf(text, add_special_tokens=False, verbose=False))

    def encode_plainly(self, text: str) -> list[int]:
        """Without the tokens that the tokenizer puts around a text."""
        return self.spell(text).tokens

    def opening(self) -> list[int]:
        """What the tokenizer puts before every text."""
        return [token for token in self.encode("") if token not in self.eos]

    def token(self, text: str) -> int | None:
        """The token that is written so, if there is one."""
        [token] = self._hf.convert_tokens_to_ids([text])
        # Of text that it does not know, a tokenizer tells the unknown token.
        known = token is not None and self._hf.convert_ids_to_tokens([token]) == [text]
        return token if known else None

    @property
    def has_tools(self) -> bool:
        return bool(self._wrapper.has_tool_calling)

    @property
    def thinking(self) -> Thinking | None:
        """The tokens around the model's reasoning."""
        start, end = self._wrapper.think_start_tokens, self._wrapper.think_end_tokens
        return Thinking(tuple(start), tuple(end)) if start and end else None

    @property
    def call_markers(self) -> CallMarkers | None:
        """How the model writes calls; None: it does not."""
        wrapper = self._wrapper
        if wrapper.tool_call_start is None:
            return None
        return CallMarkers(
            format_name(wrapper.tool_parser), wrapper.tool_call_start, wrapper.tool_call_end or ""
        )

    @property
    def markers(self) -> list[str]:
        """Every text that mlx-lm takes out of an answer."""
        wrapper = self._wrapper
        edges = [text for edges in wrapper.response_transitions.values() for text, _ in edges]
        calls = (wrapper.tool_call_start, wrapper.tool_call_end)
        texts = (*(self.think_markers or ()), *calls, *wrapper.structural_markers, *edges)
        return list(dict.fromkeys(text for text in texts if text))

    @property
    def has_markers(self) -> bool:
        """Whether its answers hold anything but content."""
        wrapper = self._wrapper
        return bool(wrapper.has_thinking or wrapper.structural_markers or wrapper.response_transitions)

    def tool_format(self, tools: Sequence[str]) -> ToolFormat | None:
        """How this model calls the given tools, or None if it does not."""
        if not self.has_tools:
            return None
        wrapper = self._wrapper
        return tool_format(
            wrapper.tool_parser, str(wrapper.tool_call_start), str(wrapper.tool_call_end or ""), tools
        )

    def splitter(self, tools: bool, reasoning: bool) -> "MarkerSplitter":
        """For one answer, with the model's tool markers or without."""
        start = self._wrapper.response_initial_state or ("reasoning" if reasoning else "normal")
        return MarkerSplitter(cast(Machine, make_text_state_machine(_Markers(self._wrapper, tools))), start)


class Encoded:
    """A text's tokens."""

    def __init__(self, encoding: _Encoding) -> None:
        self._encoding = encoding
        self.tokens = [int(token) for token in encoding["input_ids"]]

    def token_at(self, character: int) -> int | None:
        """The place of the token that this character is in; None where that can't be told."""
        return self._encoding.char_to_token(character) if self._encoding.is_fast else None


class _Markers:
    """A tokenizer's markers as mlx-lm asks for them, without those of calls where no tool is offered."""

    def __init__(self, wrapper: _Wrapper, tools: bool) -> None:
        self.has_thinking = wrapper.has_thinking
        self.think_start = wrapper.think_start
        self.think_end = wrapper.think_end
        self.has_tool_calling = tools and wrapper.has_tool_calling
        self.tool_call_start = wrapper.tool_call_start
        self.tool_call_end = wrapper.tool_call_end
        self.structural_markers = wrapper.structural_markers
        self.response_transitions = {
            state: [edge for edge in edges if self.has_tool_calling or edge[1] != "tool"]
            for state, edges in wrapper.response_transitions.items()
        }


class MarkerSplitter:
    """mlx-lm's TextStateMachine on one answer."""

    def __init__(self, machine: Machine, start: str) -> None:
        self._state = machine.make_state(start)

    @property
    def channel(self) -> Channel:
        return _CHANNELS.get(self._state[0], Channel.HIDDEN)

    @property
    def held(self) -> int:
        return len(self._state[3])

    def split(self, text: str) -> list[Segment]:
        self._state, segments = TextStateMachine.split(self._state, text)
        return [Segment(_CHANNELS.get(state, Channel.HIDDEN), part) for state, part in segments]

    def flush(self) -> str:
        self._state, text, _ = TextStateMachine.flush(self._state)
        return str(text)


def _tokenizer_defaults(folder: Path) -> object:
    """What mlx-lm knows of a tokenizer beyond its folder; a newer version may not tell."""
    defaults = getattr(utils, "_tokenizer_defaults", None)
    return defaults(folder) if defaults else None


def _spelling(decoder: Mapping[str, object]) -> tuple[Spelling, bool]:
    """From the description of a `tokenizers` decoder, which may be a sequence of several."""
    parts = cast("list[dict[str, str]]", decoder.get("decoders", [decoder]))
    kinds = {part["type"] for part in parts}
    if kinds <= {"ByteLevel"}:
        return Spelling.BYTE_LEVEL, False
    if kinds <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"} and kinds & {
        "ByteFallback",
        "Metaspace",
    }:
        return Spelling.SENTENCEPIECE, bool(kinds & {"Strip", "Metaspace"})
    return Spelling.OPAQUE, False
