"""Prompts that are no conversation: texts and token ids, alone or several, and texts with a gap."""

from collections.abc import Sequence

from api.errors import ApiError, invalid
from api.schema import INT32_MAX, Pieces
from bus.messages.generation import InfillPrompt, Prompt, TextPrompt, TokenPrompt


def prompts_of(pieces: Pieces, param: str) -> tuple[Prompt, ...]:
    """One text, several texts, one list of token ids, or several. Raises ApiError 400."""
    if isinstance(pieces, str):
        return (TextPrompt(pieces),)
    if not pieces:
        raise _empty(param)
    if isinstance(pieces[0], int):
        return (_token_prompt([item for item in pieces if isinstance(item, int)], len(pieces), param),)
    prompts: list[Prompt] = []
    for item in pieces:
        match item:
            case str() if isinstance(pieces[0], str):
                prompts.append(TextPrompt(item))
            case list() if isinstance(pieces[0], list):
                prompts.append(_token_prompt(item, len(item), param))
            case _:
                raise _mixed(param)
    return tuple(prompts)


def infill_prompts(prompts: Sequence[Prompt], suffix: str) -> tuple[Prompt, ...]:
    """Each of the texts with the gap between it and the suffix. Raises ApiError 400."""
    return tuple(_infill(prompt, suffix) for prompt in prompts)


def _infill(prompt: Prompt, suffix: str) -> InfillPrompt:
    if not isinstance(prompt, TextPrompt):
        raise invalid("A suffix needs a prompt that is text.", "suffix")
    return InfillPrompt(prompt.text, suffix)


def _token_prompt(tokens: list[int], length: int, param: str) -> TokenPrompt:
    if len(tokens) != length:
        raise _mixed(param)
    if not tokens:
        raise _empty(param)
    if not all(0 <= token <= INT32_MAX for token in tokens):
        raise invalid("A token id is not in the vocabulary.", param)
    return TokenPrompt(tuple(tokens))


def _empty(param: str) -> ApiError:
    return invalid("An empty list is not a prompt.", param)


def _mixed(param: str) -> ApiError:
    return invalid("A prompt is a text, token ids, or a list of one of the two.", param)
