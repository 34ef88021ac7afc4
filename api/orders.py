"""From a checked body to an Order: pure functions, the only place where a body's fields get their meaning."""

from api.conversation import chat_prompt
from api.errors import invalid, not_served
from api.formats import format_of
from api.prompts import infill_prompts, prompts_of
from api.reasoning import reasoning_wish
from api.schema import INT32_MAX, ChatBody, CompletionBody, EmbeddingBody, GenerationBody
from api.tools import offer_of
from bus.messages.base import ModelId, RequestId
from bus.messages.generation import Prompt, Sampling, Stopping, TextPrompt
from bus.messages.request import Order

MAX_STOPS = 16
MAX_ANSWERS = 256
"""Prompts times `n`."""
MAX_INPUTS = 2048
"""Of one request for embeddings, as at OpenAI."""


def chat_order(body: ChatBody, request: RequestId) -> Order:
    """What a chat body asks for. Raises ApiError 400.

    Where a tool has to be called, there is no text that a format could be about: the call is what counts.
    """
    _refuse_unserved_chat(body)
    if body.top_logprobs and not body.logprobs:
        raise invalid("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    limit = ("max_completion_tokens", body.max_completion_tokens)
    limit = limit if limit[1] is not None else ("max_tokens", body.max_tokens)
    offer, wish, format = offer_of(body), reasoning_wish(body), format_of(body)
    return Order(
        request=request,
        model=ModelId(body.model),
        prompts=(chat_prompt(body, offer.tools, wish),),
        n=body.n or 1,
        sampling=_sampling(body),
        stopping=_stopping(body, limit, reasoning_tokens=wish.tokens, calls=offer.calls),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        timeout_s=body.timeout,
        format=offer.format or format,
        priority=_priority(body.priority),
    )


def completion_order(body: CompletionBody, request: RequestId) -> Order:
    """What a completion body asks for. Raises ApiError 400.

    Where the best of more answers than are told are wanted, all of them are made, and log-probabilities
    with them, which say what is best.
    """
    answers, chooses = _candidates(body), chooses_best(body)
    prompts = _completion_prompts(body)
    if len(prompts) * answers > MAX_ANSWERS:
        which = "best_of" if chooses else "n"
        raise invalid(f"At most {MAX_ANSWERS} answers (prompts times `{which}`) in one request.", "prompt")
    return Order(
        request=request,
        model=ModelId(body.model),
        prompts=prompts,
        n=answers,
        sampling=_sampling(body),
        stopping=_stopping(body, ("max_tokens", body.max_tokens), least=0 if body.echo else 1),
        logprobs=0 if chooses and body.logprobs is None else body.logprobs,
        echo=bool(body.echo),
        timeout_s=body.timeout,
        format=format_of(body),
        priority=_priority(body.priority),
    )


def chooses_best(body: CompletionBody) -> bool:
    """Whether more answers are made than told: the best `n` of `best_of`."""
    return body.best_of is not None and body.best_of > (body.n or 1)


def embedding_order(body: EmbeddingBody, request: RequestId) -> Order:
    """What a body asks to have embedded. Raises ApiError 400."""
    prompts = prompts_of(body.input, "input")
    if len(prompts) > MAX_INPUTS:
        raise invalid(f"At most {MAX_INPUTS} inputs in one request.", "input")
    if TextPrompt("") in prompts:
        raise invalid("An empty text has no embedding.", "input")
    return Order(
        request=request,
        model=ModelId(body.model),
        prompts=prompts,
        priority=_priority(body.priority),
        embed=True,
    )


def _priority(asked: int | None) -> int:
    """vLLM's order, in which the lower is the earlier, as ours, in which the higher is."""
    return -(asked or 0)


def _candidates(body: CompletionBody) -> int:
    """How many answers are made to each prompt."""
    answers = body.n or 1
    if body.best_of is None:
        return answers
    if body.best_of < answers:
        raise invalid(f"`best_of` is less than `n`, which is {answers}.", "best_of")
    if body.stream and chooses_best(body):
        raise invalid(
            "Which answers are the best is known when all of them are whole: leave `stream` out, or "
            "`best_of`.",
            "best_of",
        )
    return body.best_of


def _completion_prompts(body: CompletionBody) -> tuple[Prompt, ...]:
    prompts = prompts_of(body.prompt, "prompt")
    if not body.suffix:
        return prompts
    if body.echo:
        raise invalid("What is filled in before a suffix can't be echoed.", "echo")
    return infill_prompts(prompts, body.suffix)


# -- what is refused -----------------------------------------------------------------------------


def _refuse_unserved_chat(body: ChatBody) -> None:
    if any(modality != "text" for modality in body.modalities or ()):
        raise not_served("modalities", "Modalities other than text are")
    if body.audio is not None:
        raise not_served("audio", "Audio is")
    if body.moderation is not None:
        raise not_served("moderation", "Moderation is")
    if body.web_search_options is not None:
        raise not_served("web_search_options", "Web search is")


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


def _stopping(
    body: GenerationBody,
    limit: tuple[str, int | None],
    least: int = 1,
    reasoning_tokens: int | None = None,
    calls: int | None = None,
) -> Stopping:
    """`limit`: the field that the most tokens came in, and how many; 0 is enough to score a prompt."""
    param, max_tokens = limit
    if max_tokens is not None and -1 < max_tokens < least:
        raise invalid(f"At least {least}, or -1 for no limit.", param)
    if body.min_tokens and max_tokens is not None and -1 < max_tokens < body.min_tokens:
        raise invalid(f"More than `{param}` allows, which is {max_tokens}.", "min_tokens")
    return Stopping(
        max_tokens=None if max_tokens == -1 else max_tokens,
        stop=_stops(body.stop),
        ignore_eos=bool(body.ignore_eos),
        reasoning_tokens=reasoning_tokens,
        calls=calls,
        min_tokens=body.min_tokens or 0,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings without the empty ones and repetitions."""
    texts = [stop] if isinstance(stop, str) else stop or []
    if len(texts) > MAX_STOPS:
        raise invalid(f"At most {MAX_STOPS} stop strings.", "stop")
    return tuple(dict.fromkeys(text for text in texts if text))
