"""MLX's and mlx-lm's untyped side: the one file where they are touched without types.

What comes out of it is typed: a network, a tokenizer, a generator that computes a step at a time.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx_lm import tokenizer_utils, utils
from mlx_lm.generate import BatchGenerator, TextStateMachine, make_text_state_machine

from engine.detokenizer import Spelling
from engine.reply import Call, Channel, Segment, ToolFormat, as_call

logger = logging.getLogger(__name__)

Sampler = Callable[[mx.array], mx.array]
Processor = Callable[[mx.array, mx.array], mx.array]

_ENDLESS: Final = 1 << 62
"""Tokens: sequences are ended by who watches them, not by the generator."""

_CHANNELS: Final = {"normal": Channel.CONTENT, "reasoning": Channel.REASONING, "tool": Channel.TOOL}


# -- the model -----------------------------------------------------------------------------------


class Network:
    """A model whose weights are read when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises what mlx-lm raises for folders and files that it can't read."""
        self.model: Any
        self.model, self.config = utils.load_model(folder, lazy=True)

    def materialise(self, progress: Callable[[int, int], None]) -> None:
        """Read the weights, layer by layer; `progress` is told how many of how many layers are there."""
        layers = list(self.model.layers)
        for done, layer in enumerate(layers):
            progress(done, len(layers))
            mx.eval(layer.parameters())
        mx.eval(self.model.parameters())
        progress(len(layers), len(layers))


# -- computing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a sequence's prompt is computed."""

    uid: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The next token of a sequence. `logprobs`: [vocabulary], computed already."""

    uid: int
    token: int
    logprobs: mx.array


class Kept:
    """What is computed of a prompt whose prefill gave way to another's."""

    def __init__(self, cache: Any, done: int) -> None:
        self.cache = cache
        self.done = done


class Generator:
    """mlx-lm's BatchGenerator, through what it offers to everybody, one step at a time.

    A step decodes one token for each sequence that has its prompt behind it, lets those join whose prompt
    is computed but for its last token, and prefills a slice of each that is inserted but not so far.
    """

    def __init__(self, network: Network, sampler: Sampler, at_most: int) -> None:
        # Who inserts decides how many run: the generator's own limits are never reached.
        self._generator = BatchGenerator(
            network.model,
            sampler=sampler,
            max_tokens=_ENDLESS,
            completion_batch_size=at_most + 1,
            prefill_batch_size=at_most + 1,
        )

    def insert(self, tokens: list[int], processor: Processor | None, kept: Kept | None) -> int:
        """Have a sequence computed from the next step on, or from where it was when it was put aside."""
        done = kept.done if kept else 0
        (uid,) = self._generator.insert(
            [tokens[done:]],
            logits_processors=[[processor] if processor else None],
            caches=[kept.cache] if kept else None,
            all_tokens=[tokens[:done]],
        )
        return int(uid)

    def put_aside(self, uid: int) -> Kept:
        """Take out a sequence in the middle of its prefill, and keep what is computed."""
        cache, tokens = self._generator.remove([uid], return_prompt_caches=True)[uid]
        return Kept(cache, len(tokens))

    def remove(self, uids: Sequence[int]) -> None:
        """Forget sequences, wherever they stand, and what is kept for them."""
        self._generator.remove(list(uids))

    def step(self, slice_tokens: int) -> tuple[list[Progress], list[Chosen]]:
        """Compute a step; `slice_tokens` of each prompt at most."""
        self._generator.prefill_step_size = slice_tokens
        prompts, generated = self._generator.next()
        return (
            [Progress(response.uid, *response.progress) for response in prompts],
            [Chosen(response.uid, response.token, response.logprobs) for response in generated],
        )

    @property
    def kv_bytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def settle(self) -> None:
        """Wait until nothing is being computed and give back the memory that was kept for reuse."""
        mx.synchronize(self._generator.stream)
        mx.clear_cache()


# -- the tokenizer -------------------------------------------------------------------------------


class Tokenizer:
    """A model's tokenizer with its chat template and its markers."""

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        # Code from a model's folder is not run, and nobody is asked on standard input whether it may.
        self._wrapper: Any = tokenizer_utils.load(
            folder,
            {"trust_remote_code": False, "local_files_only": True},
            eos_token_ids=config.get("eos_token_id"),
            defaults=_tokenizer_defaults(folder),
        )
        self._hf: Any = self._wrapper._tokenizer

    @property
    def eos(self) -> frozenset[int]:
        return frozenset(int(token) for token in self._wrapper.eos_token_ids)

    def __len__(self) -> int:
        return len(self._wrapper)

    def encode(self, text: str) -> list[int]:
        """With the tokens that the tokenizer puts around a text, as most put one before it."""
        return [int(token) for token in self._wrapper.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._wrapper.decode(list(tokens)))

    def pieces(self) -> list[str]:
        """Each token as the tokenizer writes it."""
        pieces = self._hf.convert_ids_to_tokens(list(range(len(self))))
        return ["" if piece is None else str(piece) for piece in pieces]

    def added(self) -> dict[str, int]:
        """Tokens that were added to the vocabulary: literal text."""
        return {str(text): int(token) for text, token in self._hf.get_added_vocab().items()}

    def spelling(self) -> tuple[Spelling, bool]:
        """How tokens are written, and whether an answer's first space is the tokenizer's own."""
        backend = getattr(self._hf, "backend_tokenizer", None)
        if backend is None or backend.decoder is None:
            return Spelling.OPAQUE, False
        return _spelling(json.loads(backend.decoder.__getstate__()))

    @property
    def has_template(self) -> bool:
        return bool(self._wrapper.has_chat_template)

    def render(
        self,
        messages: list[dict[str, object]],
        tools: list[object] | None,
        options: Mapping[str, object],
        continues: bool,
    ) -> list[int]:
        """A conversation as tokens; raises whatever the template raises."""
        tokens = self._wrapper.apply_chat_template(
            messages,
            tools=tools,
            tokenize=True,
            **({"continue_final_message": True} if continues else {"add_generation_prompt": True}),
            **options,
        )
        return [int(token) for token in tokens]

    def opens_reasoning(self, tokens: Sequence[int]) -> bool:
        """Whether a prompt ends inside the model's reasoning."""
        if not self._wrapper.has_thinking:
            return False
        window = list(tokens)
        return bool(self._wrapper.rfind_think_start(window) > self._wrapper.rfind_think_end(window))

    @property
    def has_tools(self) -> bool:
        return bool(self._wrapper.has_tool_calling)

    @property
    def has_markers(self) -> bool:
        """Whether its answers hold anything but content."""
        wrapper = self._wrapper
        return bool(wrapper.has_thinking or wrapper.structural_markers or wrapper.response_transitions)

    def tool_format(self, tools: Sequence[str]) -> ToolFormat | None:
        """How this model calls the given tools, or None if it does not."""
        if not self.has_tools:
            return None
        definitions = [json.loads(tool) for tool in tools]
        parse: Any = self._wrapper.tool_parser

        def read(text: str) -> list[Call]:
            try:
                found = parse(text, definitions)
                return [as_call(call["name"], call.get("arguments")) for call in _as_list(found)]
            except Exception as error:  # a parser meets whatever the model wrote
                raise ValueError(str(error)) from error

        return ToolFormat(str(self._wrapper.tool_call_start), str(self._wrapper.tool_call_end or ""), read)

    def splitter(self, tools: bool, reasoning: bool) -> "MarkerSplitter":
        """For one answer, with the model's tool markers or without."""
        start = self._wrapper.response_initial_state or ("reasoning" if reasoning else "normal")
        return MarkerSplitter(make_text_state_machine(_Markers(self._wrapper, tools)), start)


class _Markers:
    """A tokenizer's markers as mlx-lm asks for them, without those of calls where no tool is offered."""

    def __init__(self, wrapper: Any, tools: bool) -> None:
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

    def __init__(self, machine: Any, start: str) -> None:
        self._state: Any = machine.make_state(start)

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


def _tokenizer_defaults(folder: Path) -> Any:
    """What mlx-lm knows of a tokenizer beyond its folder; a newer version may not tell."""
    defaults = getattr(utils, "_tokenizer_defaults", None)
    return defaults(folder) if defaults else None


def _as_list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _spelling(decoder: dict[str, Any]) -> tuple[Spelling, bool]:
    """From the description of a `tokenizers` decoder, which may be a sequence of several."""
    parts = decoder.get("decoders", [decoder])
    kinds = {part["type"] for part in parts}
    if kinds <= {"ByteLevel"}:
        return Spelling.BYTE_LEVEL, False
    if kinds <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"} and kinds & {
        "ByteFallback",
        "Metaspace",
    }:
        return Spelling.SENTENCEPIECE, bool(kinds & {"Strip", "Metaspace"})
    return Spelling.OPAQUE, False


# -- memory --------------------------------------------------------------------------------------


def active_bytes() -> int:
    """All memory that MLX holds for arrays."""
    return int(mx.get_active_memory())


def cached_bytes() -> int:
    """Freed memory that MLX keeps for reuse."""
    return int(mx.get_cache_memory())


def limit_cache(limit_bytes: int) -> None:
    """How much freed memory MLX may keep for reuse."""
    mx.set_cache_limit(limit_bytes)


def side_stream() -> mx.Stream:
    """A stream beside the one that steps run on: what runs on it waits for no step."""
    return mx.new_stream(mx.cpu)
