"""A wish is placed where it runs best, what a person fixes is kept, and each line says why."""

import pytest

from actors.planner.plan import plan
from actors.planner.speed import Link
from actors.planner.words import refusal
from bus.messages.base import NodeId
from bus.messages.facts import Accelerator, AcceleratorKind, NodeFact, Pressure, Shape
from bus.messages.generation import RefusalCode
from bus.messages.placement import Choice, Interconnect, Previews, Sharding, Wish
from tests.actors.planner_examples import GIB, MODEL, copies, node, shape

FAST = Link(20e-6, 4e9)


def planned(nodes: list[NodeFact], model: Shape | None = None, wish: Wish | None = None) -> Previews:
    return plan(wish or Wish(MODEL), copies(nodes, model or shape()), nodes, {})


def placed(choice: Choice) -> list[tuple[str, int]]:
    """First node and number of layers of each stage."""
    return [(stage.nodes[0].removeprefix("id-"), stage.end - stage.first) for stage in choice.stages]


def reasons(previews: Previews) -> str:
    return "\n".join(f"{ruled.what}: {ruled.why}" for ruled in previews.ruled_out)


def path(here: str, there: str) -> tuple[NodeId, NodeId]:
    return NodeId(f"id-{here}"), NodeId(f"id-{there}")


def ids(*names: str) -> tuple[NodeId, ...]:
    return tuple(NodeId(f"id-{name}") for name in names)


# -- which nodes -------------------------------------------------------------------------------------


def test_a_model_that_fits_goes_on_the_fastest_node_alone() -> None:
    best = planned([node("mini", 40, rate=100), node("studio", 40, rate=400)]).choices[0]
    assert placed(best) == [("studio", 32)]
    assert best.why == "studio alone: 42 tokens/s expected"
    assert best.sharding is Sharding.PIPELINE


def test_a_model_that_fits_nowhere_alone_is_divided_and_the_line_says_why() -> None:
    best = planned([node("mini", 7, rate=100), node("studio", 9, rate=200)]).choices[0]
    assert best.why == (
        "2 stages on studio (22 layers) and mini (10): 16 tokens/s expected;"
        " studio alone can't hold it: 9.6 GiB of 9.0 free, with a context of 512"
    )
    assert [stage.needed_bytes <= 9 * GIB for stage in best.stages] == [True, True]


def test_layers_follow_speed_until_memory_ends_it() -> None:
    best = planned([node("fast", 4, rate=300), node("slow", 12, rate=100)], shape(gib=11)).choices[0]
    layers = dict(placed(best))
    assert layers["fast"] + layers["slow"] == 32
    assert layers["fast"] < 11


def test_tensor_over_quick_links_beats_a_node_alone_and_over_slow_ones_does_not() -> None:
    nodes = [node("a", 40), node("b", 40)]
    facts = copies(nodes, shape())
    quick = plan(Wish(MODEL), facts, nodes, {}, {path("a", "b"): FAST}).choices[0]
    assert (quick.sharding, quick.interconnect) == (Sharding.TENSOR, Interconnect.RING)
    assert "times as fast as a alone" in quick.why
    slow = plan(Wish(MODEL), facts, nodes, {}, {path("a", "b"): Link(2e-3, 5e6)}).choices[0]
    assert slow.stages[0].nodes == ids("a")


def test_a_stage_of_several_ranks_is_made_of_nodes_that_are_near_each_other() -> None:
    nodes = [node(name, 40) for name in "abcd"]
    links = {path("a", "c"): FAST, path("b", "d"): FAST}
    wish = Wish(MODEL, stages=2, tensor=2)
    best = plan(wish, copies(nodes, shape()), nodes, {}, links).choices[0]
    assert {frozenset(stage.nodes) for stage in best.stages} == {
        frozenset(ids("a", "c")),
        frozenset(ids("b", "d")),
    }
    assert best.sharding is Sharding.HYBRID


def test_rank_order_follows_measured_links() -> None:
    nodes = [node("a", 6), node("b", 6), node("c", 6)]
    links = {path("a", "c"): FAST, path("c", "b"): FAST, path("a", "b"): Link(5e-3, 1e7)}
    best = plan(Wish(MODEL, stages=3), copies(nodes, shape()), nodes, {}, links).choices[0]
    assert [name for name, _ in placed(best)] in (["a", "c", "b"], ["c", "a", "b"], ["c", "b", "a"])


def test_there_are_never_more_stages_than_layers() -> None:
    nodes = [node(f"n{number}", 40) for number in range(4)]
    choices = planned(nodes, shape(layers=2)).choices
    assert max(len(choice.stages) for choice in choices) == 2


# -- what is free ------------------------------------------------------------------------------------


def test_what_is_promised_and_what_an_accelerator_may_not_use_is_not_free() -> None:
    nodes = [node("a", 16)]
    facts = copies(nodes, shape())
    assert plan(Wish(MODEL), facts, nodes, {}).choices
    assert not plan(Wish(MODEL), facts, nodes, {nodes[0].id: 8 * GIB}).choices
    limited = Accelerator(kind=AcceleratorKind.METAL, name="m", memory_bytes=12 * GIB)
    metal = [node("a", 16, accelerator=limited)]
    assert plan(Wish(MODEL), facts, metal).choices
    assert not plan(Wish(MODEL), facts, metal, held={metal[0].id: 4 * GIB}).choices


def test_a_graphics_card_counts_with_its_own_memory() -> None:
    card = Accelerator(kind=AcceleratorKind.CUDA, name="h", memory_bytes=80 * GIB)
    assert planned([node("a", 4, accelerator=card)]).choices


def test_a_node_that_is_short_of_memory_gives_half_of_it_or_nothing() -> None:
    assert planned([node("a", 16, pressure=Pressure.NORMAL)]).choices
    assert not planned([node("a", 16, pressure=Pressure.WARNING)]).choices
    assert "node a: critically short of memory" in reasons(
        planned([node("a", 16, pressure=Pressure.CRITICAL)])
    )


def test_a_shortage_that_may_pass_is_worth_asking_again_for() -> None:
    nodes = [node("a", 16, pressure=Pressure.CRITICAL)]
    assert refusal(planned(nodes), Wish(MODEL)).retry_after_s is not None
    assert refusal(planned([node("a", 2)]), Wish(MODEL)).retry_after_s is None


def test_the_context_is_shortened_to_what_fits_unless_it_is_asked_for() -> None:
    nodes = [node("a", 9.6)]
    best = planned(nodes).choices[0]
    assert 512 <= best.context < 8192
    assert f"its context shortened to {best.context} tokens" in best.why
    assert not planned(nodes, wish=Wish(MODEL, context=8192)).choices
    assert planned(nodes, wish=Wish(MODEL, context=best.context)).choices[0].context == best.context


def test_a_context_is_never_longer_than_the_model_was_made_for() -> None:
    assert planned([node("a", 99)], wish=Wish(MODEL, context=100_000)).choices[0].context == 8192


def test_two_nodes_with_a_long_context_come_before_one_with_a_short_one() -> None:
    choices = planned([node("a", 9.6), node("b", 9.6)]).choices
    assert [choice.context == 8192 for choice in choices] == [True, True, False, False]
    assert [len(choice.stages[0].nodes) * len(choice.stages) for choice in choices] == [2, 2, 1, 1]


# -- who is ruled out --------------------------------------------------------------------------------


def test_nodes_that_cannot_take_part_are_named_with_the_reason() -> None:
    nodes = [node("a", 40), node("b", 40), node("c", 40, leaving=True), node("d", 40)]
    facts = [
        *copies(nodes[:1], shape()),
        *copies(nodes[2:3], shape()),
        *copies(nodes[3:], None, problem="x y"),
    ]
    said = reasons(plan(Wish(MODEL), facts, nodes, {}))
    assert "node b: has no copy of the model" in said
    assert "node c: is about to stop" in said
    assert "node d: its copy of the model x y" in said


def test_another_version_of_the_model_does_not_take_part() -> None:
    nodes = [node("a", 40), node("b", 40), node("c", 40)]
    facts = [*copies(nodes[:2], shape()), *copies(nodes[2:], shape(gib=9))]
    assert "node c: its copy of the model is another version" in reasons(plan(Wish(MODEL), facts, nodes, {}))


def test_heads_decide_how_many_ranks_a_stage_can_have() -> None:
    said = reasons(planned([node(name, 40) for name in "abc"]))
    assert "tensor over 3: 8 KV heads can't be divided by 3" in said


def test_what_mlx_cannot_divide_is_not_divided() -> None:
    nodes = [node("a", 7), node("b", 7)]
    assert planned(nodes).choices
    stuck = planned(nodes, shape(pipeline_problem="its layers are no list", tensor_problem="it has no shard"))
    assert not stuck.choices
    assert "dividing it into stages: its layers are no list" in reasons(stuck)
    assert "dividing its layers: it has no shard" in reasons(stuck)


def test_a_model_that_is_not_examined_yet_is_not_divided_yet() -> None:
    nodes = [node("a", 7), node("b", 7)]
    previews = planned(nodes, shape(examined=False))
    assert not previews.choices
    refused = refusal(previews, Wish(MODEL))
    assert refused.retry_after_s is not None
    assert "not known yet" in refused.message


def test_what_one_node_found_out_about_a_model_holds_for_all() -> None:
    nodes = [node("a", 7), node("b", 7)]
    facts = [*copies(nodes[:1], shape()), *copies(nodes[1:], shape(examined=False))]
    assert plan(Wish(MODEL), facts, nodes, {}).choices


def test_jaccl_is_refused_where_there_is_no_rdma() -> None:
    nodes = [node("studio", 40, rdma=True), node("mini", 40)]
    previews = planned(nodes, wish=Wish(MODEL, interconnect=Interconnect.JACCL, nodes=ids("studio", "mini")))
    assert not previews.choices
    assert "jaccl: mini has no RDMA: run `rdma_ctl enable` in Recovery" in reasons(previews)


def test_jaccl_connects_two_nodes_since_more_cables_can_not_be_told_apart() -> None:
    nodes = [node(f"n{number}", 40, rdma=True) for number in range(3)]
    previews = planned(nodes, wish=Wish(MODEL, interconnect=Interconnect.JACCL, stages=3))
    assert not previews.choices
    assert "jaccl: which device leads to which node is known between 2 nodes at most" in reasons(previews)


def test_jaccl_is_offered_where_all_have_rdma() -> None:
    best = planned([node("a", 40, rdma=True), node("b", 40, rdma=True)]).choices[0]
    assert (best.sharding, best.interconnect) == (Sharding.TENSOR, Interconnect.JACCL)
    assert best.why.startswith("tensor over a and b over RDMA: ")


# -- granular control --------------------------------------------------------------------------------

FOUR = [node(name, 40) for name in "abcd"]


def test_nodes_keep_the_order_that_they_are_given_in() -> None:
    wish = Wish(MODEL, nodes=ids("c", "a", "d", "b"), sharding=Sharding.HYBRID)
    (choice,) = planned(FOUR, wish=wish).choices
    assert [stage.nodes for stage in choice.stages] == [ids("c", "a"), ids("d", "b")]


def test_nodes_alone_leave_the_sharding_open() -> None:
    choices = planned(FOUR, wish=Wish(MODEL, nodes=ids("c", "a"))).choices
    assert {choice.sharding for choice in choices} == {Sharding.PIPELINE, Sharding.TENSOR}


def test_layers_alone_leave_the_nodes_open() -> None:
    nodes = [node("small", 3), node("large", 12)]
    best = planned(nodes, wish=Wish(MODEL, layers=(4, 28))).choices[0]
    assert placed(best) == [("small", 4), ("large", 28)]


@pytest.mark.parametrize(
    ("wish", "what", "why"),
    [
        (Wish(MODEL, layers=(16, 15)), "layers", "add up to 31, and the model has 32"),
        (Wish(MODEL, layers=(16, 16), stages=3), "layers", "for 2 stages, and 3"),
        (Wish(MODEL, layers=(32, 0)), "layers", "at least one layer"),
        (Wish(MODEL, stages=33), "stages", "more than the model's 32 layers"),
        (Wish(MODEL, stages=0), "stages", "too small"),
        (Wish(MODEL, context=-1), "context", "too small"),
        (Wish(MODEL, tensor=3), "tensor", "8 KV heads can't be divided by 3"),
        (Wish(MODEL, sharding=Sharding.PIPELINE, tensor=2), "sharding", "one rank per stage"),
        (Wish(MODEL, sharding=Sharding.TENSOR, stages=2), "sharding", "tensor means one stage"),
        (Wish(MODEL, sharding=Sharding.HYBRID, stages=1), "sharding", "hybrid means several stages"),
        (Wish(MODEL, sharding=Sharding.TENSOR, tensor=1), "sharding", "several ranks"),
        (Wish(MODEL, sharding=Sharding.TENSOR, nodes=ids("a")), "sharding", "2 nodes at least"),
        (Wish(MODEL, sharding=Sharding.HYBRID, nodes=ids("a", "b")), "sharding", "4 nodes at least"),
        (Wish(MODEL, nodes=ids("a", "b", "c"), tensor=2), "nodes", "stages of 2"),
        (Wish(MODEL, nodes=ids("a", "b", "c"), stages=2), "nodes", "2 stages"),
        (Wish(MODEL, nodes=ids("a", "b"), stages=2, tensor=2), "nodes", "take 4"),
        (Wish(MODEL, nodes=ids("a", "a")), "nodes", "a is given twice"),
        (Wish(MODEL, nodes=ids("z")), "nodes", "no node id-z"),
    ],
)
def test_a_wish_that_contradicts_itself_or_the_model_is_told_so(wish: Wish, what: str, why: str) -> None:
    previews = planned(FOUR, wish=wish)
    assert not previews.choices
    assert any(ruled.what == what and why in ruled.why for ruled in previews.ruled_out), reasons(previews)
    refused = refusal(previews, wish)
    assert refused.code is RefusalCode.INVALID


@pytest.mark.parametrize(
    "wish",
    [
        Wish(MODEL, sharding=Sharding.TENSOR, nodes=ids("a", "b", "c")),
        Wish(MODEL, sharding=Sharding.HYBRID, nodes=ids("a", "b", "c", "d", "e")),
        Wish(MODEL, stages=3, tensor=2),
        Wish(MODEL, tensor=8),
        Wish(MODEL, interconnect=Interconnect.JACCL),
    ],
)
def test_a_wish_that_the_cluster_cannot_meet_is_told_why(wish: Wish) -> None:
    nodes = [node(name, 40) for name in "abcde"]
    previews = planned(nodes, wish=wish)
    assert not previews.choices
    assert previews.ruled_out


# -- when nothing is possible ------------------------------------------------------------------------


def test_a_refusal_has_the_numbers_and_what_to_do() -> None:
    previews = planned([node("a", 3), node("b", 2)])
    refused = refusal(previews, Wish(MODEL))
    assert refused.code is RefusalCode.DOES_NOT_FIT
    assert "a alone: can't hold it: 9.6 GiB of 3.0 free" in refused.message
    assert "9.9 GiB of 5.0 free" in refused.message
    assert "use a smaller or quantised model" in refused.message


def test_a_model_that_nobody_has_is_not_found_and_a_broken_one_can_not_be_used() -> None:
    nodes = [node("a", 3)]
    nowhere = plan(Wish(MODEL), [], nodes, {})
    assert refusal(nowhere, Wish(MODEL)).code is RefusalCode.MODEL_NOT_FOUND
    broken = plan(Wish(MODEL), copies(nodes, None, problem="is not complete"), nodes, {})
    assert "can't be used: it is not complete" in refusal(broken, Wish(MODEL)).message
