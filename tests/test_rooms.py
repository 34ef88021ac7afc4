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
    "api": {"actors", "bus"},
    "exo_actors": {"api", "actors", "engine", "models", "host", "bus"},
}
"""What each room may import besides itself: only what lies below it."""

THE_BORDER = "engine/border.py"
LONGEST_FILE = 350


def files_of(*folders: str) -> list[str]:
    """Our Python files in these folders, as paths from the root."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


ALL_FILES = files_of(*BELOW, "scripts", "tests")


def tree_of(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


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


def test_every_room_is_listed() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "scripts"}
    assert rooms == set(BELOW)


@pytest.mark.parametrize("name", files_of(*BELOW))
def test_imports_point_down(name: str) -> None:
    room = name.partition("/")[0]
    rooms = {*BELOW, "tests", "scripts"}
    used = {(line, target.partition(".")[0]) for line, target in imports_of(tree_of(name))}
    upward = {(line, top) for line, top in used if top in rooms - BELOW[room] - {room}}
    assert not upward, f"{name} imports from above"


@pytest.mark.parametrize("name", ALL_FILES)
def test_imports_are_absolute(name: str) -> None:
    relative = [line for line, target in imports_of(tree_of(name)) if target.startswith(".")]
    assert not relative, f"{name}: lines {relative}"


@pytest.mark.parametrize("name", [name for name in ALL_FILES if name != THE_BORDER])
def test_any_stays_at_the_border(name: str) -> None:
    tree = tree_of(name)
    imported = [
        line for line, target in imports_of(tree) if target in ("typing.Any", "typing_extensions.Any")
    ]
    reached = [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "Any"
    ]
    assert not imported + reached, f"{name}: Any in lines {imported + reached}; it belongs in {THE_BORDER}"


@pytest.mark.parametrize("name", ALL_FILES)
def test_the_type_checker_is_never_silenced(name: str) -> None:
    silencer = "type: " + "ignore"
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert not [number for number, line in enumerate(lines, 1) if silencer in line]


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_file_is_one_idea(name: str) -> None:
    length = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST_FILE, f"{name} has {length} lines: divide it"


@pytest.mark.parametrize("name", [name for name in files_of(*BELOW) if ">>> " in (ROOT / name).read_text()])
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    assert doctest.testmod(module).failed == 0
