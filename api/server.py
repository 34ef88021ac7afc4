"""The node's HTTP server: its routes, its start and its graceful stop."""

import asyncio
import errno
import logging

from aiohttp import web

from actors.gateway import Gateway
from api.admission import Admission, Everybody, guarded
from api.chat import ChatRoute
from api.cluster import ClusterRoutes
from api.completions import CompletionRoute
from api.embeddings import EmbeddingRoute
from api.generate import Generations
from api.health import HealthRoutes
from api.instances import InstanceRoutes
from api.listing import ModelRoutes
from api.manners import add_headers, manners
from api.metrics import Metrics
from api.page import PageRoutes, page_folder
from api.settings import ApiSettings

logger = logging.getLogger(__name__)

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class ListenError(Exception):
    """The address can't be listened on; the text says what to do."""


class Server:
    """Serves one node's gateway over HTTP, from `start` to `stop`, on the running event loop."""

    def __init__(self, gateway: Gateway, settings: ApiSettings, admission: Admission | None = None) -> None:
        """Without an admission everybody is let in."""
        self._settings = settings
        self._gateway = gateway
        self._metrics = Metrics(gateway.view, settings.bus_counts)
        self._admission = admission or Everybody()
        self._generations = Generations(gateway, settings, self._metrics, self._admission)
        self._cluster = ClusterRoutes(gateway, settings, self._generations.cancel)
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and say where. Raises ListenError."""
        settings = self._settings
        runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=settings.shutdown_s,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            await runner.cleanup()
            raise ListenError(_why_not(error, settings)) from error
        self._runner = runner
        url = _url(settings.host, runner)
        logger.info("Listening on %s", url)
        return url

    async def stop(self) -> None:
        """Take no more connections, end running answers with an error that says why; bounded in time."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in tuple(runner.sites):
            await site.stop()
        self._cluster.stop()
        self._generations.stop()
        try:
            async with asyncio.timeout(3 * self._settings.shutdown_s + 1):
                await runner.cleanup()
        except TimeoutError:
            logger.warning("Some connections did not close in time")

    def _application(self) -> web.Application:
        app = web.Application(
            middlewares=(manners, guarded(self._admission)), client_max_size=self._settings.max_body_bytes
        )
        app.on_response_prepare.append(add_headers)
        models, health = ModelRoutes(self._gateway.view), HealthRoutes(self._gateway.view)
        instances = InstanceRoutes(self._gateway, self._settings)
        app.add_routes(
            (
                web.post("/v1/chat/completions", ChatRoute(self._generations).post),
                web.post("/v1/completions", CompletionRoute(self._generations).post),
                web.post("/v1/embeddings", EmbeddingRoute(self._generations).post),
                web.get("/v1/models", models.list),
                web.get("/v1/models/{id:.+}", models.retrieve),
                web.post("/v1/cancel/{id}", self._cluster.cancel),
                web.get("/v1/cluster", self._cluster.state),
                web.get("/v1/cluster/events", self._cluster.events),
                web.post("/v1/instances", instances.post),
                web.get("/v1/instances", instances.list),
                web.get("/v1/instances/previews", instances.previews),
                web.get("/v1/instances/{id}", instances.retrieve),
                web.delete("/v1/instances/{id}", instances.delete),
                web.get("/health", health.health),
                web.get("/ready", health.ready),
                web.get("/metrics", self._metrics.get),
            )
        )
        if self._settings.page:
            page = PageRoutes(page_folder())
            app.add_routes((web.get("/", page.index), web.get("/ui/{path:.+}", page.file)))
        return app


def _why_not(error: OSError, settings: ApiSettings) -> str:
    where = f"{settings.host}:{settings.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{where} is taken by another program; stop it, or choose another port (0 picks a free one)."
            )
        case errno.EACCES:
            return f"{where} may not be listened on; choose a port above 1023."
        case errno.EADDRNOTAVAIL:
            return f"{settings.host} is not an address of this machine."
        case _:
            return f"Cannot listen on {where}: {error.strerror or error}"


def _url(host: str, runner: web.AppRunner) -> str:
    """The address to type into a browser on this machine, with the port that it became."""
    port = runner.addresses[0][1]
    shown = _ANYWHERE.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
