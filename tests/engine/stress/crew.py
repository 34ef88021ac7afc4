"""Traffic on ranks that are processes, as tensor groups have to be: MLX makes one group in each."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bus.messages.engine import Connect, Part
from engine.gauges import Gauges, Reading
from engine.inbox import Inbox
from engine.loader import load, load_stage
from engine.ranks.crew import Crew
from engine.ranks.follower import Follower
from engine.ranks.rank import Equipment
from engine.work import End
from tests.engine.stress.cases import (
    Case,
    Division,
    Guessed,
    check_memory,
    drafter_of,
    folder_of,
    harness_of,
    judged,
    network_of,
    run_here,
)
from tests.engine.stress.judging import Reference
from tests.engine.stress.rank import Listens, Order, Ran
from tests.engine.stress.traffic import Traffic

ROOT: Final = Path(__file__).parents[3]
PATIENCE_S: Final = 600.0
"""For all seeds together."""
EMPTY_S: Final = 20.0
"""How long a rank may take to carry out the last plans."""
FORGIVEN: Final = {None: 2e-4, 8: 0.1, 4: 1.0}
"""In log-probabilities, by what is kept of a number: what `Roundings` forgives is not forgiven here."""

T = TypeVar("T")


# -- the test's side -------------------------------------------------------------------------------


def run(case: Case, seeds: Sequence[int], requests: int, root: Path) -> Iterator[Ran]:
    """Each seed's traffic, and how far its worst token was from the reference. Raises AssertionError, which
    names the seed, where that was too far, or anything is left over."""
    return (_run_divided if case.division.tensor > 1 else run_here)(case, seeds, requests, root)


def _run_divided(case: Case, seeds: Sequence[int], requests: int, root: Path) -> Iterator[Ran]:
    folder_of(case.architecture, root)
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(_process(case, rank, seeds, requests, root))
            for rank in range(case.division.stages * case.division.tensor)
        ]
        timer = threading.Timer(PATIENCE_S, _kill, [ranks])
        timer.start()
        stack.callback(timer.join)
        stack.callback(timer.cancel)
        stack.callback(_kill, ranks)
        bound = [_read(process, Listens) for process in ranks]
        rings = tuple(each.ring for each in bound if each.ring)
        others = Connect(tuple(each.hop for each in bound), rings)
        for process in ranks:
            _write(process, msgspec.json.encode(others))
        for seed in seeds:
            ran = _read(ranks[0], Ran)
            assert not ran.failed, f"{case} --seeds {seed}: {ran.failed}"
            yield ran
        for process in ranks:  # in this order: each has carried out what the one before sent it
            out, _ = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, f"{case}: a rank ended with {process.returncode}: {out!r}"


def _kill(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in ranks:
        process.kill()


def _process(
    case: Case, rank: int, seeds: Sequence[int], requests: int, root: Path
) -> subprocess.Popen[bytes]:
    order = Order(
        rank, case.architecture, case.division, case.kv_bits, case.guessed, tuple(seeds), requests, str(root)
    )
    command = [sys.executable, "-m", "tests.engine.stress.rank", msgspec.json.encode(order).decode()]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _read(process: subprocess.Popen[bytes], kind: type[T]) -> T:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"a rank ended with {process.wait()}, or nothing came of it in {PATIENCE_S:.0f} s"
    return msgspec.json.decode(line, type=kind)


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line + b"\n")
    process.stdin.flush()


# -- a rank's side ---------------------------------------------------------------------------------


class _Watched(Gauges):
    """Rings when a rank says that it holds nothing."""

    def __init__(self) -> None:
        self.empty = threading.Event()
        super().__init__()

    @property
    def reading(self) -> Reading:
        return self._reading

    @reading.setter
    def reading(self, reading: Reading) -> None:
        self._reading = reading
        (self.empty.clear if reading.kv_bytes else self.empty.set)()


def be_one(order: Order) -> None:
    """A rank, from its start to its end."""
    division = Division(order.division)
    case = Case(order.architecture, division, order.kv_bits, Guessed(order.guessed))
    folder = folder_of(case.architecture, Path(order.root))
    inbox, gauges = Inbox(), _Watched()
    crew = Crew(Part(order.rank, division.layers, division.tensor), inbox, gauges, None)
    _say(Listens(crew.hop, crew.ring))
    crew.connect(msgspec.json.decode(sys.stdin.buffer.readline(), type=Connect))
    try:
        if order.rank:
            stage, _ = load_stage(folder, crew.share(case.kv_bits), lambda doing, progress: None)
            _follow(crew.follow(stage, Equipment()), inbox, gauges)
        else:
            _lead(case, order, folder, crew)
    finally:
        crew.close()


def _follow(follower: Follower, inbox: Inbox, gauges: _Watched) -> None:
    """Until the test has no more to say, and all is carried out."""

    def end() -> None:
        sys.stdin.buffer.read()
        gauges.empty.wait(EMPTY_S)
        inbox.put(End())

    ending = threading.Thread(target=end)
    ending.start()
    follower.run()
    ending.join()
    assert gauges.empty.is_set(), f"memory is held for nobody: {gauges.reading}"


def _lead(case: Case, order: Order, folder: Path, crew: Crew) -> None:
    loaded = load(folder, None, lambda doing, progress: None, crew.share(case.kv_bits))
    conductor = crew.lead(loaded.stage, Equipment())
    network = network_of(folder)
    reference = Reference(network, case.kv_bits)
    for seed in order.seeds:
        drafter = drafter_of(case, network, loaded)
        harness = harness_of(loaded, conductor, drafter, seed)
        traffic = Traffic(harness, seed)
        try:
            traffic.run(order.requests)
            check_memory(harness, drafter)
            ran = judged(traffic, seed, reference, FORGIVEN[case.kv_bits])
        except AssertionError as error:
            _say(Ran(seed, 0, 0.0, str(error)))
            return
        _say(ran)


def _say(what: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()
