"""What a wish says of the engine itself, its KV cache and its draft model, counts when memory is reckoned."""

import msgspec
import pytest

from actors.planner.memory import Needs, free_bytes, kv_bytes_at, runs
from actors.planner.plan import plan
from actors.planner.words import CACHE_NOT_EXAMINED, refusal
from bus.messages.base import ModelId, NodeId
from bus.messages.engine import Budget
from bus.messages.facts import ModelFact, NodeFact, Shape
from bus.messages.generation import RefusalCode
from bus.messages.placement import Previews, Sharding, Wish
from engine.memory.admission import room_ever
from engine.memory.footprint import Footprint, Layer
from tests.actors.planner_examples import GIB, MODEL, copies, node, shape

DRAFT = ModelId("a/draft")


def wish(**fields: object) -> Wish:
    return msgspec.structs.replace(Wish(MODEL), **fields)


def drafts(nodes: list[NodeFact], its_shape: Shape, *, problem: str = "") -> list[ModelFact]:
    facts = copies(nodes, its_shape, problem=problem)
    return [msgspec.structs.replace(fact, id=DRAFT) for fact in facts]


def why(previews: Previews, what: str) -> str:
    assert not previews.choices
    found = [ruled.why for ruled in previews.ruled_out if ruled.what == what]
    assert found, previews.ruled_out
    return found[0]


def test_fewer_bits_take_what_the_numbers_and_their_groups_take() -> None:
    group = 64 * 4
    assert kv_bytes_at(group, 4, 8) == 64 + 2 * 4
    assert kv_bytes_at(group, 4, 4) == 32 + 2 * 4
    assert kv_bytes_at(3 * group, 4, 4) == 3 * kv_bytes_at(group, 4, 4)
    assert kv_bytes_at(1000, 2, None) == 1000


def test_a_cache_of_fewer_bits_leaves_room_for_a_longer_context() -> None:
    nodes, model = [node("a", 9.9)], shape(gib=8.0)
    contexts = []
    for bits in (None, 8, 4):
        (choice, *_) = plan(wish(kv_bits=bits), copies(nodes, model, context=100_000), nodes).choices
        contexts.append(choice.context)
        assert choice.stages[0].needed_bytes <= free_bytes(nodes[0])
    assert contexts[0] < contexts[1] < contexts[2]
    step = 256
    assert (contexts[2] + step) / (contexts[0] + step) == pytest.approx(16 / 4.5, rel=0.01)


@pytest.mark.parametrize("bits", [0, 2, 16, -8])
def test_other_numbers_of_bits_are_refused_in_words(bits: int) -> None:
    nodes = [node("a", 20)]
    previews = plan(wish(kv_bits=bits), copies(nodes, shape()), nodes)
    assert why(previews, "kv_bits") == f"{bits} bits are not possible: 8 or 4 are"
    refused = refusal(previews, wish(kv_bits=bits))
    assert (refused.code, refused.param) == (RefusalCode.INVALID, "kv_bits")


def test_a_model_whose_cache_can_have_no_fewer_bits_is_refused_with_its_reason() -> None:
    nodes = [node("a", 20)]
    stubborn = msgspec.structs.replace(shape(), kv_quant_problem="its cache is a sliding window")
    previews = plan(wish(kv_bits=8), copies(nodes, stubborn), nodes)
    assert why(previews, "kv_bits") == "its cache is a sliding window"
    assert plan(wish(), copies(nodes, stubborn), nodes).choices


def test_fewer_bits_wait_until_the_model_was_examined() -> None:
    nodes = [node("a", 20)]
    previews = plan(wish(kv_bits=8), copies(nodes, shape(examined=False)), nodes)
    assert why(previews, "kv_bits") == CACHE_NOT_EXAMINED


def test_a_bound_for_the_cache_shortens_a_context_that_nobody_asked_for() -> None:
    nodes, model = [node("a", 20)], shape()
    (choice, *_) = plan(wish(kv_bytes=GIB // 2), copies(nodes, model), nodes).choices
    assert choice.context == GIB // 2 // ((32 + 3) * 4096) - 256, "three layers are there twice for a moment"
    needs = Needs(model, choice.context, 1)
    assert needs.cache(0, 32) <= GIB // 2


def test_a_bound_for_the_cache_that_does_not_hold_the_context_asked_for_is_refused() -> None:
    nodes, model = [node("a", 20)], shape()
    asked = wish(kv_bytes=GIB * 5 // 8, context=8192)
    previews = plan(asked, copies(nodes, model), nodes)
    assert why(previews, "kv_bytes") == "0.6 GiB on each node don't hold 8192 tokens: 4425 at most"
    assert refusal(previews, asked).param == "kv_bytes"
    both = [*nodes, node("b", 20)]
    choices = plan(asked, copies(both, model), both).choices
    assert choices, "two nodes have twice as much"
    assert all(sum(len(stage.nodes) for stage in choice.stages) == 2 for choice in choices)


def test_what_a_person_gives_a_node_for_its_cache_shortens_a_context_and_the_line_says_so() -> None:
    nodes, model = [node("a", 20, kv_memory=GIB // 2)], shape()
    longest = []
    for bits in (None, 8, 4):
        (choice, *_) = plan(wish(kv_bits=bits), copies(nodes, model, context=100_000), nodes).choices
        assert Needs(model, choice.context, 1, bits).cache(0, 32) <= GIB // 2
        assert Needs(model, choice.context + 1, 1, bits).cache(0, 32) > GIB // 2
        why = f"its context shortened to {choice.context} tokens by the 0.5 GiB of KV cache that a may hold"
        assert choice.why.endswith(why)
        longest.append(choice.context)
    assert longest[0] < longest[1] < longest[2]
    roomy = [node("a", 20, kv_memory=8 * GIB)]
    assert "shortened" not in plan(wish(), copies(roomy, model), roomy).choices[0].why
    both = plan(wish(kv_bytes=GIB // 4), copies(nodes, model), nodes).choices[0]
    assert both.why.endswith(f"shortened to {both.context} tokens"), "the wish allows less than the node"


def test_a_context_that_no_node_may_hold_is_refused_with_the_numbers_and_what_to_do() -> None:
    nodes, model = [node("a", 20, kv_memory=GIB // 2)], shape()
    asked = wish(context=8192)
    previews = plan(asked, copies(nodes, model), nodes)
    assert why(previews, "--kv-memory") == (
        "KV cache may take 0.5 GiB on a: a context of 8192 does not fit, one of 3488 does;"
        " start the node with more, ask for a shorter context or set kv_bits to 8 or 4"
    )
    assert why(previews, "a alone").startswith("can't hold it: 1.1 GiB of KV cache, and 0.5 GiB is allowed")
    refused = refusal(previews, asked)
    assert refused.code is RefusalCode.DOES_NOT_FIT
    assert "does not fit: --kv-memory: KV cache may take" in refused.message
    assert plan(wish(context=8192, kv_bits=4), copies(nodes, model), nodes).choices
    tiny = [node("a", 20, kv_memory=1000)]
    previews = plan(wish(), copies(tiny, model), tiny)
    assert "a context of 512 does not fit, nor does any that is worth it" in why(previews, "--kv-memory")


def test_the_tightest_node_decides_and_layers_go_where_their_cache_may() -> None:
    nodes = [node("a", 20, kv_memory=GIB // 4), node("b", 20)]
    previews = plan(wish(stages=2), copies(nodes, shape()), nodes)
    (pipeline,) = previews.choices
    layers = {stage.nodes[0]: stage.end - stage.first for stage in pipeline.stages}
    assert pipeline.context == 8192
    assert layers[nodes[0].id] < layers[nodes[1].id]
    evenly = plan(wish(layers=(16, 16)), copies(nodes, shape()), nodes).choices[0]
    assert evenly.context < 8192
    assert "by the 0.2 GiB of KV cache that a may hold" in evenly.why
    tensor = plan(wish(tensor=2), copies(nodes, shape()), nodes).choices[0]
    assert Needs(shape(), tensor.context, 2).cache(0, 32) <= GIB // 4


def test_much_memory_where_little_of_it_may_be_cache_is_no_room() -> None:
    nodes = [node("a", 40, kv_memory=GIB // 8), node("b", 7), node("c", 7)]
    (choice, *_) = plan(wish(stages=2, context=8192), copies(nodes, shape()), nodes).choices
    assert {stage.nodes[0] for stage in choice.stages} == {"id-b", "id-c"}


@pytest.mark.parametrize("layers", [1, 2, 32])
@pytest.mark.parametrize("context", [1, 512, 8192])
def test_what_is_reckoned_for_a_context_is_what_the_engine_admits_one_with(layers: int, context: int) -> None:
    model = shape(layers=layers)
    footprint = Footprint(((Layer(token_bytes=4096), layers),))
    budget = Budget(kv_bytes=Needs(model, context, 1).cache(0, layers), cache_bytes=0)
    assert context <= room_ever(footprint, budget) <= context + 1


def test_a_draft_model_is_counted_where_rank_0_is() -> None:
    nodes, small = [node("a", 20)], shape(layers=4, gib=1.0)
    (with_it, *_) = plan(
        wish(draft=DRAFT), copies(nodes, shape()), nodes, draft_facts=drafts(nodes, small)
    ).choices
    (without, *_) = plan(wish(), copies(nodes, shape()), nodes).choices
    its_own = Needs(small, with_it.context, 1).stage(0, 4)
    assert with_it.stages[0].needed_bytes == without.stages[0].needed_bytes + its_own
    assert plan(
        wish(draft=DRAFT), copies(nodes, shape(gib=16.5)), nodes, draft_facts=drafts(nodes, small)
    ).ruled_out


@pytest.mark.parametrize("fields", [{}, {"stages": 2}, {"layers": (30, 2)}, {"sharding": Sharding.TENSOR}])
def test_rank_0_is_where_the_draft_model_is(fields: dict[str, object]) -> None:
    nodes = [node("a", 20), node("b", 18), node("c", 16)]
    found = plan(
        wish(draft=DRAFT, **fields),
        copies(nodes, shape()),
        nodes,
        draft_facts=drafts(nodes[2:], shape(layers=4, gib=1.0)),
    )
    assert found.choices
    for choice in found.choices:
        assert choice.stages[0].nodes[0] == "id-c"
        named = {fact.id: fact for fact in nodes}
        for stage, (first, end) in zip(
            choice.stages, runs([s.end - s.first for s in choice.stages]), strict=True
        ):
            assert (stage.first, stage.end) == (first, end)
            assert all(stage.needed_bytes <= free_bytes(named[each]) for each in stage.nodes)


def test_a_draft_model_that_can_not_be_used_is_refused_with_the_reason() -> None:
    nodes, model, small = [node("a", 20), node("b", 20)], shape(), shape(layers=4, gib=1.0)
    own = copies(nodes, model)
    assert why(plan(wish(draft=DRAFT), own, nodes), "draft") == "a/draft is not here: copy its folder"
    broken = drafts(nodes, small, problem="is not complete")
    assert "can't be used: it is not complete" in why(
        plan(wish(draft=DRAFT), own, nodes, draft_facts=broken), "draft"
    )
    there = drafts(nodes[:1], small)
    elsewhere = wish(draft=DRAFT, nodes=(NodeId("id-b"), NodeId("id-a")))
    assert "b, which is to be rank 0, has no copy" in why(
        plan(elsewhere, own, nodes, draft_facts=there), "draft"
    )
    assert "can't guess for itself" in why(plan(wish(draft=MODEL), own, nodes, draft_facts=own), "draft")


def test_a_draft_model_of_another_vocabulary_is_refused() -> None:
    nodes = [node("a", 20)]
    own = copies(nodes, msgspec.structs.replace(shape(), vocabulary=152_064))
    padded, foreign = (
        plan(
            wish(draft=DRAFT),
            own,
            nodes,
            draft_facts=drafts(nodes, msgspec.structs.replace(shape(layers=4, gib=1.0), vocabulary=rows)),
        )
        for rows in (151_936, 128_256)
    )
    assert padded.choices
    assert "has a vocabulary of 128256 tokens, and the model one of 152064" in why(foreign, "draft")
