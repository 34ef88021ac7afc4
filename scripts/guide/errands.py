"""Conversations about tools: which one is called, with what, and what is said of its result."""

import json
import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.guide import words
from scripts.guide.conversation import (
    Call,
    Conversation,
    Tool,
    answer,
    tool_call,
    tool_result,
    user,
)
from scripts.guide.wording import choose

FILE = Path(__file__).parent / "errands.toml"

Value = str | int
Maker = Callable[[random.Random, bool], Value]

ROOMS = (
    "kitchen",
    "bedroom",
    "bathroom",
    "living room",
    "garden",
    "cellar",
    "office",
    "hall",
    "attic",
    "garage",
)
LANGUAGES = (
    "French",
    "German",
    "Spanish",
    "Italian",
    "Japanese",
    "Greek",
    "Dutch",
    "Polish",
    "Danish",
    "Latin",
)
CURRENCIES = ("USD", "EUR", "GBP", "JPY", "CHF", "euros", "dollars", "pounds", "yen", "francs")
ENDINGS = ("txt", "md", "py", "json", "log", "toml")
COMPANIES = ("AAPL", "MSFT", "NVDA", "GOOG", "TSLA", "AMZN", "Apple", "Nvidia", "IBM", "Intel")


def _path(rng: random.Random, held_out: bool) -> str:
    name = f"{words.thing(rng, held_out)}.{rng.choice(ENDINGS)}"
    return rng.choice(("", "/tmp/", "docs/", f"{words.nonsense(rng)}/", "./")) + name


def _formula(rng: random.Random, held_out: bool) -> str:
    space = rng.choice(("", " "))
    first, second, third = (rng.randint(1, 99) for _ in range(3))
    text = f"{first}{space}{rng.choice('+-*/')}{space}{second}"
    return f"({text}){space}{rng.choice('+-*/')}{space}{third}" if rng.random() < 0.3 else text


MAKERS: dict[str, Maker] = {
    "place": words.place,
    "person": words.person,
    "phrase": words.phrase,
    "word": lambda rng, held_out: words.thing(rng, held_out) if rng.random() < 0.6 else words.nonsense(rng),
    "number": lambda rng, _: words.number(rng),
    "small": lambda rng, _: rng.randint(1, 120),
    "room": lambda rng, _: rng.choice(ROOMS),
    "language": lambda rng, _: rng.choice(LANGUAGES),
    "currency": lambda rng, _: rng.choice(CURRENCIES),
    "ticker": lambda rng, _: rng.choice(COMPANIES),
    "path": _path,
    "formula": _formula,
}

NAMED = 0.1
"""Which share of the questions names the tool."""
ODD = 0.25
HELD_OUT_ODD = 0.08
"""Which share of the names of tools and parameters nobody can guess: what is common in training can be learnt
by heart, and only what is odd makes it read the tool's definition."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a tool: names that it may have, its JSON type, and how its values are made."""

    names: tuple[str, ...]
    type: str
    value: Maker


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that people ask a tool for."""

    names: tuple[str, ...]
    does: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    ask: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One errand in one wording, with the tool for it."""

    tool: Tool
    asked: str
    call: Call


def read_errands(file: Path = FILE) -> tuple[Errand, ...]:
    """All errands of the file."""
    return tuple(_errand(entry) for entry in tomllib.loads(file.read_text(encoding="utf-8"))["errand"])


def _errand(entry: dict[str, list[str]]) -> Errand:
    parameters = (Parameter(tuple(p[0].split("|")), p[1], MAKERS[p[2]]) for p in entry["parameters"])
    return Errand(tuple(entry["names"]), tuple(entry["does"]), tuple(parameters), tuple(entry["ask"]))


def make_task(errand: Errand, rng: random.Random, held_out: bool = False) -> Task:
    """Draw names, values and a wording; when held out, those that are never trained on."""
    name = errand.names[-1] if held_out else _tool_name(errand, rng)
    parameters = [(_parameter_name(p, rng, held_out), p) for p in errand.parameters]
    if len({chosen for chosen, _ in parameters}) < len(parameters):
        parameters = [(p.names[0], p) for p in errand.parameters]
    values = [p.value(rng, held_out) for _, p in parameters]
    template = errand.ask[-1] if held_out else _wording(errand, rng)
    asked = choose(template, rng).replace("{tool}", name).format(*values)
    tool = define(name, rng.choice(errand.does), [(chosen, p.type) for chosen, p in parameters], rng)
    arguments = {chosen: value for (chosen, _), value in zip(parameters, values, strict=True)}
    return Task(tool, _write(asked, rng), Call(name, arguments))


def _wording(errand: Errand, rng: random.Random) -> str:
    """One of the errand's own; now and then the tool is named, and its values only listed."""
    if rng.random() >= NAMED:
        return rng.choice(errand.ask[:-1])
    values = " and ".join(f"{{{place}}}" for place in range(len(errand.parameters)))
    return f"[use|call|run] {{tool}} [for|with|on] {values}" if values else "[use|call|run] {tool}"


def _tool_name(errand: Errand, rng: random.Random) -> str:
    name = rng.choice(errand.names[:-1])
    if rng.random() >= ODD:
        return name
    before = rng.choice(("my", "do", "api", "x", words.nonsense(rng)))
    return f"{name}_{words.nonsense(rng)}" if rng.random() < 0.3 else f"{before}_{name}"


def _parameter_name(parameter: Parameter, rng: random.Random, held_out: bool) -> str:
    odd = rng.random() < (HELD_OUT_ODD if held_out else ODD)
    return words.nonsense(rng) if odd else rng.choice(parameter.names)


def invented_task(rng: random.Random, held_out: bool = False) -> Task:
    """A tool of which nothing is known but its name: only copying helps."""
    name = "_".join(
        rng.choice((words.nonsense(rng), words.thing(rng, held_out))) for _ in range(rng.randint(1, 3))
    )
    kinds = rng.sample(("place", "person", "phrase", "number", "word", "path"), rng.randint(0, 2))
    names = rng.sample((words.nonsense(rng), words.thing(rng, held_out), "value", "item", "name"), len(kinds))
    types = ["integer" if kind == "number" else "string" for kind in kinds]
    values = [MAKERS[kind](rng, held_out) for kind in kinds]
    asked = choose(
        f"[use|call|run|please call|I want you to call|invoke] [the tool|the function|] {name}", rng
    )
    pairs = [
        f"{chosen}{rng.choice((' ', ': ', ' = ', '='))}{value}"
        for chosen, value in zip(names, values, strict=True)
    ]
    if pairs:
        asked += f" {rng.choice(('with', 'for', 'on'))} {' and '.join(pairs)}"
    tool = define(
        name,
        rng.choice(("", "A tool", words.phrase(rng, held_out))),
        list(zip(names, types, strict=True)),
        rng,
    )
    return Task(tool, asked, Call(name, dict(zip(names, values, strict=True))))


def define(name: str, does: str, parameters: list[tuple[str, str]], rng: random.Random) -> Tool:
    """A tool's definition in the form of OpenAI's API."""
    schema = {
        "type": "object",
        "properties": {chosen: {"type": kind} for chosen, kind in parameters},
        "required": [chosen for chosen, _ in parameters],
    }
    return {"type": "function", "function": {"name": name, "description": does, "parameters": schema}}


def _write(asked: str, rng: random.Random) -> str:
    """Capital letter and mark at the end, but never a change inside: the values must stay."""
    asked = asked[:1].upper() + asked[1:] if rng.random() < 0.6 else asked
    if rng.random() < 0.1:
        asked = f"{rng.choice(('Please', 'Hi,', 'Hello,', 'Can you tell me:', 'Hey,', 'Tell me:'))} {asked}"
    return asked + rng.choices(("?", "", ".", " please", "!"), (40, 40, 8, 6, 2))[0]


class Errands:
    """Makes conversations of all errands."""

    def __init__(self, errands: tuple[Errand, ...]) -> None:
        self._errands = errands

    def calling(self, rng: random.Random, held_out: bool = False) -> Conversation:
        """One of the tools is asked for, and called."""
        task, tools = self._offer(rng, held_out)
        turns = (user(task.asked), tool_call(task.call))
        return Conversation("tool call", turns, tools, call=task.call)

    def telling(self, rng: random.Random, held_out: bool = False) -> Conversation:
        """The tool's result is there, and told."""
        task, tools = self._offer(rng, held_out)
        result, told, facts = _result(rng, held_out)
        turns = (user(task.asked), tool_call(task.call), tool_result(result), answer(told))
        return Conversation("tool result", turns, tools, facts=facts)

    def calling_again(self, rng: random.Random, held_out: bool = False) -> Conversation:
        """After one call and its result, another."""
        first = self.telling(rng, held_out)
        task, tools = self._offer(rng, held_out)
        turns = (*first.turns, user(task.asked), tool_call(task.call))
        return Conversation("second tool call", turns, _merge(first.tools, tools), call=task.call)

    def not_calling(self, plain: Conversation, rng: random.Random) -> Conversation:
        """Tools are offered, but the question needs none."""
        _, tools = self._offer(rng, False)
        return Conversation("tools not needed", plain.turns, tools, facts=plain.facts)

    def _offer(self, rng: random.Random, held_out: bool) -> tuple[Task, tuple[Tool, ...]]:
        """A task with its tool, among up to three others."""
        count = rng.choices((1, 2, 3, 4), (50, 25, 15, 10))[0]
        chosen = rng.sample(self._errands, count)
        tasks = [make_task(errand, rng, held_out) for errand in chosen]
        if rng.random() < 0.3:
            tasks[0] = invented_task(rng, held_out)
        task = tasks[0]
        rng.shuffle(tasks)
        return task, _merge((), tuple(other.tool for other in tasks), keep=task.tool)


def _name(tool: Tool) -> str:
    function = tool["function"]
    return str(function["name"]) if isinstance(function, dict) else ""


def _merge(before: tuple[Tool, ...], more: tuple[Tool, ...], keep: Tool | None = None) -> tuple[Tool, ...]:
    """All tools, one of each name; of two with one name the later, or the one to keep."""
    named = {_name(tool): tool for tool in (*before, *more)}
    if keep is not None:
        named[_name(keep)] = keep
    return tuple(named.values())


def _result(rng: random.Random, held_out: bool) -> tuple[str, str, tuple[str, ...]]:
    """What a tool returned, what to say of it, and what that must contain."""
    if rng.random() < 0.4:
        keys = rng.sample(
            (
                "temperature",
                "condition",
                "result",
                "time",
                "status",
                "name",
                "price",
                "count",
                "wind",
                "value",
                "unit",
            ),
            rng.randint(1, 3),
        )
        values = {key: _result_value(rng, held_out) for key in keys}
        told = ", ".join(f"{key}: {value}" for key, value in values.items())
        return json.dumps(values), f"The tool says {told}.", tuple(map(str, values.values()))
    text = " ".join(str(_result_value(rng, held_out)) for _ in range(rng.randint(1, 4)))
    return text, f"The tool says {text}.", (text,)


def _result_value(rng: random.Random, held_out: bool) -> Value:
    kinds: tuple[Maker, ...] = (MAKERS["number"], MAKERS["small"], words.phrase, words.place, words.thing)
    return rng.choice(kinds)(rng, held_out)
