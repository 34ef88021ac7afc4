"""Whether and how much a model reasons, said in the words of its own chat template."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Final

from jinja2 import Environment, TemplateError, meta, nodes

SWITCHES: Final = ("enable_thinking", "thinking")
"""Variables that are true or false: the one of Qwen, GLM, Nemotron and SmolLM, and that of DeepSeek, Granite
and Kimi."""
EFFORT: Final = "reasoning_effort"
"""A word: of gpt-oss and of Mistral."""
BUDGET: Final = "thinking_budget"
"""Tokens, 0 for none: of Seed-OSS."""
VARIABLES: Final = frozenset({*SWITCHES, EFFORT, BUDGET})
NONE: Final = "none"
LITTLE: Final = "low"

_GENERATION: Final = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Tags of transformers' own that mark what was generated, and change nothing."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a chat template's source tells about it."""

    variables: frozenset[str] = frozenset()
    """What it looks up that may be given to it."""
    words: frozenset[str] = frozenset()
    """Text that stands in its expressions."""
    source: str = ""


@lru_cache(maxsize=8)
def template_of(source: str) -> Template:
    """From Jinja source; of one that can't be read, nothing is known."""
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", source))
    except TemplateError:
        return Template(source=source)
    words = frozenset(each.value for each in tree.find_all(nodes.Const) if isinstance(each.value, str))
    return Template(frozenset(meta.find_undeclared_variables(tree)), words, source)


def template_of_function(function: FunctionType) -> Template:
    """Of a template that is a function, as mlx-lm has for models that come without one."""
    code = function.__code__
    words = frozenset(each for each in code.co_consts if isinstance(each, str))
    # mlx-lm's functions take this one among others, whatever the model calls it.
    variables = {*code.co_varnames[: code.co_argcount], *({SWITCHES[0]} & words)}
    return Template(frozenset(variables), words, "\n".join(words))


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a model's reasoning."""

    thinking: bool | None = None
    effort: str | None = None
    tokens: int | None = None
    """The most that may be spent on it."""

    @property
    def settled(self) -> bool | None:
        """Whether it is to reason: who asks for an effort asks for reasoning, unless it is none."""
        if self.thinking is None and self.effort is not None:
            return self.effort != NONE
        return self.thinking


def options(wish: Wish, template: Template) -> dict[str, object]:
    """What to give the template; what it has no variable for is left out."""
    thinking = wish.settled
    given: dict[str, object] = {}
    if thinking is not None:
        given = {name: thinking for name in SWITCHES if name in template.variables}
    if thinking is False:
        given |= _as_little_as_possible(template, switched=bool(given))
    else:
        if EFFORT in template.variables and wish.effort not in (None, NONE):
            given[EFFORT] = wish.effort
        if BUDGET in template.variables and wish.tokens is not None:
            given[BUDGET] = wish.tokens
    return given


def _as_little_as_possible(template: Template, switched: bool) -> dict[str, object]:
    given: dict[str, object] = {}
    if BUDGET in template.variables:
        given[BUDGET] = 0
    if EFFORT in template.variables and NONE in template.words:
        given[EFFORT] = NONE
    elif EFFORT in template.variables and not (switched or given):
        given[EFFORT] = LITTLE
    return given


def can_switch_off(given: Mapping[str, object]) -> bool:
    """Whether these options end reasoning in a template that has them."""
    return (
        any(given.get(name) is False for name in SWITCHES)
        or given.get(BUDGET) == 0
        or given.get(EFFORT) == NONE
    )


def is_inside(text: str, markers: tuple[str, str]) -> bool:
    """Whether a text ends between these markers."""
    return text.rfind(markers[0]) > text.rfind(markers[1])


def closed(text: str, markers: tuple[str, str], inside: bool, template: Template, switched: bool) -> str:
    """A prompt after which there is no reasoning: what its template has opened (it ends `inside`) is closed,
    and where it can't be told (`switched` is false) and writes reasoning at all, an empty block is put in, as
    Qwen3 has it."""
    start, end = markers
    if inside:
        return f"{text.removesuffix(chr(10))}\n\n{end}\n\n"
    if switched or not (start in template.source or end in template.source):
        return text
    return f"{text}{start}\n\n{end}\n\n"
