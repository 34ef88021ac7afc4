"""A request goes to an instance that is ready: one that has kept how it begins, or the least loaded one."""

from msgspec.structs import replace

from actors.placing.recent import UNTOLD_S, Recent
from actors.placing.routing import MUCH_BUSIER, route
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


def kept(load: int, *trail: int, phase: Phase = Phase.READY) -> InstanceFact:
    """An instance that has so many sequences under way, and those beginnings in its cache."""
    return InstanceFact(InstanceId(""), 1, MODEL, (NODE,), phase, "", since=0.0, running=load, trails=trail)


def chosen(trail: tuple[int, ...], **instances: InstanceFact) -> str:
    """Where a prompt that begins so goes."""
    known = {f"instance/{name}/1": replace(fact, id=InstanceId(name)) for name, fact in instances.items()}
    answer = route(MODEL, [declared(name) for name in instances], known, trail)
    assert isinstance(answer, Serving)
    return answer.instance


LONG = tuple(range(10, 20))


def test_who_has_kept_most_of_how_the_prompt_begins_comes_first() -> None:
    assert chosen(LONG, a=kept(0), b=kept(2, *LONG[:3]), c=kept(3, *LONG[:5])) == "c"
    assert chosen(LONG, a=kept(1), b=kept(0)) == "b"
    assert chosen((), a=kept(1, *LONG), b=kept(0)) == "b"


def test_of_two_that_have_kept_the_same_the_less_loaded_one_comes_first() -> None:
    assert chosen(LONG, a=kept(2, *LONG), b=kept(1, *LONG), c=kept(0)) == "b"


def test_a_later_mark_alone_says_that_all_before_it_is_kept() -> None:
    assert chosen(LONG, a=kept(0), b=kept(1, LONG[6])) == "b", "of a long trail some marks are left out"


def test_who_has_kept_it_and_is_much_busier_is_passed_over() -> None:
    assert chosen(LONG, a=kept(3), b=kept(3 + MUCH_BUSIER, *LONG)) == "b"
    assert chosen(LONG, a=kept(3), b=kept(4 + MUCH_BUSIER, *LONG)) == "a"


def test_a_short_beginning_in_common_is_worth_a_short_wait_only() -> None:
    assert chosen(LONG, a=kept(0), b=kept(1, *LONG[:1])) == "b"
    assert chosen(LONG, a=kept(0), b=kept(2, *LONG[:1])) == "a"


def test_what_an_instance_has_kept_counts_only_while_it_is_ready() -> None:
    assert chosen(LONG, a=kept(3), b=kept(0, *LONG, phase=Phase.LOADING)) == "a"


def test_requests_that_come_together_are_spread_before_any_engine_tells_of_them() -> None:
    known, recent = facts(a=(Phase.READY, 0), b=(Phase.READY, 1)), Recent()
    went = []
    for _ in range(6):
        answer = route(MODEL, [declared("a"), declared("b")], known, LONG, recent.counts(10.0))
        assert isinstance(answer, Serving)
        recent.note(answer.instance, 10.0)
        went.append(answer.instance)
    assert "".join(went) == "aababa"


def test_what_was_sent_counts_until_its_engine_tells_of_it() -> None:
    recent = Recent()
    recent.note(InstanceId("a"), 10.0)
    recent.note(InstanceId("a"), 10.5, sequences=8)
    assert recent.counts(10.6) == {"a": 9}
    assert recent.counts(10.0 + UNTOLD_S) == {"a": 8}
    assert recent.counts(99.0) == {}
