"""Looks at what is submitted, before it gets near the batch: checks, counts tokens, works out limits."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bus.messages.engine import Submit
from bus.messages.generation import (
    ChatPrompt,
    Prompt,
    Refusal,
    RefusalCode,
    TextPrompt,
    TokenPrompt,
)
from engine.decoding import Decoding
from engine.template import Renderer, TemplateError, continues, render
from engine.work import Job

MOST_LOGPROBS: Final = 20
STRONGEST_BIAS: Final = 1e4


class Rejected(Exception):
    """What was submitted can't be generated; the refusal says why."""

    def __init__(self, message: str, param: str | None, code: RefusalCode = RefusalCode.INVALID) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message, param)


class Tokens(Renderer, Protocol):
    """The part of a tokenizer that an intake needs."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def opens_reasoning(self, tokens: Sequence[int]) -> bool: ...


class Intake:
    """Makes jobs of submissions, for one model."""

    def __init__(
        self,
        tokenizer: Tokens,
        context: int,
        vocabulary: int,
        habits: Decoding | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`context` in tokens, prompt and answer together; `vocabulary`: how many token ids there are;
        `habits`: how the model is decoded where a request does not say."""
        self._tokenizer = tokenizer
        self._context = context
        self._vocabulary = vocabulary
        self._habits = habits or Decoding()
        self._clock = clock

    def accept(self, submit: Submit) -> Job:
        """Raises Rejected."""
        decoding = self._habits.settle(submit.sampling)
        check(decoding, self._vocabulary)
        if submit.logprobs is not None and not 0 <= submit.logprobs <= MOST_LOGPROBS:
            raise Rejected(f"At most {MOST_LOGPROBS} log-probabilities per token can be had.", "top_logprobs")
        tokens = self._tokens(submit.prompt)
        chat = submit.prompt if isinstance(submit.prompt, ChatPrompt) else None
        return Job(
            sequence=submit.sequence,
            tokens=tokens + self._known(submit.resume),
            arrived_s=self._clock(),
            max_tokens=self._limit(submit, len(tokens)),
            decoding=decoding,
            stop=tuple(stop for stop in submit.stopping.stop if stop),
            ignore_eos=submit.stopping.ignore_eos,
            logprobs=submit.logprobs,
            echo=self._echo(submit.prompt) if submit.echo else "",
            parsed=chat is not None,
            tools=chat.tools if chat else (),
            reasoning=chat is not None and self._tokenizer.opens_reasoning(tokens),
            continues=chat is None or continues(chat),
            resumed=len(submit.resume),
        )

    def _tokens(self, prompt: Prompt) -> list[int]:
        param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        tokens = self._read(prompt)
        if not tokens:
            raise Rejected("The prompt is empty: there is nothing to continue.", param)
        if len(tokens) >= self._context:
            raise Rejected(
                f"This model's context is {self._context} tokens, prompt and answer together; the prompt "
                f"alone has {len(tokens)}. Shorten it by {len(tokens) - self._context + 1} or more.",
                param,
                RefusalCode.CONTEXT_LENGTH,
            )
        return tokens

    def _read(self, prompt: Prompt) -> list[int]:
        match prompt:
            case ChatPrompt():
                return self._rendered(prompt)
            case TextPrompt(text=text):
                return self._tokenizer.encode(text) if text else []
            case TokenPrompt(tokens=tokens):
                return self._known(tokens)

    def _rendered(self, prompt: ChatPrompt) -> list[int]:
        try:
            return render(prompt, self._tokenizer)
        except TemplateError as error:
            raise Rejected(str(error), error.param) from error

    def _known(self, tokens: Sequence[int]) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._vocabulary:
                raise Rejected(
                    f"{token} is no token: this model has the ids 0 to {self._vocabulary - 1}.", "prompt"
                )
        return list(tokens)

    def _limit(self, submit: Submit, prompt_tokens: int) -> int:
        room = self._context - prompt_tokens
        wished = submit.stopping.max_tokens
        if wished is None:
            return room
        if wished < 0:
            raise Rejected("max_tokens can't be negative.", "max_tokens")
        return min(wished, room)

    def _echo(self, prompt: Prompt) -> str:
        match prompt:
            case TextPrompt(text=text):
                return text
            case TokenPrompt(tokens=tokens):
                return self._tokenizer.decode(tokens)
            case ChatPrompt():
                return ""


def check(decoding: Decoding, vocabulary: int) -> None:
    """Raises Rejected for settings that have no meaning. Ranges are those within which sampling is defined;
    an API may be narrower."""
    _check("temperature", decoding.temperature, 0.0, math.inf)
    _check("top_p", decoding.top_p, 0.0, 1.0)
    _check("min_p", decoding.min_p, 0.0, 1.0)
    _check("top_k", decoding.top_k, 0, math.inf)
    _check("repetition_penalty", decoding.repetition_penalty, 0.0, math.inf, open_below=True)
    _check("presence_penalty", decoding.presence_penalty, -math.inf, math.inf)
    _check("frequency_penalty", decoding.frequency_penalty, -math.inf, math.inf)
    for token, bias in decoding.logit_bias.items():
        if not 0 <= token < vocabulary:
            raise Rejected(
                f"logit_bias names token {token}; this model has the ids 0 to {vocabulary - 1}.", "logit_bias"
            )
        _check("logit_bias", bias, -STRONGEST_BIAS, STRONGEST_BIAS)


def _check(param: str, value: float, least: float, most: float, open_below: bool = False) -> None:
    if not math.isfinite(value):
        raise Rejected(f"{param} must be a finite number.", param)
    if not least <= value <= most or (open_below and value == least):
        bounds = f"more than {least:g}" if open_below else f"{least:g} or more"
        raise Rejected(
            f"{param} must be {bounds}" + (f" and at most {most:g}." if math.isfinite(most) else "."), param
        )
