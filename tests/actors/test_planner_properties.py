"""What holds for every cluster, every model and every wish, not just for those that one thinks of."""

import time
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.planner.division import divide
from actors.planner.memory import Needs, free_bytes, least
from actors.planner.plan import plan
from actors.planner.speed import Link
from actors.planner.words import refusal
from bus.messages.base import NodeId
from bus.messages.facts import Accelerator, AcceleratorKind, Memory, NodeFact, Pressure, Shape
from bus.messages.placement import Choice, Interconnect, Sharding, Wish
from tests.actors.planner_examples import GIB, MODEL, copies, node, shape

MIB = 2**20

pressures = st.sampled_from([Pressure.NORMAL, Pressure.WARNING, Pressure.CRITICAL, Pressure.UNKNOWN])


@st.composite
def clusters(draw: st.DrawFn) -> list[NodeFact]:
    count = draw(st.integers(1, 6))
    return [
        node(
            f"n{number}",
            draw(st.integers(0, 4000)) / 1024,
            rate=draw(st.sampled_from([0.0, 50.0, 100.0, 400.0])),
            pressure=draw(pressures),
            rdma=draw(st.booleans()),
            kv_memory=draw(st.one_of(st.none(), st.none(), st.integers(1, GIB))),
            accelerator=Accelerator(
                kind=draw(st.sampled_from(AcceleratorKind)),
                name="x",
                memory_bytes=draw(st.one_of(st.none(), st.integers(0, 4 * GIB))),
            ),
        )
        for number in range(count)
    ]


@st.composite
def models(draw: st.DrawFn) -> Shape:
    layers = draw(st.integers(1, 12))
    sizes = st.lists(st.integers(1, 300 * MIB), min_size=layers, max_size=layers)
    caches = st.lists(st.sampled_from([0, 512, 4096, 65536]), min_size=layers, max_size=layers)
    kv_heads = draw(st.sampled_from([1, 2, 3, 4, 8]))
    return Shape(
        layer_bytes=tuple(draw(sizes)),
        other_bytes=draw(st.integers(0, 300 * MIB)),
        kv_bytes_per_token=tuple(draw(caches)),
        heads=kv_heads * draw(st.sampled_from([1, 4])),
        kv_heads=kv_heads,
        hidden=256,
        element_bytes=2,
        examined=True,
        kv_divides=draw(st.booleans()),
    )


@st.composite
def wishes(draw: st.DrawFn, cluster: Sequence[NodeFact], model: Shape) -> Wish:
    layers = len(model.layer_bytes)
    ids = [fact.id for fact in cluster]
    cut = draw(st.integers(0, layers))
    some = st.lists(st.sampled_from(ids), unique=True).map(tuple)
    return Wish(
        MODEL,
        sharding=draw(st.one_of(st.none(), st.sampled_from(Sharding))),
        interconnect=draw(st.one_of(st.none(), st.sampled_from(Interconnect))),
        nodes=draw(st.one_of(st.just(()), some)),
        layers=draw(st.sampled_from([(), (), (cut, layers - cut)])),
        stages=draw(st.one_of(st.none(), st.none(), st.integers(0, 4))),
        tensor=draw(st.one_of(st.none(), st.none(), st.integers(0, 4))),
        context=draw(st.one_of(st.none(), st.integers(1, 20_000))),
        kv_bits=draw(st.sampled_from([None, None, 8, 4, 3])),
        kv_bytes=draw(st.one_of(st.none(), st.none(), st.integers(1, 4 * GIB))),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[NodeFact], Shape, Wish, dict[NodeId, int]]:
    cluster, model = draw(clusters()), draw(models())
    promised = {fact.id: draw(st.integers(0, GIB)) for fact in cluster if draw(st.booleans())}
    wish = draw(st.one_of(st.just(Wish(MODEL)), wishes(cluster, model)))
    return cluster, model, wish, promised


def choices_of(
    cluster: list[NodeFact], model: Shape, wish: Wish, promised: dict[NodeId, int]
) -> tuple[Choice, ...]:
    return plan(wish, copies(cluster, model), cluster, promised).choices


@settings(deadline=None, max_examples=300, derandomize=True)
@given(cases())
def test_layers_add_up_and_nobody_gets_more_than_is_free(
    case: tuple[list[NodeFact], Shape, Wish, dict[NodeId, int]],
) -> None:
    cluster, model, wish, promised = case
    free = {fact.id: free_bytes(fact, promised.get(fact.id, 0)) for fact in cluster}
    limits = {fact.id: least(wish.kv_bytes, fact.kv_memory_bytes) for fact in cluster}
    for choice in choices_of(*case):
        ends = [stage.end for stage in choice.stages]
        assert [stage.first for stage in choice.stages] == [0, *ends[:-1]]
        assert ends[-1] == len(model.layer_bytes)
        nodes = [node for stage in choice.stages for node in stage.nodes]
        assert len(nodes) == len(set(nodes))
        for stage in choice.stages:
            assert stage.first < stage.end
            held = sum(model.layer_bytes[stage.first : stage.end]) / len(stage.nodes)
            assert all(held < stage.needed_bytes <= free[node] for node in stage.nodes)
            needs = Needs(model, choice.context, len(stage.nodes), wish.kv_bits)
            for limit in map(limits.__getitem__, stage.nodes):
                assert limit is None or needs.cache(stage.first, stage.end) <= limit


@settings(deadline=None, max_examples=300, derandomize=True)
@given(cases())
def test_what_a_person_fixes_is_kept_and_a_wish_that_is_impossible_gets_a_reason(
    case: tuple[list[NodeFact], Shape, Wish, dict[NodeId, int]],
) -> None:
    cluster, model, wish, promised = case
    previews = plan(wish, copies(cluster, model), cluster, promised)
    for choice in previews.choices:
        ranks = tuple(node for stage in choice.stages for node in stage.nodes)
        layers = tuple(stage.end - stage.first for stage in choice.stages)
        assert wish.sharding in (None, choice.sharding)
        assert wish.interconnect in (None, choice.interconnect)
        assert wish.nodes in ((), ranks)
        assert wish.layers in ((), layers)
        assert wish.stages in (None, len(choice.stages))
        assert {wish.tensor or len(stage.nodes) for stage in choice.stages} == {len(choice.stages[0].nodes)}
        assert choice.context == min(wish.context or choice.context, 8192)
        assert "\n" not in choice.why
    if not previews.choices:
        assert previews.ruled_out
        assert refusal(previews, wish).message


@settings(deadline=None, derandomize=True)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_in_which_facts_come_does_not_matter(
    case: tuple[list[NodeFact], Shape, Wish, dict[NodeId, int]], random: Random
) -> None:
    cluster, model, wish, promised = case
    facts, shuffled = copies(cluster, model), list(cluster)
    expected = plan(wish, facts, cluster, promised)
    random.shuffle(facts)
    random.shuffle(shuffled)
    assert plan(wish, facts, shuffled, promised) == expected


@settings(deadline=None, max_examples=300, derandomize=True)
@given(cases(), st.data())
def test_more_memory_never_makes_a_possible_wish_impossible(
    case: tuple[list[NodeFact], Shape, Wish, dict[NodeId, int]], data: st.DataObject
) -> None:
    cluster, model, wish, promised = case
    if choices_of(*case):
        grown = [_grown(fact, data.draw(st.integers(0, 2 * GIB))) for fact in cluster]
        assert choices_of(grown, model, wish, promised)


def _grown(fact: NodeFact, more: int) -> NodeFact:
    memory, accelerator = fact.memory, fact.accelerator
    limit = accelerator.memory_bytes
    return NodeFact(
        **{
            **{name: getattr(fact, name) for name in NodeFact.__struct_fields__},
            "memory": Memory(memory.total_bytes + more, memory.available_bytes + more, memory.pressure),
            "accelerator": Accelerator(
                accelerator.kind, accelerator.name, limit + more if limit is not None else None
            ),
        }
    )


@settings(derandomize=True)
@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.floats(1, 1e12), st.integers(0, 30)), min_size=1, max_size=10),
)
def test_a_division_is_within_capacities_whenever_there_is_one(
    layers: int, stages: list[tuple[float, int]]
) -> None:
    speeds, capacities = [speed for speed, _ in stages], [capacity for _, capacity in stages]
    possible = len(stages) <= layers <= sum(capacities) and min(capacities) > 0
    divided = divide(layers, speeds, capacities)
    assert (divided is not None) == possible
    if divided is not None:
        assert sum(divided) == layers
        assert all(1 <= count <= capacity for count, capacity in zip(divided, capacities, strict=True))


def test_a_cluster_of_64_nodes_is_planned_for_in_a_moment() -> None:
    nodes = [
        node(f"n{number:02}", 6 + number % 7, rate=100.0 + number, rdma=number % 2 == 0)
        for number in range(64)
    ]
    links = {
        (here.id, there.id): Link(1e-4 + abs(a - b) * 1e-5, 1e8)
        for a, here in enumerate(nodes)
        for b, there in enumerate(nodes)
        if a < b
    }
    facts = copies(nodes, shape(layers=80, gib=140, heads=64))
    before = time.process_time()
    previews = plan(Wish(MODEL), facts, nodes, {}, links)
    took = time.process_time() - before
    assert previews.choices
    assert took < 1.0, "ten times what it takes on a slow machine"
