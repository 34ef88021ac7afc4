"""A request goes to an instance that is ready, the least loaded one, or is told why there is none."""

from actors.placing.routing import route
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import DeclaredFact, InstanceFact
from bus.messages.generation import RefusalCode
from bus.messages.placement import Instance, NotServed, Serving, Stage, Term

MODEL, NODE = ModelId("m"), NodeId("n")


def declared(name: str, *, placed: bool = True, given_up: bool = False) -> DeclaredFact:
    stages = (Stage(0, 4, (NODE,)),) if placed else ()
    instance = Instance(InstanceId(name), 1, MODEL, stages, context=512)
    return DeclaredFact(instance, Term(1, NODE), reason=f"{name}'s reason", given_up=given_up)


def facts(**phases: tuple[Phase, int]) -> dict[str, InstanceFact]:
    return {
        f"instance/{name}/1": InstanceFact(
            InstanceId(name), 1, MODEL, (NODE,), phase, "", since=0.0, running=running
        )
        for name, (phase, running) in phases.items()
    }


def test_the_least_loaded_of_those_that_are_ready() -> None:
    known = facts(a=(Phase.READY, 3), b=(Phase.READY, 1), c=(Phase.LOADING, 0))
    assert route(MODEL, [declared("a"), declared("b"), declared("c")], known) == Serving(InstanceId("b"), 1)


def test_one_that_is_nearly_ready_before_one_that_failed() -> None:
    known = facts(a=(Phase.FAILED, 0), b=(Phase.LOADING, 0))
    assert route(MODEL, [declared("a"), declared("b")], known) == Serving(InstanceId("b"), 1)


def test_a_model_that_nobody_declared_is_told_apart() -> None:
    answer = route(MODEL, [], {})
    assert isinstance(answer, NotServed)
    assert answer.unplaced


def test_an_instance_without_a_place_says_why() -> None:
    answer = route(MODEL, [declared("a", placed=False)], {})
    assert isinstance(answer, NotServed)
    assert answer.refusal.code is RefusalCode.DOES_NOT_FIT
    assert "a's reason" in answer.refusal.message


def test_an_instance_that_was_given_up_says_why() -> None:
    answer = route(MODEL, [declared("a", given_up=True)], {})
    assert isinstance(answer, NotServed)
    assert answer.refusal.code is RefusalCode.ENGINE_FAILED
    assert "a's reason" in answer.refusal.message


def test_one_that_works_hides_one_that_was_given_up() -> None:
    known = facts(a=(Phase.FAILED, 0), b=(Phase.READY, 9))
    assert route(MODEL, [declared("a", given_up=True), declared("b")], known) == Serving(InstanceId("b"), 1)


def test_one_that_was_just_declared_comes_before_one_that_failed_or_was_given_up() -> None:
    known = facts(a=(Phase.FAILED, 0))
    assert route(MODEL, [declared("a"), declared("b")], known) == Serving(InstanceId("b"), 1)
    assert route(MODEL, [declared("a", given_up=True), declared("b")], {}) == Serving(InstanceId("b"), 1)
