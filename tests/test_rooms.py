"""The rules of the house that no other tool holds: who imports whom, where `Any` may be, a file's length."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BELOW: dict[str, set[str]] = {
    "bus": set(),
    "host": {"bus"},
    "models": {"host", "bus"},
    "engine": {"models", "host", "bus"},
    "actors": {"engine", "models", "host", "bus"},
    "ui_static": set(),
    "api": {"ui_static", "actors", "bus"},
    "exo_actors": {"api", "ui_static", "actors", "engine", "models", "host", "bus"},
}
"""What each room may import besides itself: only what lies below it."""

ENGINE = [
    "memory", "border", "gauges", "threads", "regression", "steps", "work", "inbox", "tools", "text",
    "constraints", "intake", "sharding", "loader", "prefixes", "drafting", "sampling", "ranks",
    "scheduling", "examine", "outfit", "clerks", "link", "life", "__main__",
]  # fmt: skip
"""The rooms and files of an engine, from the ground up: each imports only what stands before it."""

THE_BORDER = "engine/border.py"
LONGEST_FILE = 350


def files_of(*folders: str) -> list[str]:
    """Our Python files in these folders, as paths from the root."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in files_of(*BELOW, "scripts", "tests")}
TREES = {name: ast.parse(text, name) for name, text in TEXTS.items()}


def imports_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, wherever in the file."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.ImportFrom(module=module, level=level):
                yield node.lineno, "." * level + (module or "")
            case _:
                pass


def uses_of_any(tree: ast.Module) -> Iterator[int]:
    """Lines that bring in `Any` or reach for it."""
    for line, target in imports_of(tree):
        if target in ("typing.Any", "typing_extensions.Any"):
            yield line
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "Any":
            yield node.lineno


def test_every_room_is_listed() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "scripts"}
    assert rooms == set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_down(room: str) -> None:
    above = {*BELOW, "tests", "scripts"} - BELOW[room] - {room}
    upward = [
        f"{name}:{line} imports {target}"
        for name in files_of(room)
        for line, target in imports_of(TREES[name])
        if target.partition(".")[0] in above
    ]
    assert upward == []


def test_imports_within_an_engine_point_down() -> None:
    def place(module: str) -> int:
        return ENGINE.index(module.split(".")[1])

    upward = [
        f"{name}:{line} imports {target}"
        for name in files_of("engine")
        if name != "engine/__init__.py"
        for line, target in imports_of(TREES[name])
        if target.startswith("engine.") and place(target) > place(name.removesuffix(".py").replace("/", "."))
    ]
    assert upward == []


def test_imports_are_absolute() -> None:
    relative = [
        f"{name}:{line}"
        for name, tree in TREES.items()
        for line, target in imports_of(tree)
        if target.startswith(".")
    ]
    assert relative == []


def test_any_stays_at_the_border() -> None:
    astray = [
        f"{name}:{line}" for name, tree in TREES.items() if name != THE_BORDER for line in uses_of_any(tree)
    ]
    assert astray == []


def test_the_type_checker_is_never_silenced() -> None:
    silencer = "type: " + "ignore"
    silenced = [
        f"{name}:{number}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if silencer in line
    ]
    assert silenced == []


def test_a_file_is_one_idea() -> None:
    lengths = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.parametrize("name", [name for name in files_of(*BELOW) if ">>> " in TEXTS[name]])
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    assert doctest.testmod(module).failed == 0
