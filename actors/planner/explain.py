"""Says in a line what a choice is and why it is there, and why another one is not."""

from collections.abc import Sequence

from actors.planner import words
from actors.planner.grids import Grid
from actors.planner.machines import Machine
from actors.planner.memory import Needs
from actors.planner.search import Draft
from bus.messages.placement import Interconnect, Ruled, Wish

_AS_FAST = 0.05
"""A smaller difference than this share is none."""


def described(draft: Draft, longest: int, reason: str) -> str:
    """The line of a choice. `longest`: the context that was hoped for."""
    names = [[machine.name for machine in group] for group in draft.groups]
    text = words.division(names, draft.layers)
    if draft.interconnect is Interconnect.JACCL and draft.grid.size > 1:
        text += " over RDMA"
    text += f": {words.speed(draft.score)}"
    if draft.context < longest:
        text += f", its context shortened to {draft.context} tokens"
    return f"{text}; {reason}" if reason else text


def compared(draft: Draft, single: Draft) -> str:
    """A division beside the best that a node can do alone."""
    name, times = single.groups[0][0].name, draft.score / single.score
    if times > 1 + _AS_FAST:
        return f"{times:.1f} times as fast as {name} alone"
    return f"{name} alone is as fast" if times > 1 - _AS_FAST else f"{name} alone is faster"


def too_large(machine: Machine, needs: Needs) -> str:
    """Why a node can't hold a model alone."""
    needed = needs.stage(0, needs.layers)
    return f"can't hold it: {words.shortage(needed, machine.free)}, with a context of {needs.context}"


def starved(wish: Wish, context: int) -> Ruled:
    """Why no arrangement holds a context in the KV cache that a wish allows."""
    return Ruled("kv_bytes", f"{words.gib(wish.kv_bytes or 0)} on each node don't hold {context} tokens")


def too_little(grid: Grid, pool: Sequence[Machine], needs: Needs) -> Ruled:
    """Why no arrangement of some nodes holds a model."""
    needed = needs.stage(0, needs.layers) + (needs.ends if grid.stages > 1 else 0)
    free = sum(sorted((machine.free for machine in pool), reverse=True)[: grid.size])
    what = f"{grid.sharding} over {grid.size} nodes"
    shortage = words.shortage(needed * grid.tensor, free)
    if needed * grid.tensor <= free:
        shortage += ", but not where the parts would go"
    return Ruled(what, f"too little memory: {shortage}, with a context of {needs.context}")
