"""How far a wish may be departed from when an instance that ran has to go on elsewhere."""

from collections.abc import Iterator, Sequence

import msgspec

from bus.messages.facts import NodeFact
from bus.messages.placement import Instance, Wish


def wishes_for(instance: Instance, nodes: Sequence[NodeFact]) -> tuple[Wish, ...]:
    """The wishes to try in turn, on these nodes.

    What never had a place is placed as it was asked for or not at all. What ran goes on even if that takes
    other nodes than a person named, another division of layers, another sharding, or in the end doing without
    the draft model.
    """
    never_placed = instance.epoch == 1 and not instance.stages
    wish = instance.wish
    if wish is None:
        # A context that was asked for is kept in an instance only until it has a place.
        wish = Wish(
            model=instance.model,
            context=(instance.context or None) if never_placed else None,
            kv_bits=instance.kv_bits,
            kv_bytes=instance.kv_bytes,
            draft=instance.draft,
            speculate=instance.speculate,
        )
    if never_placed:
        return (wish,)
    rungs: list[Wish] = []
    for rung in _ladder(wish, there={fact.id for fact in nodes}.issuperset(wish.nodes)):
        if rung not in rungs:
            rungs.append(rung)
    return tuple(rungs)


def _ladder(wish: Wish, there: bool) -> Iterator[Wish]:
    if there:
        yield wish
    yield (unpinned := msgspec.structs.replace(wish, nodes=()))
    yield (undivided := msgspec.structs.replace(unpinned, layers=(), stages=None))
    yield (
        unbound := msgspec.structs.replace(undivided, sharding=None, interconnect=None, nodes=(), tensor=None)
    )
    yield msgspec.structs.replace(unbound, draft=None)
