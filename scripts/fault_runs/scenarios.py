"""From a seed and a run's number to what happens in it: pure, so that any run can be had again by itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from scripts.fault_runs.history import Action, Leaving


class Target(StrEnum):
    """Which node is struck; who that is shows at the moment of the fault."""

    FIRST = "first"
    """Rank 0: the scheduler."""
    MIDDLE = "middle"
    LAST = "last"
    COORDINATOR = "coordinator"
    INTAKE = "intake"
    """The node that took the first request."""


class Moment(StrEnum):
    """What the instance is doing when the fault comes."""

    LOAD = "load"
    PREFILL = "prefill"
    DECODE = "decode"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the model is divided."""

    stages: int
    tensor: int

    @property
    def ranks(self) -> int:
        return self.stages * self.tensor

    @property
    def sharding(self) -> str:
        if self.tensor == 1:
            return "pipeline"
        return "tensor" if self.stages == 1 else "hybrid"

    def __str__(self) -> str:
        shape = f"{self.stages}x{self.tensor}" if self.sharding == "hybrid" else str(self.ranks)
        return f"{self.sharding} {shape}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that breaks."""

    action: Action
    target: Target
    heal_after_s: float | None
    """None: not before the run has been judged."""


@dataclass(frozen=True, slots=True)
class Client:
    """One request, and whether its client stays for the answer."""

    node: int
    prompt: int
    """Which of the prompts whose answer is known."""
    delay_s: float
    leaves: Leaving | None = None
    after_pieces: int = 0
    """It leaves when it has so many; 0: with the opened stream."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run."""

    number: int
    kind: str
    """The row of the summary that it counts in."""
    nodes: int
    namespaces: bool
    """Each node in a network namespace of its own, so that its link can be cut."""
    layout: Layout
    moment: Moment
    faults: tuple[Fault, ...]
    delay_s: float
    """From the moment to the fault."""
    clients: tuple[Client, ...]

    @property
    def name(self) -> str:
        healed = [f"back after {fault.heal_after_s:g} s" for fault in self.faults if fault.heal_after_s]
        parts = (self.kind, f"in {self.moment}", str(self.layout), f"{self.nodes} nodes", *healed)
        return ", ".join(parts)


PROMPTS = 12
LONG_PROMPTS = 3
"""The last ones."""
PAUSE_S = 20.0
RESTART_S = 3.0
CUTS_S = (5.0, 20.0)
LAYOUTS = {
    3: (Layout(2, 1), Layout(3, 1), Layout(1, 2)),
    4: (Layout(2, 1), Layout(3, 1), Layout(1, 2), Layout(2, 2)),
}
TWO = "two at once"


def kinds(namespaces: bool) -> list[str]:
    """All rows of the summary; links can only be cut between network namespaces."""
    ranks = (Target.FIRST, Target.MIDDLE, Target.LAST)
    found = [f"{action} {target}" for action in (Action.KILL_NODE, Action.STOP_NODE) for target in Target]
    found += [f"{action} {target}" for action in (Action.KILL_ENGINE, Action.STOP_ENGINE) for target in ranks]
    if namespaces:
        found += [f"{Action.CUT_LINK} {cut:g} s" for cut in CUTS_S]
    return [*found, TWO]


def scenario(seed: int, number: int, namespaces: bool) -> Scenario:
    """The run of that number; every kind comes once before any comes twice."""
    rows = kinds(namespaces)
    deck = Random(f"{seed}/deck/{number // len(rows)}").sample(rows, len(rows))
    kind = deck[number % len(rows)]
    random = Random(f"{seed}/run/{number}")
    moment = random.choice(list(Moment))
    nodes, layout = _place(random, kind)
    return Scenario(
        number=number,
        kind=kind,
        nodes=nodes,
        namespaces=kind.startswith(Action.CUT_LINK),
        layout=layout,
        moment=moment,
        faults=_faults(random, kind, nodes - layout.ranks),
        delay_s=round(random.uniform(0, 0.3), 3),
        clients=_clients(random, nodes, moment),
    )


def in_order(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """Those that can share a cluster, and then an instance, one after the other."""
    return sorted(
        scenarios,
        key=lambda run: (run.namespaces, run.nodes, run.layout.stages, run.layout.tensor, run.number),
    )


def _place(random: Random, kind: str) -> tuple[int, Layout]:
    least = 3 if kind.endswith(Target.MIDDLE) else 2
    nodes = 4 if kind == TWO else random.choice((3, 4))
    return nodes, random.choice([layout for layout in LAYOUTS[nodes] if layout.ranks >= least])


def _faults(random: Random, kind: str, spare: int) -> tuple[Fault, ...]:
    if kind == TWO:
        actions = random.choices((Action.KILL_NODE, Action.KILL_ENGINE, Action.STOP_NODE), k=2)
        targets = random.sample((Target.FIRST, Target.LAST, Target.COORDINATOR), 2)
        return tuple(
            Fault(action, target, _heal(random, action, spare - 1))
            for action, target in zip(actions, targets, strict=True)
        )
    word, what = kind.split(" ", 1)
    action = Action(word)
    if action is Action.CUT_LINK:
        cut_s = float(what.removesuffix(" s"))
        return (Fault(action, random.choice(list(Target)), cut_s),)
    return (Fault(action, Target(what), _heal(random, action, spare)),)


def _heal(random: Random, action: Action, spare: int) -> float | None:
    """A node that the instance can't do without has to come back; else it may."""
    match action:
        case Action.KILL_NODE:
            return RESTART_S if spare < 1 or random.random() < 0.3 else None
        case Action.STOP_NODE:
            return PAUSE_S if spare < 1 or random.random() < 0.3 else None
        case Action.STOP_ENGINE:
            return PAUSE_S if random.random() < 0.3 else None
        case Action.KILL_ENGINE:
            return None
        case Action.CUT_LINK:
            raise ValueError("a link comes back by its kind")


def _clients(random: Random, nodes: int, moment: Moment) -> tuple[Client, ...]:
    """The first ones come at once and stay, so that something is under way when the fault comes."""
    count = random.randint(5, 8)
    late = [
        random.uniform(0, 0.3) if random.random() < 0.6 else random.uniform(0.3, 4.0) for _ in range(count)
    ]
    delays = [0.0, 0.0, *late[2:]]
    leavers = 2 if moment is Moment.CANCEL else sum(random.random() < 0.25 for _ in range(count - 2))
    return tuple(
        Client(
            node=random.randrange(nodes),
            prompt=_prompt(random, moment, index),
            delay_s=round(0.0 if moment is Moment.CANCEL and index >= count - leavers else delay_s, 3),
            leaves=random.choice(list(Leaving)) if index >= count - leavers else None,
            after_pieces=random.randint(0, 40) if moment is not Moment.CANCEL else random.randint(5, 20),
        )
        for index, delay_s in enumerate(delays)
    )


def _prompt(random: Random, moment: Moment, index: int) -> int:
    long = moment is Moment.PREFILL and index < 3
    return (
        random.randrange(PROMPTS - LONG_PROMPTS, PROMPTS)
        if long
        else random.randrange(PROMPTS - LONG_PROMPTS)
    )
