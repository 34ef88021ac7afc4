"""From a checked body to an Order: pure functions, the only place where a body's fields get their meaning."""

from api.conversation import chat_prompt
from api.errors import invalid, not_served
from api.schema import INT32_MAX, ChatBody, CompletionBody, GenerationBody
from bus.messages.base import ModelId, RequestId
from bus.messages.generation import Prompt, Sampling, Stopping, TextPrompt, TokenPrompt
from bus.messages.request import Order

MAX_STOPS = 16
MAX_ANSWERS = 256
"""Prompts times `n`."""


def chat_order(body: ChatBody, request: RequestId) -> Order:
    """What a chat body asks for. Raises ApiError 400."""
    _refuse_unserved_chat(body)
    if body.top_logprobs and not body.logprobs:
        raise invalid("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    limit = ("max_completion_tokens", body.max_completion_tokens)
    return Order(
        request=request,
        model=ModelId(body.model),
        prompts=(chat_prompt(body),),
        n=body.n or 1,
        sampling=_sampling(body),
        stopping=_stopping(body, limit if limit[1] is not None else ("max_tokens", body.max_tokens)),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        timeout_s=body.timeout,
    )


def completion_order(body: CompletionBody, request: RequestId) -> Order:
    """What a completion body asks for. Raises ApiError 400."""
    _refuse_unserved_completion(body)
    prompts = _prompts(body.prompt)
    if len(prompts) * (body.n or 1) > MAX_ANSWERS:
        raise invalid(f"At most {MAX_ANSWERS} answers (prompts times `n`) in one request.", "prompt")
    return Order(
        request=request,
        model=ModelId(body.model),
        prompts=prompts,
        n=body.n or 1,
        sampling=_sampling(body),
        stopping=_stopping(body, ("max_tokens", body.max_tokens)),
        logprobs=body.logprobs,
        echo=bool(body.echo),
        timeout_s=body.timeout,
    )


# -- what is refused -----------------------------------------------------------------------------


def _refuse_unserved_chat(body: ChatBody) -> None:
    match body.tool_choice:
        case None | "auto" | "none":
            pass
        case "required" | dict():
            raise not_served("tool_choice", "Forcing a tool call is")
        case _:
            raise invalid("Use 'auto' or 'none'.", "tool_choice")
    if body.response_format is not None and body.response_format.type != "text":
        raise not_served("response_format", "Answers held to a format are")
    if any(modality != "text" for modality in body.modalities or ()):
        raise not_served("modalities", "Modalities other than text are")
    if body.audio is not None:
        raise not_served("audio", "Audio is")
    if body.moderation is not None:
        raise not_served("moderation", "Moderation is")
    if body.web_search_options is not None:
        raise not_served("web_search_options", "Web search is")
    if body.functions:
        raise not_served("functions", "The old form of tools is (use `tools`)")
    if body.function_call not in (None, "none", "auto"):
        raise not_served("function_call", "Forcing a function call is")


def _refuse_unserved_completion(body: CompletionBody) -> None:
    if body.suffix:
        raise not_served("suffix", "Filling in before a suffix is")
    if body.echo and body.logprobs is not None:
        raise not_served("logprobs", "Logprobs of an echoed prompt are")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise not_served("best_of", "Choosing the best of several answers is")


# -- prompts -------------------------------------------------------------------------------------


def _prompts(prompt: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """One text, several texts, one list of token ids, or several."""
    if isinstance(prompt, str):
        return (TextPrompt(prompt),)
    if not prompt:
        raise invalid("An empty list is not a prompt.", "prompt")
    if isinstance(prompt[0], int):
        return (_token_prompt([item for item in prompt if isinstance(item, int)], len(prompt)),)
    prompts: list[Prompt] = []
    for item in prompt:
        match item:
            case str() if isinstance(prompt[0], str):
                prompts.append(TextPrompt(item))
            case list() if isinstance(prompt[0], list):
                prompts.append(_token_prompt(item, len(item)))
            case _:
                raise _mixed()
    return tuple(prompts)


def _token_prompt(tokens: list[int], length: int) -> TokenPrompt:
    if len(tokens) != length:
        raise _mixed()
    if not tokens:
        raise invalid("An empty list is not a prompt.", "prompt")
    if not all(0 <= token <= INT32_MAX for token in tokens):
        raise invalid("A token id is not in the vocabulary.", "prompt")
    return TokenPrompt(tuple(tokens))


def _mixed() -> Exception:
    return invalid("A prompt is a text, token ids, or a list of one of the two.", "prompt")


# -- sampling and stopping -----------------------------------------------------------------------


def _sampling(body: GenerationBody) -> Sampling:
    """What the body does not say is left to the model's own habits."""
    repetition = body.repetition_penalty if body.repetition_penalty is not None else body.repeat_penalty
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(0, body.top_k),
        min_p=body.min_p,
        repetition_penalty=repetition,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_logit_bias(body.logit_bias or {}),
        seed=_seed(body.seed),
    )


def _logit_bias(biases: dict[str, float]) -> dict[int, float]:
    """Keys are token ids in decimal; whether the vocabulary has them, the engine knows."""
    bias = {}
    for key, value in biases.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 11 and int(key) <= INT32_MAX):
            raise invalid("The keys of `logit_bias` are token ids.", "logit_bias")
        bias[int(key)] = value
    return bias


def _seed(seed: int | None) -> int | None:
    """Any 64-bit integer; a negative one stands for its two's complement."""
    if seed is None:
        return None
    if not -(2**63) <= seed < 2**64:
        raise invalid("A seed is an integer of 64 bits.", "seed")
    return seed % 2**64


def _stopping(body: GenerationBody, limit: tuple[str, int | None]) -> Stopping:
    param, max_tokens = limit
    if max_tokens == 0:
        raise invalid("At least 1, or -1 for no limit.", param)
    if body.min_tokens and not body.ignore_eos:
        raise not_served("min_tokens", "A least number of tokens is (`ignore_eos` is)")
    return Stopping(
        max_tokens=None if max_tokens == -1 else max_tokens,
        stop=_stops(body.stop),
        ignore_eos=bool(body.ignore_eos),
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings without the empty ones and repetitions."""
    texts = [stop] if isinstance(stop, str) else stop or []
    if len(texts) > MAX_STOPS:
        raise invalid(f"At most {MAX_STOPS} stop strings.", "stop")
    return tuple(dict.fromkeys(text for text in texts if text))
