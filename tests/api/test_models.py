"""The models that a cluster has, as every SDK lists them."""

import pytest
from openai import AsyncOpenAI, NotFoundError

from bus.messages.base import NodeId
from tests.api.raw import ask
from tests.api.scripted import ScriptedGateway, model_fact


@pytest.fixture(autouse=True)
def models(gateway: ScriptedGateway) -> None:
    for fact in (
        model_fact("org/b"),
        model_fact("a"),
        model_fact("org/b", NodeId("node-b"), created_at=1_700_000_000.0),
        model_fact("/abs/model"),
    ):
        gateway.facts.all[f"model/{fact.node}/{fact.id}"] = fact


async def test_each_model_is_listed_once(client: AsyncOpenAI) -> None:
    page = await client.models.list()
    assert [model.id for model in page.data] == ["/abs/model", "a", "org/b"]
    assert {model.object for model in page.data} == {"model"}
    assert page.data[2].created == 1_700_000_000


async def test_a_model_has_what_other_sdks_ask_for_too(url: str) -> None:
    listing = (await ask(url, "GET", "/v1/models")).json()
    assert (listing["has_more"], listing["first_id"], listing["last_id"]) == (False, "/abs/model", "org/b")
    model = (await ask(url, "GET", "/v1/models/a")).json()
    assert model["type"] == "model"
    assert model["display_name"] == "a"
    assert model["created_at"] == "2026-11-21T00:13:20Z"
    assert model["lifecycle"] == "active"
    assert model["max_model_len"] == model["context_length"] == 2048
    assert model["meta"] == {
        "architecture": "llama",
        "quantization": "",
        "n_ctx_train": 2048,
        "size": 1000,
        "tools": False,
        "embeds": False,
    }


@pytest.mark.parametrize("name", ["org/b", "/abs/model"])
async def test_an_id_may_hold_slashes(client: AsyncOpenAI, url: str, name: str) -> None:
    assert (await client.models.retrieve(name)).id == name
    assert (await ask(url, "GET", f"/v1/models/{name}")).json()["id"] == name
    encoded = name.replace("/", "%2F")
    assert (await ask(url, "GET", f"/v1/models/{encoded}")).json()["id"] == name


async def test_an_unknown_model_is_404(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.models.retrieve("nobody/nothing")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_no_models_is_an_empty_list(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    gateway.facts.all.clear()
    assert (await client.models.list()).data == []
