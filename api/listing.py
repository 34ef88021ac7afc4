"""`GET /v1/models` and `/v1/models/{id}`: every model that can be asked, in one object that all SDKs take."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from actors.gateway import View
from api.errors import ApiError, Fault
from bus.messages.facts import Fact, ModelFact


class ModelMeta(msgspec.Struct, frozen=True):
    """What is known of the model itself."""

    architecture: str
    quantization: str
    n_ctx_train: int | None
    size: int
    """Bytes."""
    tools: bool
    """Its chat template takes tools."""
    embeds: bool
    """It was made for embeddings: for POST /v1/embeddings."""


class ModelBody(msgspec.Struct, frozen=True):
    """A model as OpenAI's and Anthropic's SDKs both read it, with the usual extras."""

    id: str
    object: str
    created: int
    owned_by: str
    type: str
    display_name: str
    created_at: str
    lifecycle: str
    context_length: int | None
    max_model_len: int | None
    max_input_tokens: int | None
    meta: ModelMeta


class ModelList(msgspec.Struct, frozen=True):
    """All of them."""

    object: str
    data: tuple[ModelBody, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


def models_of(facts: Iterable[Fact]) -> tuple[ModelFact, ...]:
    """The models that can be used, each once however many nodes have it: the oldest copy speaks for all."""
    found: dict[str, ModelFact] = {}
    for fact in facts:
        if isinstance(fact, ModelFact) and not fact.problem:
            known = found.get(fact.id)
            if known is None or (fact.created_at, fact.node) < (known.created_at, known.node):
                found[fact.id] = fact
    return tuple(found[name] for name in sorted(found))


def model_body(fact: ModelFact) -> ModelBody:
    """The model in the API's shape."""
    made = datetime.fromtimestamp(int(fact.created_at), UTC)
    return ModelBody(
        id=fact.id,
        object="model",
        created=int(fact.created_at),
        owned_by="exo_actors" if fact.built_in else "local",
        type="model",
        display_name=fact.id,
        created_at=made.isoformat().replace("+00:00", "Z"),
        lifecycle="active",
        context_length=fact.context,
        max_model_len=fact.context,
        max_input_tokens=fact.context,
        meta=ModelMeta(
            fact.architecture, fact.quantization, fact.context, fact.size_bytes, fact.tools, fact.embeds
        ),
    )


class ModelRoutes:
    """The handlers."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def list(self, _request: web.Request) -> web.Response:
        """All models."""
        bodies = tuple(model_body(fact) for fact in models_of(self._view.facts().values()))
        first, last = (bodies[0].id, bodies[-1].id) if bodies else (None, None)
        return _json(ModelList("list", bodies, False, first, last))

    async def retrieve(self, request: web.Request) -> web.Response:
        """One model; its id may hold slashes, encoded or not."""
        name = request.match_info["id"]
        for fact in models_of(self._view.facts().values()):
            if fact.id == name:
                return _json(model_body(fact))
        message = "There is no such model here; GET /v1/models lists those that are."
        raise ApiError(Fault(404, message, param="model", code="model_not_found"))


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
