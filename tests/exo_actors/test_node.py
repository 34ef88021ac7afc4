"""What a node is built from its settings."""

from pathlib import Path

import pytest

from bus.messages.base import InstanceId, NodeId
from bus.messages.facts import DeclaredFact, Fact
from bus.messages.placement import Instance, Stage, Term
from exo_actors.node import has_to_move, named_folder
from tests.actors.planner_examples import MODEL, node


def test_what_starts_like_a_path_is_a_folder_and_the_rest_a_model_of_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert named_folder("~/models/mine") == Path("/home/anna/models/mine"), "EXO_MODEL=~/... has no shell"
    assert named_folder("/models/mine") == Path("/models/mine")
    assert named_folder("./mine") == Path("mine")
    assert named_folder("~nobody-of-that-name/mine") == Path("~nobody-of-that-name/mine")
    assert named_folder("org/mine") is None
    assert named_folder("guide") is None


HERE, THERE = NodeId("id-here"), NodeId("id-there")
BOTH: list[Fact] = [node("here", 1.0, leaving=True), node("there", 1.0)]


def declared(on: NodeId, epoch: int = 1, *, withdrawn: bool = False, given_up: bool = False) -> DeclaredFact:
    instance = Instance(InstanceId("i"), epoch, MODEL, (Stage(0, 32, (on,)),), context=512)
    return DeclaredFact(instance, Term(1, THERE), withdrawn=withdrawn, given_up=given_up)


def test_a_node_that_leaves_waits_for_what_another_could_take() -> None:
    assert has_to_move(HERE, [*BOTH, declared(HERE)])
    assert not has_to_move(HERE, [*BOTH, declared(THERE)])
    assert not has_to_move(HERE, [BOTH[0], node("there", 1.0, leaving=True), declared(HERE)])


def test_it_does_not_wait_for_what_has_moved_was_withdrawn_or_failed_for_good() -> None:
    assert not has_to_move(HERE, [*BOTH, declared(HERE), declared(THERE, 2)]), "not everybody knows that yet"
    assert not has_to_move(HERE, [*BOTH, declared(HERE, withdrawn=True), declared(HERE)])
    assert not has_to_move(HERE, [*BOTH, declared(HERE, given_up=True)])
