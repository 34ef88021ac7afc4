"""Looks at what is submitted, before it gets near the batch: checks, counts tokens, works out limits."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from bus.messages.engine import Submit
from bus.messages.generation import (
    CallFormat,
    ChatPrompt,
    Format,
    InfillPrompt,
    Prompt,
    Refusal,
    RefusalCode,
    TextPrompt,
    TokenPrompt,
)
from bus.trail import trail_of
from engine.constraints.errors import GrammarError
from engine.steps.decoding import RANGES, Decoding
from engine.text.infill import NoInfill, Pieces, infill
from engine.text.template import ChatTemplate, Rendered, Renderer, TemplateError, continues
from engine.work import Job

MOST_LOGPROBS: Final = 20
MOST_SCORES: Final = 1 << 18
"""Log-probabilities of a prompt's own tokens and of their rivals: one message carries them all, and each is
some 50 of its 16 Mi bytes."""


class Rejected(Exception):
    """What was submitted can't be generated; the refusal says why."""

    def __init__(self, message: str, param: str | None, code: RefusalCode = RefusalCode.INVALID) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message, param)


class Tokens(Renderer, Pieces, Protocol):
    """The part of a tokenizer that an intake needs."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...


class Grammars(Protocol):
    """Knows which formats answers can be held to."""

    def check(
        self, format: Format | None, tools: Sequence[str] = (), reasoning_tokens: int | None = None
    ) -> None:
        """Raises GrammarError for one that they can't."""


class Intake:
    """Makes jobs of submissions, for one model."""

    def __init__(
        self,
        tokenizer: Tokens,
        context: int,
        vocabulary: int,
        habits: Decoding | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        grammars: Grammars | None = None,
        room: Callable[[], int | None] = lambda: None,
        embeds: bool = False,
    ) -> None:
        """`context` in tokens, prompt and answer together; `vocabulary`: how many token ids there are;
        `habits`: how the model is decoded where a request does not say; `grammars`: None, if answers can't
        be held to any format; `room`: how many tokens the memory for KV cache has place for at best, None
        where that is not bounded; `embeds`: the model was made for embeddings."""
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        self._context = context
        self._vocabulary = vocabulary
        self._habits = habits or Decoding()
        self._clock = clock
        self._grammars = grammars
        self._room = room
        self._embeds = embeds

    def accept(self, submit: Submit) -> Job:
        """Raises Rejected."""
        decoding = self._habits.settle(submit.sampling)
        check(decoding, self._vocabulary)
        _check_wishes(submit)
        if submit.embed and not self._embeds:
            raise Rejected(
                "This model was not made for embeddings (its folder has no 1_Pooling/config.json): ask one "
                "that was.",
                "model",
            )
        chat = submit.prompt if isinstance(submit.prompt, ChatPrompt) else None
        tools = chat.tools if chat else ()
        self._check_format(submit, tools)
        prompt = self._read(submit)
        _check_scores(submit, len(prompt.tokens))
        return Job(
            sequence=submit.sequence,
            tokens=prompt.tokens + self._known(submit.resume),
            arrived_s=self._clock(),
            max_tokens=0 if submit.embed else self._limit(submit, len(prompt.tokens)),
            decoding=decoding,
            stop=tuple(stop for stop in submit.stopping.stop if stop),
            ignore_eos=submit.stopping.ignore_eos,
            min_tokens=submit.stopping.min_tokens,
            logprobs=submit.logprobs,
            echo=self._echo(submit.prompt) if submit.echo else "",
            parsed=chat is not None,
            tools=tools,
            reasoning=prompt.reasoning,
            continues=chat is None or continues(chat),
            resumed=len(submit.resume),
            format=submit.format,
            reasoning_tokens=submit.stopping.reasoning_tokens,
            calls=submit.stopping.calls,
            priority=submit.priority,
            embed=submit.embed,
            prompt_logprobs=submit.echo and submit.logprobs is not None and not submit.resume,
            marks=prompt.marks,
            trail=trail_of(submit.prompt),
        )

    # -- the prompt ------------------------------------------------------------------------------

    def _read(self, submit: Submit) -> Rendered:
        """The prompt, if there is room for it."""
        param = "messages" if isinstance(submit.prompt, ChatPrompt) else "prompt"
        prompt = self._rendered(submit.prompt, submit.stopping.reasoning_tokens)
        count, room = len(prompt.tokens), self._room()
        if not count:
            raise Rejected("The prompt is empty: there is nothing to continue.", param)
        if count >= self._context:
            raise Rejected(
                f"This model's context is {self._context} tokens, prompt and answer together; the prompt "
                f"alone has {count}. Shorten it by {count - self._context + 1} or more.",
                param,
                RefusalCode.CONTEXT_LENGTH,
            )
        if room is not None and room < 2:
            raise Rejected(
                "The memory for this model's KV cache has no room for a single answer: give it more "
                "(--kv-memory, or kv_bytes of its instance), or place a smaller model.",
                None,
                RefusalCode.DOES_NOT_FIT,
            )
        if room is not None and count >= room:
            raise Rejected(
                f"The memory that this model has for its KV cache holds {room} tokens, prompt and answer "
                f"together; the prompt alone has {count}. Shorten it by {count - room + 1} or more, or give "
                "the model more memory.",
                param,
                RefusalCode.CONTEXT_LENGTH,
            )
        return prompt

    def _rendered(self, prompt: Prompt, reasoning_tokens: int | None) -> Rendered:
        match prompt:
            case ChatPrompt():
                try:
                    return self._template.render(prompt, reasoning_tokens)
                except TemplateError as error:
                    raise Rejected(str(error), error.param) from error
            case TextPrompt(text=text):
                return Rendered(self._tokenizer.encode(text) if text else [])
            case TokenPrompt(tokens=tokens):
                return Rendered(self._known(tokens))
            case InfillPrompt():
                try:
                    return Rendered(infill(prompt, self._tokenizer))
                except NoInfill as error:
                    raise Rejected(str(error), "suffix") from error

    def _known(self, tokens: Sequence[int]) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._vocabulary:
                raise Rejected(
                    f"{token} is no token: this model has the ids 0 to {self._vocabulary - 1}.", "prompt"
                )
        return list(tokens)

    def _echo(self, prompt: Prompt) -> str:
        match prompt:
            case TextPrompt(text=text) | InfillPrompt(prefix=text):
                return text
            case TokenPrompt(tokens=tokens):
                return self._tokenizer.decode(tokens)
            case ChatPrompt():
                return ""

    # -- the answer ------------------------------------------------------------------------------

    def _limit(self, submit: Submit, prompt_tokens: int) -> int:
        """How long the answer may become."""
        wished, room = submit.stopping.max_tokens, self._room()
        left = self._context - prompt_tokens
        if wished is None:
            return left if room is None else min(left, room - prompt_tokens)
        if room is not None and prompt_tokens + min(wished, left) > room:
            raise Rejected(
                f"The memory that this model has for its KV cache holds {room} tokens, prompt and answer "
                f"together; the prompt has {prompt_tokens}, and max_tokens asks for {min(wished, left)} "
                f"more. Ask for {room - prompt_tokens} at most, or give the model more memory.",
                "max_tokens",
                RefusalCode.CONTEXT_LENGTH,
            )
        return min(wished, left)

    def _check_format(self, submit: Submit, tools: Sequence[str]) -> None:
        format, budget = submit.format, submit.stopping.reasoning_tokens
        if format is None and budget is None:
            return
        param = "response_format" if format is not None else "reasoning"
        if isinstance(format, CallFormat):
            param = "tool_choice"
            _check_call(format, tools)
        if self._grammars is None:
            raise Rejected("The answers of this model can't be held to a format.", param)
        try:
            self._grammars.check(format, tools, budget)
        except GrammarError as error:
            raise Rejected(str(error), param) from error


def _check_call(format: CallFormat, tools: Sequence[str]) -> None:
    if not tools:
        raise Rejected("A tool is to be called, but none is offered: send tools.", "tool_choice")
    names = {_name(tool) for tool in tools}
    if format.function and format.function not in names:
        raise Rejected(
            f"{format.function} is to be called, but the tools that are offered are "
            f"{', '.join(sorted(names))}.",
            "tool_choice",
        )


def _name(tool: str) -> str:
    """Of a function, from its definition in OpenAI's form."""
    try:
        return msgspec.json.decode(tool, type=_Tool).function.name
    except msgspec.MsgspecError as error:
        raise Rejected(f"tools holds what is no function's definition: {error}", "tools") from error


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


def _check_wishes(submit: Submit) -> None:
    stopping = submit.stopping
    if submit.logprobs is not None and not 0 <= submit.logprobs <= MOST_LOGPROBS:
        raise Rejected(f"At most {MOST_LOGPROBS} log-probabilities per token can be had.", "top_logprobs")
    if stopping.max_tokens is not None and stopping.max_tokens < 0:
        raise Rejected("max_tokens can't be negative.", "max_tokens")
    if stopping.min_tokens < 0:
        raise Rejected("min_tokens can't be negative.", "min_tokens")
    if stopping.reasoning_tokens is not None and stopping.reasoning_tokens < 0:
        raise Rejected("Reasoning can't have less than 0 tokens.", "reasoning_tokens")
    if stopping.calls is not None and stopping.calls < 1:
        raise Rejected("An answer can't end before its first call.", "tool_choice")
    if submit.echo and submit.logprobs is not None and isinstance(submit.prompt, InfillPrompt):
        raise Rejected("A prompt with a suffix can't be echoed with its log-probabilities.", "echo")


def _check_scores(submit: Submit, prompt_tokens: int) -> None:
    """Before they are computed: a long prompt takes its time."""
    if not submit.echo or submit.logprobs is None:
        return
    most = MOST_SCORES // (1 + submit.logprobs)
    if prompt_tokens > most:
        raise Rejected(
            f"With {submit.logprobs} rivals each, log-probabilities of at most {most} of a prompt's tokens "
            f"can be told; this one has {prompt_tokens}. Ask for fewer rivals, or send a shorter prompt.",
            "logprobs",
        )


def check(decoding: Decoding, vocabulary: int) -> None:
    """Raises Rejected for settings that have no meaning. An API may be narrower."""
    _check("temperature", decoding.temperature)
    _check("top_p", decoding.top_p)
    _check("min_p", decoding.min_p)
    _check("top_k", decoding.top_k)
    _check("repetition_penalty", decoding.repetition_penalty)
    _check("presence_penalty", decoding.presence_penalty)
    _check("frequency_penalty", decoding.frequency_penalty)
    for token, bias in decoding.logit_bias.items():
        if not 0 <= token < vocabulary:
            raise Rejected(
                f"logit_bias names token {token}; this model has the ids 0 to {vocabulary - 1}.", "logit_bias"
            )
        _check("logit_bias", bias)


def _check(param: str, value: float) -> None:
    least, most = RANGES[param]
    if not math.isfinite(value):
        raise Rejected(f"{param} must be a finite number.", param)
    if not least <= value <= most:
        also = f" and at most {most:g}" if math.isfinite(most) else ""
        raise Rejected(f"{param} must be {least:g} or more{also}.", param)
