"""`/v1/instances`: have models placed, see how they could be and how they are, and have them run no more."""

from collections.abc import Sequence

from aiohttp import web

from actors.gateway import Gateway
from actors.planner.words import refusal
from api.errors import ApiError, Fault, Fields, fault_of
from api.json import json_response, plain
from api.placed import ChoiceBody, InstanceBody, Placed
from api.requests import read_body
from api.schema import decode
from api.settings import ApiSettings
from api.wishes import PlacementBody, body_of, wish_of
from bus.messages.base import InstanceId
from bus.messages.facts import NodeFact
from bus.messages.generation import Refusal
from bus.messages.placement import Previews, Wish


class InstanceRoutes:
    """The handlers."""

    def __init__(self, gateway: Gateway, settings: ApiSettings) -> None:
        self._gateway = gateway
        self._settings = settings

    async def post(self, request: web.Request) -> web.Response:
        """Place a model: 201 with what was declared. A dry run: 200 with the choice that it would be."""
        body = decode(await read_body(request, self._settings), PlacementBody)
        wish = self._wish(body)
        if body.dry_run:
            return await self._dry_run(wish)
        created = await self._gateway.create(wish, body.replicas or 1)
        if isinstance(created, Refusal):
            raise _refused(created)
        placed = self._placed()
        return json_response(_list([placed.created(instance) for instance in created]), status=201)

    async def list(self, _request: web.Request) -> web.Response:
        """All that is placed, and how it is."""
        return json_response(_list(self._placed().instances()))

    async def retrieve(self, request: web.Request) -> web.Response:
        """One instance. 404 when there is none of that id."""
        name = request.match_info["id"]
        for body in self._placed().instances():
            if body.id == name:
                return json_response(plain(body))
        message = "There is no such instance; GET /v1/instances lists those that are."
        raise ApiError(Fault(404, message, param="id", code="instance_not_found"))

    async def delete(self, request: web.Request) -> web.Response:
        """Have one run no more: its requests end first, or move. 404 when there is none of that id."""
        name = InstanceId(request.match_info["id"])
        refused = await self._gateway.withdraw(name)
        if refused is not None:
            raise _refused(refused)
        return json_response({"id": name, "object": "instance.deleted", "deleted": True})

    async def previews(self, request: web.Request) -> web.Response:
        """How a model could be placed now, best first, and what is out of the question; each with its why."""
        wish = self._wish(body_of(request.query))
        previews, placed = await self._preview(wish), self._placed()
        choices = [plain(placed.choice(choice)) for choice in previews.choices]
        ruled_out = plain(previews.ruled_out)
        return json_response(
            {
                "object": "instance.previews",
                "model": wish.model,
                "choices": choices,
                "ruled_out": ruled_out,
            }
        )

    async def _dry_run(self, wish: Wish) -> web.Response:
        previews = await self._preview(wish)
        if not previews.choices:
            raise _refused(refusal(previews, wish))
        best = self._placed().choice(previews.choices[0])
        return json_response({**_list([best]), "dry_run": True})

    async def _preview(self, wish: Wish) -> Previews:
        previews = await self._gateway.preview(wish)
        if isinstance(previews, Refusal):
            raise _refused(previews)
        return previews

    def _wish(self, body: PlacementBody) -> Wish:
        facts = self._gateway.view.facts().values()
        return wish_of(body, [fact for fact in facts if isinstance(fact, NodeFact)])

    def _placed(self) -> Placed:
        return Placed(self._gateway.view.facts())


def _list(bodies: Sequence[InstanceBody | ChoiceBody]) -> dict[str, object]:
    return {"object": "list", "data": [plain(body) for body in bodies]}


def _refused(refused: Refusal) -> ApiError:
    return ApiError(fault_of(refused, Fields("context")))
