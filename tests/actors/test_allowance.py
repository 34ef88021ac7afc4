"""An engine's Runner follows the facts of its node, and tells the engine when its budget has changed."""

from pathlib import Path

import msgspec

from actors.planner.memory import Needs
from actors.running.allowance import TAKEN_S, Allowance
from actors.running.budget import Engine
from actors.running.course import PAUSE_S
from actors.running.files import safe_name
from actors.running.instance_state import InstanceState
from actors.running.neighbours import engines_on, fitting_context
from actors.running.ranks import Ranks
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Beat, Bound, Budget, Phase, PhaseChange
from bus.messages.facts import DeclaredFact, Fact, InstanceFact, Pressure, RankFact
from bus.messages.placement import Instance, Stage, Term
from bus.view import ClusterView
from tests.actors.planner_examples import GIB, MODEL, copies, node, shape

HERE, THERE = NodeId("id-here"), NodeId("id-there")


def instance(
    id: str = "i", epoch: int = 1, *, nodes: tuple[NodeId, ...] = (HERE,), kv_bytes: int | None = None
) -> Instance:
    width = 32 // len(nodes)
    stages = tuple(
        Stage(place * width, (place + 1) * width, (each,), 10 * GIB) for place, each in enumerate(nodes)
    )
    return Instance(InstanceId(id), epoch, MODEL, stages, context=8192, kv_bytes=kv_bytes)


def declared(one: Instance, *, successor: Instance | None = None, withdrawn: bool = False) -> DeclaredFact:
    return DeclaredFact(instance=one, term=Term(1, HERE), successor=successor, withdrawn=withdrawn)


def whole(one: Instance, *, active: int = 0, kv: int = 0, phase: Phase = Phase.READY) -> InstanceFact:
    return InstanceFact(
        one.id,
        one.epoch,
        MODEL,
        one.nodes,
        phase,
        "",
        0.0,
        stages=one.stages,
        active_bytes=active,
        kv_bytes=kv,
        context=one.context,
    )


def facts_of(*facts: Fact, free_gib: float = 40.0, kv_memory: int | None = None) -> dict[str, Fact]:
    here = [node("here", free_gib, kv_memory=kv_memory)]
    known: list[Fact] = [*here, *copies(here, shape())]
    return {_key(fact): fact for fact in (*known, *facts)}


def _key(fact: Fact) -> str:
    match fact:
        case DeclaredFact():
            return f"declared/{HERE}/{fact.instance.id}"
        case InstanceFact():
            return f"instance/{fact.id}/{fact.epoch}"
        case RankFact():
            return f"rank/{fact.instance}/{fact.epoch}/{fact.rank}/{fact.node}"
        case _:
            return f"node/{HERE}" if not hasattr(fact, "node") else f"model/{HERE}/{MODEL}"


def names(engines: tuple[Engine, ...]) -> list[tuple[str, int]]:
    return [each.key for each in engines]


def test_all_that_is_declared_here_or_still_runs_here_shares_the_memory() -> None:
    own, next_epoch = instance("own"), instance("own", 2)
    elsewhere, ending = instance("elsewhere", nodes=(THERE,)), instance("ending")
    facts = facts_of(
        declared(own, successor=next_epoch), declared(elsewhere), declared(instance("new")), whole(ending)
    )
    found = engines_on(HERE, facts, own)
    assert names(found) == [("ending", 1), ("new", 1), ("own", 1), ("own", 2)]
    assert names(engines_on(HERE, facts_of(), own)) == [("own", 1)], "whatever the facts say"
    over = whole(ending, phase=Phase.FAILED)
    assert names(engines_on(HERE, facts_of(over), own)) == [("own", 1)]


def test_an_engine_that_failed_for_good_takes_nothing_whatever_is_declared() -> None:
    own, broken, divided = instance("own"), instance("broken"), instance("divided", nodes=(THERE, HERE))
    rank = RankFact(divided.id, 1, 1, HERE, Phase.FAILED, "its weights are corrupt")
    facts = facts_of(
        declared(own), declared(broken), whole(broken, phase=Phase.FAILED), declared(divided), rank
    )
    assert names(engines_on(HERE, facts, own)) == [("own", 1)]
    again = facts_of(declared(own), declared(instance("broken", 2)), whole(broken, phase=Phase.FAILED))
    assert names(engines_on(HERE, again, own)) == [("broken", 2), ("own", 1)], "its next epoch does"
    assert names(engines_on(HERE, facts, broken)) == [("broken", 1), ("own", 1)], "its own Runner starts it"


def test_what_an_engine_takes_is_reckoned_from_its_models_shape() -> None:
    half = instance(nodes=(THERE, HERE))
    (found,) = engines_on(HERE, facts_of(), half)
    needs = Needs(shape(), 8192, 1)
    assert (found.fixed_bytes, found.context_bytes) == (needs.fixed(16, 32), needs.cache(16, 32))
    quantised = msgspec.structs.replace(half, kv_bits=4)
    (fewer,) = engines_on(HERE, facts_of(), quantised)
    assert fewer.context_bytes == Needs(shape(), 8192, 1, 4).cache(16, 32)
    (unknown,) = engines_on(HERE, {}, half)
    assert unknown.fixed_bytes == 10 * GIB, "without the model's shape what it was placed for counts"


def test_what_engines_hold_is_read_off_their_own_words() -> None:
    alone, half = instance("alone"), instance("half", nodes=(THERE, HERE))
    mine = RankFact(half.id, 1, 1, HERE, Phase.READY, "", active_bytes=9, kv_bytes=4, cached_bytes=2)
    theirs = RankFact(half.id, 1, 0, THERE, Phase.READY, "", active_bytes=99)
    facts = facts_of(declared(half), whole(alone, active=7, kv=3), whole(half, active=99), mine, theirs)
    first, second = engines_on(HERE, facts, alone)
    assert (first.active_bytes, first.kv_bytes, first.cached_bytes, first.loaded) == (7, 3, 0, True)
    assert (second.active_bytes, second.kv_bytes, second.cached_bytes, second.loaded) == (9, 4, 2, True)


def allowance(
    own: Instance, view: ClusterView, kv_memory: int | None = None
) -> tuple[Allowance, InstanceState]:
    state = InstanceState(own, HERE)
    return Allowance(state, Ranks(own, state.rank), view, kv_memory), state


def view_of(facts: dict[str, Fact]) -> ClusterView:
    view = ClusterView()
    view.apply(HERE, list(facts.items()))
    return view


def test_an_engine_is_told_its_budget_when_it_loads_and_again_when_another_comes() -> None:
    own = instance(kv_bytes=None)
    view = view_of(facts_of(declared(own)))
    mine, state = allowance(own, view)
    first = mine.first(0.0)
    assert first is not None
    assert first.kv_bytes > 8192 * 32 * 4096
    assert state.kv_budget_bytes == first.kv_bytes
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    assert mine.news(PAUSE_S) is None, "it knows that"
    view.apply(HERE, [("declared/x/other", declared(instance("other")))])
    again = mine.news(2 * PAUSE_S)
    assert again is not None
    assert again.kv_bytes < first.kv_bytes // 2
    assert mine.news(3 * PAUSE_S) is None


def test_until_it_is_ready_an_engine_is_told_nothing_new() -> None:
    own = instance()
    view = view_of(facts_of(declared(own)))
    mine, _ = allowance(own, view)
    mine.first(0.0)
    view.apply(HERE, [("declared/x/other", declared(instance("other")))])
    assert mine.news(2 * PAUSE_S) is None


def test_an_engine_that_began_before_its_nodes_memory_was_known_is_told_later() -> None:
    own = instance()
    view = ClusterView()
    mine, state = allowance(own, view)
    assert mine.first(0.0) is None
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    view.apply(HERE, list(facts_of().items()))
    assert mine.news(1.0) is not None


def holding(budget: Budget) -> Beat:
    """Of an engine that has taken it."""
    return Beat(steps=1, kv_limit_bytes=budget.kv_bytes)


def test_an_engine_is_told_again_until_its_beats_show_that_it_knows() -> None:
    own = instance()
    view = view_of(facts_of())
    mine, state = allowance(own, view)
    first = mine.first(0.0)
    assert first is not None
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    ready = 100.0
    assert mine.news(ready) is None, "it is to show what it was told when it was loaded"
    state.beat = holding(first)
    assert mine.news(ready + TAKEN_S) is None
    view.apply(HERE, [("declared/x/other", declared(instance("other")))])
    told = ready + TAKEN_S + 1.0
    less = mine.news(told)
    assert less is not None
    assert mine.news(told + TAKEN_S - 0.5) is None, "a beat may be on its way"
    assert mine.news(told + TAKEN_S) == less, "the command was lost"
    assert mine.news(told + TAKEN_S + 0.5) is None
    assert mine.news(told + 2 * TAKEN_S) == less, "and again"
    state.beat = holding(less)
    assert mine.news(told + 3 * TAKEN_S) is None


def test_that_memory_is_short_is_told_until_it_is_known() -> None:
    own = instance(kv_bytes=GIB)
    facts = facts_of()
    mine, state = allowance(own, view := view_of(facts))
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    first = mine.news(0.0)
    assert first is not None
    state.beat = holding(first)
    view.apply(HERE, [(f"node/{HERE}", node("here", 40.0, pressure=Pressure.CRITICAL))])
    told = [mine.news(1.0 + number * TAKEN_S) for number in range(3)]
    for budget in told:  # each but the last is lost
        assert budget is not None
        assert budget.short
        assert GIB - 2 <= budget.kv_bytes < GIB, "beats can tell it from the first"
        state.beat = holding(budget)
    assert mine.news(1.0 + 4 * TAKEN_S) is None


def test_rank_0_that_began_with_what_another_had_then_is_told_what_it_has_now() -> None:
    own = instance(nodes=(HERE, THERE))
    state, ranks = InstanceState(own, HERE), Ranks(own, 0)
    mine = Allowance(state, ranks, view_of(facts_of()))
    first = mine.first(0.0)
    assert first is not None
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    state.beat = Beat(steps=1, kv_limit_bytes=GIB)  # what rank 1 had when it connected
    ranks.tell(1, RankFact(own.id, 1, 1, THERE, Phase.READY, "", kv_budget_bytes=first.kv_bytes))
    assert mine.news(1.0) is None
    assert mine.news(1.0 + TAKEN_S) == first


def test_other_ranks_admit_nobody_and_have_nothing_to_show() -> None:
    own = instance(nodes=(THERE, HERE))
    mine, state = allowance(own, view_of(facts_of()))
    mine.first(0.0)
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    assert mine.news(1.0) is None
    assert mine.news(1.0 + 2 * TAKEN_S) is None


def test_an_instance_shows_the_context_that_fits_beside_the_others_into_what_its_node_may_hold() -> None:
    own, other = instance("own"), instance("other")
    whole_context = Needs(shape(), 8192, 1).cache(0, 32)
    view = view_of(facts_of(kv_memory=whole_context))
    mine, state = allowance(own, view, kv_memory=whole_context)
    mine.first(0.0)
    assert state.fact().context == 8192, "nothing else is placed there"
    state.enter(PhaseChange(phase=Phase.READY, reason="ready", context=8192))
    view.apply(HERE, [("declared/x/other", declared(other))])
    mine.news(10.0)
    shown = state.fact().context
    assert shown is not None
    assert Needs(shape(), shown, 1).cache(0, 32) <= whole_context // 2
    assert Needs(shape(), shown + 1, 1).cache(0, 32) > whole_context // 2
    view.apply(HERE, [("declared/x/other", declared(other, withdrawn=True))])
    mine.news(20.0)
    assert state.fact().context == 8192
    beside, loading = allowance(other, view_of(facts_of(declared(own), kv_memory=whole_context)))
    beside.first(0.0)
    assert loading.fact().context == shown, "from the start"


def test_the_tightest_node_of_an_instance_counts_and_a_node_without_a_limit_does_not() -> None:
    own = instance(nodes=(HERE, THERE))
    assert fitting_context(own, facts_of()) is None
    tight, roomy = facts_of(kv_memory=GIB // 4), facts_of(kv_memory=40 * GIB)
    there = node("there", 40.0, kv_memory=GIB // 8)
    theirs: dict[str, Fact] = {f"node/{THERE}": there, f"model/{THERE}/{MODEL}": copies([there], shape())[0]}
    fitting = fitting_context(own, {**tight, **theirs})
    assert fitting == fitting_context(own, {**roomy, **theirs})
    assert fitting is not None
    assert Needs(shape(), fitting, 1).cache(16, 32) <= GIB // 8 < Needs(shape(), fitting + 1, 1).cache(16, 32)


def test_what_an_instance_shows_does_not_change_what_it_counts_for() -> None:
    own = instance("own")
    needed = Needs(shape(), 8192, 1).stage(0, 32)
    stages = tuple(msgspec.structs.replace(stage, needed_bytes=needed) for stage in own.stages)
    ending = msgspec.structs.replace(instance("ending"), stages=stages)
    says = [msgspec.structs.replace(whole(ending), context=shown) for shown in (8192, 100)]
    first, second = (engines_on(HERE, facts_of(said), own) for said in says)
    assert first == second
    assert first[0].context_bytes == first[1].context_bytes == Needs(shape(), 8192, 1).cache(0, 32)


def test_the_wish_and_the_node_bound_it() -> None:
    bounded, _ = allowance(instance(kv_bytes=GIB), view_of(facts_of()))
    told = bounded.first(0.0)
    assert told is not None
    assert told.kv_bytes == GIB
    tighter, _ = allowance(instance(kv_bytes=GIB), view_of(facts_of()), kv_memory=GIB // 2)
    told = tighter.first(0.0)
    assert told is not None
    assert told.kv_bytes == GIB // 2


def test_rank_0_is_told_what_fits_the_tightest_rank() -> None:
    own = instance(nodes=(HERE, THERE))
    view = view_of(facts_of())
    state = InstanceState(own, HERE)
    ranks = Ranks(own, 0)
    mine = Allowance(state, ranks, view)
    mine.first(0.0)
    state.enter(PhaseChange(phase=Phase.READY, reason="ready"))
    assert mine.news(1.0) is None
    ranks.tell(1, RankFact(own.id, 1, 1, THERE, Phase.READY, "", kv_budget_bytes=GIB))
    told = mine.news(2.0)
    assert told is not None
    assert told.kv_bytes == GIB
    assert state.kv_budget_bytes > GIB, "what it tells the others is its own"


def test_an_instance_tells_what_its_engine_says_of_its_cache() -> None:
    own = msgspec.structs.replace(instance(), kv_bits=8, draft=ModelId("a/draft"))
    state = InstanceState(own, HERE)
    state.beat = Beat(
        steps=1,
        kv_limit_bytes=2,
        prefix_bytes=3,
        prompt_tokens=4,
        cached_tokens=5,
        drafted_tokens=6,
        accepted_tokens=7,
        preempted=8,
        trails=(9, 10),
    )
    fact = state.fact()
    assert (fact.kv_limit_bytes, fact.prefix_bytes, fact.prompt_tokens, fact.cached_tokens) == (2, 3, 4, 5)
    assert (fact.drafted_tokens, fact.accepted_tokens, fact.preempted, fact.trails) == (6, 7, 8, (9, 10))
    assert (fact.kv_bits, fact.draft) == (8, "a/draft")
    state.without = "without its draft model a/draft: there is no whole copy of it here"
    assert state.fact().draft is None
    assert state.fact().reason.endswith(state.without)
    state.bound = Bound(hop="tcp://x", kept="name")
    state.kv_budget_bytes = 11
    told = state.rank_fact()
    assert (told.kept, told.kv_budget_bytes, told.prefix_bytes) == ("name", 11, 3)


def test_each_model_has_a_folder_of_its_own() -> None:
    models = [ModelId(name) for name in ("org/name", "org_name", "org--name", "org%2Fname")]
    folders = {Path(safe_name(model)) for model in models}
    assert len(folders) == len(models)
    assert all(len(folder.parts) == 1 for folder in folders)
