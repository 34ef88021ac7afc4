"""One object per instance, whatever of it is known and by whom it is told."""

import msgspec

from api.metrics import Metrics
from api.placed import UNHEARD, Placed
from api.settings import no_counts
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import Fact
from bus.messages.placement import Term
from tests.api.scripted import (
    INSTANCE,
    ScriptedView,
    declared_fact,
    instance,
    instance_fact,
    node_fact,
    rank_fact,
)

A, B = NodeId("0a"), NodeId("0b")
FIRST, SECOND = Term(1, A), Term(2, B)


def facts(*all: Fact) -> dict[str, Fact]:
    """Under keys of no meaning: what counts stands in the facts."""
    return {str(number): fact for number, fact in enumerate(all)}


def test_a_declared_instance_is_there_before_its_first_rank_speaks() -> None:
    [body] = Placed(facts(declared_fact(instance(nodes=(A, B)), FIRST))).instances()
    assert (body.phase, body.reason) == (Phase.WAITING, UNHEARD)
    assert [(rank.rank, rank.node, rank.phase) for rank in body.ranks] == [
        (0, A, Phase.WAITING),
        (1, B, Phase.WAITING),
    ]


def test_each_rank_is_as_its_own_node_says() -> None:
    placed = Placed(
        facts(
            node_fact(B, "attic"),
            declared_fact(instance(nodes=(A, B)), FIRST),
            instance_fact(Phase.LOADING, "rank 1 loads", nodes=(A, B)),
            rank_fact(1, B, Phase.LOADING),
            rank_fact(0, A, Phase.READY),
            rank_fact(1, B, Phase.FAILED, epoch=9),
        )
    )
    [body] = placed.instances()
    assert (body.phase, body.reason) == (Phase.LOADING, "rank 1 loads")
    assert [(rank.name, rank.stage, rank.phase) for rank in body.ranks] == [
        ("0a", 0, Phase.READY),
        ("attic", 1, Phase.LOADING),
    ]


def test_of_two_declarations_the_later_term_counts_and_a_withdrawal_is_final() -> None:
    older = declared_fact(instance(nodes=(A,)), FIRST, "old")
    newer = declared_fact(instance(nodes=(B,)), SECOND, "new")
    for said in ((older, newer), (newer, older)):
        [body] = Placed(facts(*said)).instances()
        assert (body.reason, body.stages[0].nodes) == ("new", (B,))
    gone = declared_fact(instance(), FIRST, withdrawn=True)
    assert Placed(facts(newer, gone)).instances() == ()


def test_what_is_withdrawn_is_shown_until_it_has_ended() -> None:
    gone = declared_fact(instance(), FIRST, withdrawn=True)
    [body] = Placed(facts(gone, instance_fact(Phase.DRAINING))).instances()
    assert body.phase is Phase.DRAINING


def test_an_epoch_that_is_made_ready_stands_beside_the_one_that_serves() -> None:
    declared = declared_fact(instance(), FIRST, successor=instance(epoch=2, nodes=(A, B)))
    said = (instance_fact(Phase.READY), instance_fact(Phase.LOADING, "3 of 4 layers", epoch=2))
    [body] = Placed(facts(declared, *said)).instances()
    assert (body.epoch, body.phase) == (1, Phase.READY)
    assert body.successor is not None
    assert (body.successor.epoch, body.successor.phase, body.successor.reason) == (
        2,
        Phase.LOADING,
        "3 of 4 layers",
    )


def test_an_instance_whose_declaration_is_not_known_here_is_shown_all_the_same() -> None:
    [body] = Placed(facts(instance_fact())).instances()
    assert (body.id, body.phase, body.wish) == (INSTANCE, Phase.READY, None)


def test_an_instance_without_a_place_has_no_ranks() -> None:
    unplaced = declared_fact(instance(nodes=()), FIRST, "it fits nowhere")
    [body] = Placed(facts(unplaced)).instances()
    assert (body.ranks, body.reason) == ((), "it fits nowhere")


def test_one_created_this_moment_can_be_told() -> None:
    body = Placed({}).created(instance("i9", nodes=(A,)))
    assert (body.id, body.ranks[0].node) == (InstanceId("i9"), A)


def test_how_the_cache_is_kept_and_who_guesses_is_told() -> None:
    made = msgspec.structs.replace(instance(), kv_bits=4, draft=ModelId("small"), speculate=False)
    [body] = Placed(facts(declared_fact(made, FIRST))).instances()
    assert (body.kv_bits, body.draft, body.speculate) == (4, "small", False)
    said = msgspec.structs.replace(instance_fact(), kv_bits=8, kv_limit_bytes=10, drafted_tokens=5)
    [body] = Placed(facts(declared_fact(made, FIRST), said)).instances()
    assert (body.kv_bits, body.draft, body.kv_limit_bytes, body.drafted_tokens) == (8, None, 10, 5)


def test_what_the_cache_spared_and_guessing_won_is_counted() -> None:
    said = msgspec.structs.replace(
        instance_fact(),
        kv_limit_bytes=100,
        prefix_bytes=60,
        prompt_tokens=50,
        cached_tokens=40,
        drafted_tokens=30,
        accepted_tokens=20,
        preempted=1,
    )
    registry = Metrics(ScriptedView(facts(said)), no_counts).registry
    which = {"instance": INSTANCE, "model": "m"}
    names = (
        *("kv_limit_bytes", "prefix_bytes", "prompt_tokens_total", "cached_tokens_total"),
        *("drafted_tokens_total", "accepted_tokens_total", "preempted_total"),
    )
    found = [registry.get_sample_value(f"exo_instance_{name}", which) for name in names]
    assert found == [100, 60, 50, 40, 30, 20, 1]


def test_two_epochs_of_an_instance_are_one_series_of_metrics() -> None:
    view = ScriptedView(
        facts(
            declared_fact(instance(epoch=2), FIRST),
            instance_fact(Phase.READY, epoch=1),
            instance_fact(Phase.LOADING, epoch=2, nodes=(A, B)),
            rank_fact(1, B, epoch=2),
            node_fact(),
        )
    )
    registry = Metrics(view, no_counts).registry
    which = {"instance": INSTANCE, "model": "m"}
    assert registry.get_sample_value("exo_instance_epoch", which) == 2
    assert registry.get_sample_value("exo_instance_ranks", which) == 2
    assert registry.get_sample_value("exo_instance_phase", {**which, "phase": "ready"}) is None
    assert registry.get_sample_value("exo_nodes") == 1
    rank = {"instance": INSTANCE, "epoch": "2", "rank": "1", "node": B}
    assert registry.get_sample_value("exo_rank_active_bytes", rank) == 7
    assert registry.get_sample_value("exo_rank_phase", {**rank, "phase": "ready"}) == 1
