"""What the traffic runs on: an architecture, how it is divided, what its caches keep, and who guesses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Final

import mlx.core as mx

from engine.border import Network
from engine.drafting.drafter import Drafter
from engine.drafting.model import DraftModel
from engine.drafting.verify import can_forget
from engine.gauges import Gauges
from engine.loader import Loaded, load
from engine.ranks.conductor import Conductor
from engine.ranks.rank import Equipment
from engine.scheduling.guesser import Guesser
from scripts.make_model import make_model
from tests.engine.harness import Harness
from tests.engine.staged import Others, staged
from tests.engine.stress.guesses import Eager
from tests.engine.stress.judging import CLOSE, Reference, Roundings, check
from tests.engine.stress.rank import Ran
from tests.engine.stress.traffic import Drawn, Traffic

LAYERS: Final = 4


class Guessed(StrEnum):
    """Where guesses come from."""

    NOWHERE = "nowhere"
    TEXT = "text"
    DRAFT = "draft"
    """A draft model that is the model itself."""


class Division(StrEnum):
    """Of a model between ranks."""

    ONE = "one"
    PIPELINE_2 = "pipeline-2"
    PIPELINE_3 = "pipeline-3"
    TENSOR_2 = "tensor-2"
    HYBRID_2X2 = "hybrid-2x2"

    @property
    def stages(self) -> int:
        return {Division.ONE: 1, Division.TENSOR_2: 1, Division.PIPELINE_3: 3}.get(self, 2)

    @property
    def tensor(self) -> int:
        """Ranks of each stage."""
        return 2 if self in (Division.TENSOR_2, Division.HYBRID_2X2) else 1

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """The first and the end of each stage."""
        return tuple(pairwise(LAYERS * place // self.stages for place in range(self.stages + 1)))


@dataclass(frozen=True)
class Case:
    """Of random traffic."""

    architecture: str
    division: Division = Division.ONE
    kv_bits: int | None = None
    guessed: Guessed = Guessed.NOWHERE

    @property
    def arguments(self) -> list[str]:
        """On the command line."""
        bits = ["--kv-bits", str(self.kv_bits)] if self.kv_bits else []
        return [self.architecture, self.division, *bits, "--guessed", self.guessed]

    def __str__(self) -> str:
        return " ".join(self.arguments)


def folder_of(architecture: str, root: Path) -> Path:
    """A model whose heads can be quantised."""
    path = root / f"stress-{architecture}"
    return path if path.exists() else make_model(architecture, path, layers=LAYERS, hidden=128)


def network_of(folder: Path) -> Network:
    """All of a model, read at once: its file is closed."""
    network = Network(folder)
    mx.eval(network.model.parameters())
    return network


def drafter_of(case: Case, network: Network, loaded: Loaded) -> Drafter | None:
    """None: guesses could not be taken back, or none are wanted."""
    if case.guessed is Guessed.NOWHERE or not can_forget(loaded.stage.all_fresh()):
        return None
    drafts = case.guessed is Guessed.DRAFT
    return Drafter(DraftModel(network, len(loaded.tokenizer)) if drafts else None)


def harness_of(loaded: Loaded, conductor: Conductor | None, drafter: Drafter | None, seed: int) -> Harness:
    """`conductor`: of several ranks; None: there is one."""
    return Harness(
        loaded,
        prefixes=True,
        guesser=Eager(drafter, seed) if drafter else Guesser(None),
        stepper_of=(lambda gauges, equipment: conductor) if conductor else None,
        pace=Drawn(seed=seed),
    )


def run_here(case: Case, seeds: Sequence[int], requests: int, root: Path) -> Iterator[Ran]:
    """In this process: one rank, or the stages of a pipeline."""
    folder = folder_of(case.architecture, root)
    network = network_of(folder)
    for seed in seeds:
        try:
            yield _run(case, seed, requests, folder, network)
        except AssertionError as error:
            raise AssertionError(f"{case} --seeds {seed}: {error}") from error


def _run(case: Case, seed: int, requests: int, folder: Path, network: Network) -> Ran:
    loaded = load(folder, None, lambda doing, progress: None, kv_bits=case.kv_bits)
    conductor, others = _divided(case, folder, seed)
    with ExitStack() as stack:
        if case.kv_bits:
            stack.enter_context(Roundings().forgiven())
        drafter = drafter_of(case, network, loaded)
        harness = harness_of(loaded, conductor, drafter, seed)
        traffic = Traffic(harness, seed)
        traffic.run(requests)
        if others is not None:
            others.catch_up()
            assert not any(rank.kv_bytes for rank in others.ranks), "a later stage holds memory for nobody"
        check_memory(harness, drafter)
        return judged(traffic, seed, Reference(network, case.kv_bits))


def _divided(case: Case, folder: Path, seed: int) -> tuple[Conductor | None, Others | None]:
    stages = case.division.stages
    if stages == 1:
        return None, None
    return staged(folder, stages, LAYERS, Gauges(), Equipment(), seed, case.kv_bits)


def check_memory(harness: Harness, drafter: Drafter | None) -> None:
    """After all have ended, and nothing is kept."""
    assert not harness.stepper.kv_bytes, "memory is held for nobody"
    assert drafter is None or not drafter.nbytes, "the draft model holds memory for nobody"


def judged(traffic: Traffic, seed: int, reference: Reference, close: float = CLOSE) -> Ran:
    """What all its answers come to."""
    worst = max(check(traffic, each, reference, close) for each in traffic.asked)
    return Ran(seed, sum(len(traffic.ids(each)) for each in traffic.asked), worst)
