"""The type checker knows what an actor understands, what its constructor takes, and who may watch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """\
from actors.kernel.actor import LoopActor, ThreadActor
from actors.kernel.directory import Directory, Name
from actors.kernel.lifecycle import Terminated
from actors.kernel.reference import Ref
from actors.kernel.supervision import Child, Supervisor

class Counter(ThreadActor[int]):
    def __init__(self, first: int) -> None:
        super().__init__()

    def on_receive(self, message: int) -> int:
        return message

class Parent(LoopActor[str | Terminated]):
    async def on_start(self) -> None:
        child = self.spawn(Counter, 1)
        child.watch(self.actor_ref)

    async def on_receive(self, message: str | Terminated) -> None:
        match message:
            case str(text):
                self.tell_later(1.0, text.upper())
            case Terminated(ref=ref):
                ref.unwatch(self.actor_ref)

class Mute(ThreadActor[int]): ...

COUNTER: Name[int] = Name("counter")
directory = Directory()
counter: Ref[int] = Counter.start(1)
parent = Parent.start()
counter.tell(1)
narrow: Ref[bool] = counter
number: int = counter.ask(1, int)
directory.register(COUNTER, counter)
directory.post(COUNTER, 1)
top = Supervisor[str].start(Child(COUNTER, lambda: Counter.start(1)))
"""

WRONG = {
    "counter.tell('one')": "arg-type",
    "counter.post(None)": "arg-type",
    "counter.ask('one')": "call-overload",
    "text: str = counter.ask(1, int)": "assignment",
    "Counter.start('one')": "arg-type",
    "Counter.start()": "call-arg",
    "counter.watch(counter)": "arg-type",
    "wide: Ref[int | str] = counter": "assignment",
    "directory.post(COUNTER, 'one')": "misc",
    "directory.register(COUNTER, parent)": "misc",
    "Supervisor[str].start(Child(COUNTER, Parent.start))": "arg-type",
    "Mute()": "abstract",
}


def check(folder: Path, program: str) -> str:
    path = folder / "program.py"
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False).stdout


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checker's word on all wrong statements below a right program, a line each."""
    return check(tmp_path_factory.mktemp("typing"), PROGRAM + "".join(f"{wrong}\n" for wrong in WRONG))


def test_what_is_right_passes_the_strict_checker(tmp_path: Path) -> None:
    assert check(tmp_path, PROGRAM) == ""


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_does_not(wrong: str, verdict: str) -> None:
    line = PROGRAM.count("\n") + 1 + list(WRONG).index(wrong)
    said = [each for each in verdict.splitlines() if f"program.py:{line}: error:" in each]
    assert any(f"[{WRONG[wrong]}]" in each for each in said), verdict
