"""Says in a line what a choice is and why it is there, and why another one is not."""

from collections.abc import Sequence

from actors.planner import words
from actors.planner.grids import Grid
from actors.planner.machines import Machine
from actors.planner.memory import Needs, least
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
    if (bounded := draft.bounded_by) is not None:
        text += f" by the {words.gib(bounded.room.cache or 0)} of KV cache that {bounded.name} may hold"
    return f"{text}; {reason}" if reason else text


def compared(draft: Draft, single: Draft) -> str:
    """A division beside the best that a node can do alone."""
    name, times = single.groups[0][0].name, draft.score / single.score
    if times > 1 + _AS_FAST:
        return f"{times:.1f} times as fast as {name} alone"
    return f"{name} alone is as fast" if times > 1 - _AS_FAST else f"{name} alone is faster"


def too_large(machine: Machine, needs: Needs) -> str:
    """Why a node can't hold a model alone."""
    needed, limit = needs.stage(0, needs.layers), least(needs.kv_bytes, machine.room.cache)
    shortage = words.shortage(needed, machine.free)
    if needed <= machine.free and limit is not None:
        shortage = f"{words.gib(needs.cache(0, needs.layers))} of KV cache, and {words.gib(limit)} is allowed"
    return f"can't hold it: {shortage}, with a context of {needs.context}"


def starved(wish: Wish, context: int, longest: int | None) -> Ruled:
    """Why no arrangement holds a context in the KV cache that a wish allows. `longest`: the one that some
    arrangement holds; None: none that is worth it."""
    why = f"{words.gib(wish.kv_bytes or 0)} on each node don't hold {context} tokens"
    return Ruled("kv_bytes", why if longest is None else f"{why}: {longest} at most")


def limited(pool: Sequence[Machine], context: int, longest: int | None, *, bits: bool) -> Ruled:
    """The same for what nodes allow, and what to do. `bits`: the cache could be kept with fewer bits."""
    bounded = [machine for machine in pool if machine.room.cache is not None]
    limits = words.listed(f"{words.gib(one.room.cache or 0)} on {one.name}" for one in bounded)
    does = f"one of {longest} does" if longest is not None else "nor does any that is worth it"
    ways = ["start the node with more"]
    if longest is not None:
        ways.append("ask for a shorter context")
    if bits:
        ways.append("set kv_bits to 8 or 4")
    why = f"KV cache may take {limits}: a context of {context} does not fit, {does}; {words.either(ways)}"
    return Ruled("--kv-memory", why)


def too_little(grid: Grid, pool: Sequence[Machine], needs: Needs) -> Ruled:
    """Why no arrangement of some nodes holds a model."""
    needed = needs.stage(0, needs.layers) + (needs.ends if grid.stages > 1 else 0)
    most = sorted(pool, key=lambda machine: -machine.free)[: grid.size]
    free = sum(machine.free for machine in most)
    what = f"{grid.sharding} over {grid.size} nodes"
    shortage = words.shortage(needed * grid.tensor, free)
    if needed * grid.tensor > free:
        return Ruled(what, f"too little memory: {shortage}, with a context of {needs.context}")
    bounded = least(needs.kv_bytes, *(machine.room.cache for machine in pool)) is not None
    kept = ", or with more KV cache than is allowed" if bounded else ""
    why = f"too little memory: {shortage}, but not where the parts would go{kept}"
    return Ruled(what, f"{why}, with a context of {needs.context}")
