"""Models are placed, shown and withdrawn over HTTP; what a person got wrong is named."""

import pytest

from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Choice, Interconnect, Previews, Ruled, Sharding, Stage, Term, Wish
from tests.api.raw import Answer, ask
from tests.api.scripted import ScriptedGateway, declared_fact, instance, node_fact

A, B, C = NodeId("0a"), NodeId("0b"), NodeId("0c")
CHOICE = Choice(
    stages=(Stage(0, 3, (A,), 500), Stage(3, 5, (B,), 400)),
    sharding=Sharding.PIPELINE,
    interconnect=Interconnect.RING,
    context=2048,
    score=31.4,
    why="two machines hold it",
)
RULED = Ruled("node attic", "0.1 of 0.5 GiB free")


@pytest.fixture(autouse=True)
def three_machines(gateway: ScriptedGateway) -> None:
    """Two of them are called the same."""
    for id, name in ((A, "study"), (B, "attic"), (C, "attic")):
        gateway.facts.all[f"node/{id}"] = node_fact(id, name)


async def place(url: str, **body: object) -> Answer:
    return await ask(url, "POST", "/v1/instances", {"model": "m", **body})


async def previews(url: str, query: str) -> Answer:
    return await ask(url, "GET", f"/v1/instances/previews?{query}")


# -- placing -------------------------------------------------------------------------------------


async def test_a_model_alone_leaves_everything_else_open(gateway: ScriptedGateway, url: str) -> None:
    answer = await place(url)
    assert answer.status == 201
    assert gateway.created == [(Wish(ModelId("m")), 1)]


async def test_everything_can_be_fixed(gateway: ScriptedGateway, url: str) -> None:
    answer = await place(
        url,
        sharding="hybrid",
        interconnect="ring",
        nodes=["study", "0c"],
        layers=[3, 2],
        stages=2,
        tensor=1,
        context=512,
        replicas=2,
    )
    assert answer.status == 201
    [(wish, replicas)] = gateway.created
    assert wish == Wish(ModelId("m"), Sharding.HYBRID, Interconnect.RING, (A, C), (3, 2), 2, 1, 512)
    assert replicas == 2


async def test_how_the_cache_is_kept_and_who_guesses_can_be_fixed(gateway: ScriptedGateway, url: str) -> None:
    asked = {"kv_bits": 8, "kv_bytes": 2**40, "draft": "small", "speculate": False}
    assert (await place(url, **asked)).status == 201
    query = "model=m&kv_bits=8&kv_bytes=1099511627776&draft=small&speculate=false"
    assert (await previews(url, query)).status == 200
    wish = Wish(ModelId("m"), kv_bits=8, kv_bytes=2**40, draft=ModelId("small"), speculate=False)
    assert gateway.created == [(wish, 1)]
    assert gateway.previewed == [wish]


async def test_nodes_of_one_name_can_be_told_apart_as_they_are_shown(
    gateway: ScriptedGateway, url: str
) -> None:
    assert (await place(url, nodes=["attic (0c)", "study"])).status == 201
    assert gateway.created[0][0].nodes == (C, A)


async def test_what_was_declared_is_told_whole(gateway: ScriptedGateway, url: str) -> None:
    created = (await place(url, replicas=2)).json()
    assert created["object"] == "list"
    data = created["data"]
    assert isinstance(data, list)
    assert [each["id"] for each in data] == ["new-0", "new-1"]
    first = data[0]
    assert (first["object"], first["model"], first["epoch"], first["phase"]) == (
        "instance",
        "m",
        1,
        "waiting",
    )
    assert first["stages"] == [
        {"first": 0, "end": 2, "nodes": ["node-a"], "names": ["node-a"], "needed_bytes": 1000}
    ]


async def test_nulls_are_as_good_as_nothing(gateway: ScriptedGateway, url: str) -> None:
    nothing = dict.fromkeys(["sharding", "nodes", "layers", "stages", "tensor", "context", "replicas"])
    assert (await place(url, **nothing)).status == 201
    assert gateway.created == [(Wish(ModelId("m")), 1)]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"shards": 2}, "shards", "There is no field 'shards' here."),
        ({"model": ""}, "model", "length"),
        ({"model": None}, "model", "Expected"),
        ({"sharding": "diagonal"}, "sharding", "none of pipeline, tensor, hybrid"),
        ({"interconnect": "string"}, "interconnect", "none of ring, jaccl"),
        (
            {"nodes": ["cellar"]},
            "nodes",
            "there are: attic (0b), attic (0c), study",
        ),
        ({"nodes": ["attic"]}, "nodes", "give an id (0b, 0c)"),
        ({"nodes": "study"}, "nodes", "xpected"),
        ({"layers": [3, 0]}, "layers[1]", ">= 1"),
        ({"stages": 0}, "stages", ">= 1"),
        ({"tensor": 1.5}, "tensor", "xpected"),
        ({"context": 0}, "context", ">= 1"),
        ({"replicas": 65}, "replicas", "<= 64"),
        ({"dry_run": "yes"}, "dry_run", "xpected"),
        ({"kv_bits": 3}, "kv_bits", "use 8 or 4"),
        ({"kv_bytes": 0}, "kv_bytes", ">= 1"),
        ({"speculate": 1}, "speculate", "xpected"),
    ],
)
async def test_what_is_wrong_is_named(
    gateway: ScriptedGateway, url: str, body: dict[str, object], param: str, words: str
) -> None:
    answer = await place(url, **body)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert words.lower() in str(answer.error["message"]).lower()
    assert gateway.created == []


@pytest.mark.parametrize(
    ("code", "status"), [(RefusalCode.MODEL_NOT_FOUND, 404), (RefusalCode.DOES_NOT_FIT, 503)]
)
async def test_a_refusal_says_why(gateway: ScriptedGateway, url: str, code: RefusalCode, status: int) -> None:
    gateway.refusal = Refusal(code, "needs 8 of 4 GiB free")
    answer = await place(url)
    assert (answer.status, answer.error["message"]) == (status, "needs 8 of 4 GiB free")


async def test_what_may_fit_in_a_moment_is_worth_another_try(gateway: ScriptedGateway, url: str) -> None:
    gateway.refusal = Refusal(RefusalCode.DOES_NOT_FIT, "not examined yet", retry_after_s=2.0)
    answer = await place(url)
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("2", "true")


# -- looking first -------------------------------------------------------------------------------


async def test_a_dry_run_shows_the_best_choice_and_declares_nothing(
    gateway: ScriptedGateway, url: str
) -> None:
    gateway.previews = Previews((CHOICE,), (RULED,))
    answer = await place(url, dry_run=True, nodes=["study"])
    assert answer.status == 200
    body = answer.json()
    assert (body["object"], body["dry_run"]) == ("list", True)
    [choice] = body["data"] if isinstance(body["data"], list) else []
    assert (choice["object"], choice["why"], choice["score"]) == ("instance.choice", CHOICE.why, 31.4)
    assert [stage["names"] for stage in choice["stages"]] == [["study"], ["attic (0b)"]]
    assert gateway.previewed == [Wish(ModelId("m"), nodes=(A,))]
    assert gateway.created == []


async def test_a_dry_run_of_what_is_impossible_fails_as_the_real_one_does(
    gateway: ScriptedGateway, url: str
) -> None:
    gateway.previews = Previews((), (RULED,))
    answer = await place(url, dry_run=True)
    assert (answer.status, answer.error["code"]) == (503, "does_not_fit")
    assert "0.1 of 0.5 GiB free" in str(answer.error["message"])


async def test_previews_show_every_choice_and_what_is_out_of_the_question(
    gateway: ScriptedGateway, url: str
) -> None:
    gateway.previews = Previews((CHOICE, CHOICE), (RULED,))
    answer = await previews(url, "model=m&context=512&sharding=pipeline&nodes=study,0c&layers=3,2&stages=2")
    assert answer.status == 200
    body = answer.json()
    assert (body["object"], body["model"]) == ("instance.previews", "m")
    assert isinstance(body["choices"], list)
    assert len(body["choices"]) == 2
    assert body["ruled_out"] == [{"what": "node attic", "why": "0.1 of 0.5 GiB free"}]
    [wish] = gateway.previewed
    assert wish == Wish(ModelId("m"), Sharding.PIPELINE, None, (A, C), (3, 2), 2, None, 512)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "model"),
        ("model=", "model"),
        ("model=m&shards=2", "shards"),
        ("model=m&context=many", "context"),
        ("model=m&stages=-1", "stages"),
        ("model=m&layers=3,x", "layers"),
        ("model=m&layers=99999999999", "layers"),
        ("model=m&nodes=cellar", "nodes"),
        ("model=m&sharding=diagonal", "sharding"),
    ],
)
async def test_a_wrong_query_is_named(gateway: ScriptedGateway, url: str, query: str, param: str) -> None:
    answer = await previews(url, query)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert gateway.previewed == []


async def test_a_model_that_nobody_has_can_not_be_previewed(gateway: ScriptedGateway, url: str) -> None:
    gateway.refusal = Refusal(RefusalCode.MODEL_NOT_FOUND, "it is not here")
    answer = await previews(url, "model=m")
    assert (answer.status, answer.error["param"]) == (404, "model")


# -- what is placed ------------------------------------------------------------------------------


async def test_an_instance_is_withdrawn_by_its_id(gateway: ScriptedGateway, url: str) -> None:
    answer = await ask(url, "DELETE", "/v1/instances/instance-a")
    assert answer.status == 200
    assert answer.json() == {"id": "instance-a", "object": "instance.deleted", "deleted": True}
    assert gateway.withdrawn == [InstanceId("instance-a")]


async def test_an_instance_that_is_not_there_can_neither_be_shown_nor_withdrawn(
    gateway: ScriptedGateway, url: str
) -> None:
    gateway.refusal = Refusal(RefusalCode.INSTANCE_NOT_FOUND, "there is no instance nobody")
    for method in ("GET", "DELETE"):
        answer = await ask(url, method, "/v1/instances/nobody")
        assert (answer.status, answer.error["code"]) == (404, "instance_not_found")


async def test_what_is_placed_is_listed_and_found_by_id(gateway: ScriptedGateway, url: str) -> None:
    assert (await ask(url, "GET", "/v1/instances")).json() == {"object": "list", "data": []}
    created = instance("i1", nodes=(A, B))
    gateway.facts.all["declared/0a/i1"] = declared_fact(created, Term(1, A), reason="it was asked for")
    listed = (await ask(url, "GET", "/v1/instances")).json()
    found = (await ask(url, "GET", "/v1/instances/i1")).json()
    assert listed == {"object": "list", "data": [found]}
    assert (found["phase"], found["reason"]) == ("waiting", "it was asked for")
    ranks = found["ranks"]
    assert isinstance(ranks, list)
    assert [rank["name"] for rank in ranks] == ["study", "attic (0b)"]
