"""What a node does of all that is declared: it begins, drains and releases epochs, and never mixes them."""

from actors.placing.local_part import Steps, next_steps
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, InstanceFact
from bus.messages.placement import Instance, Stage, Term

ME, OTHER = NodeId("me"), NodeId("other")
ID = InstanceId("i")
TERM = Term(1, ME)


def instance(epoch: int, *nodes: NodeId) -> Instance:
    stages = tuple(Stage(index, index + 1, (node,)) for index, node in enumerate(nodes))
    return Instance(ID, epoch, ModelId("m"), stages, context=512)


def declared(at: Instance, successor: Instance | None = None, *, withdrawn: bool = False) -> DeclaredFact:
    return DeclaredFact(at, TERM, successor=successor, withdrawn=withdrawn)


def served(at: Instance) -> dict[str, InstanceFact]:
    fact = InstanceFact(at.id, at.epoch, at.model, at.nodes, Phase.READY, "ready", 0.0)
    return {f"instance/{at.id}/{at.epoch}": fact}


def test_what_is_declared_is_begun_once() -> None:
    first = instance(1, ME, OTHER)
    assert next_steps(ME, [declared(first)], {}, set(), {}) == Steps(run=(first,))
    assert next_steps(ME, [declared(first)], {(ID, 1): first}, {(ID, 1)}, {}) == Steps()


def test_what_has_no_place_is_not_begun() -> None:
    assert next_steps(ME, [declared(instance(1))], {}, set(), {}) == Steps()


def test_a_new_epoch_replaces_the_old_one_at_once() -> None:
    old, new = instance(1, ME, OTHER), instance(2, ME)
    steps = next_steps(ME, [declared(new)], {(ID, 1): old}, {(ID, 1)}, served(old))
    assert steps == Steps(run=(new,), release=((ID, 1),))


def test_a_successor_is_prepared_beside_what_runs() -> None:
    old, new = instance(1, ME, OTHER), instance(2, OTHER)
    steps = next_steps(ME, [declared(old, new)], {(ID, 1): old}, {(ID, 1)}, served(old))
    assert steps == Steps(run=(new,))


def test_what_is_withdrawn_drains_first_and_is_released_when_it_is_served_no_more() -> None:
    old = instance(1, ME, OTHER)
    gone = declared(instance(2), withdrawn=True)
    draining = next_steps(ME, [gone], {(ID, 1): old}, {(ID, 1)}, served(old))
    assert draining == Steps(drain=((ID, 1),), unfinished=True)
    assert next_steps(ME, [gone], {(ID, 1): old}, {(ID, 1)}, {}) == Steps(release=((ID, 1),))


def test_a_node_without_a_rank_only_keeps_the_way_there_open_while_it_drains() -> None:
    old = instance(1, OTHER)
    gone = declared(instance(2), withdrawn=True)
    assert next_steps(ME, [gone], {(ID, 1): old}, {(ID, 1)}, served(old)) == Steps(unfinished=True)


def test_the_same_epoch_placed_elsewhere_waits_until_the_first_has_ended() -> None:
    mine, theirs = instance(2, ME), instance(2, OTHER, ME)
    steps = next_steps(ME, [declared(theirs)], {(ID, 2): mine}, {(ID, 2)}, served(mine))
    assert steps == Steps(release=((ID, 2),), unfinished=True)
    assert next_steps(ME, [declared(theirs)], {}, set(), {}) == Steps(run=(theirs,))
