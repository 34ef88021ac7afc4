"""`GET /health` and `/ready`: can this node serve at all, and can it serve at once."""

import msgspec
from aiohttp import web

from actors.gateway import View
from bus.messages.engine import Phase
from bus.messages.facts import InstanceFact


class InstanceHealth(msgspec.Struct, frozen=True):
    """How one instance is."""

    model: str
    phase: Phase
    reason: str


class Health(msgspec.Struct, frozen=True):
    """`ok`, or what is in the way."""

    status: str
    instances: dict[str, InstanceHealth]


class HealthRoutes:
    """The handlers."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def health(self, _request: web.Request) -> web.Response:
        """503 when every instance has failed. While one loads, requests wait for it: that is 200."""
        instances = self._instances()
        failed = bool(instances) and all(fact.phase is Phase.FAILED for fact in instances)
        return _response("failed" if failed else "ok", instances)

    async def ready(self, _request: web.Request) -> web.Response:
        """503 until some instance answers at once."""
        instances = self._instances()
        ready = any(fact.phase is Phase.READY for fact in instances)
        return _response("ok" if ready else "not ready", instances)

    def _instances(self) -> list[InstanceFact]:
        return [fact for fact in self._view.facts().values() if isinstance(fact, InstanceFact)]


def _response(status: str, instances: list[InstanceFact]) -> web.Response:
    health = Health(status, {f.id: InstanceHealth(f.model, f.phase, f.reason) for f in instances})
    return web.Response(
        status=200 if status == "ok" else 503,
        body=msgspec.json.encode(health),
        content_type="application/json",
    )
