"""What holds for every route: request ids, CORS, errors as JSON, faults that stay in their own request."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from api import errors
from api.errors import ApiError, Fault
from api.requests import REQUEST_ID

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
_HEADERS = "Authorization, Content-Type, X-Api-Key"
_READABLE = "x-request-id, retry-after, retry-after-ms, x-should-retry"
"""By web pages of other origins: the official client in a browser waits as long as it is told."""


@web.middleware
async def manners(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every handler, known route or not."""
    request[REQUEST_ID] = f"req_{secrets.token_hex(12)}"
    began = time.monotonic()
    response = await _answer(request, handler)
    if logger.isEnabledFor(logging.DEBUG):
        took_ms = (time.monotonic() - began) * 1000
        logger.debug("%s %s %d in %.1f ms", request.method, request.path, response.status, took_ms)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method == hdrs.METH_OPTIONS:
        return web.Response(status=204)
    try:
        return await handler(request)
    except ApiError as error:
        return errors.response(error.fault)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _routing_error(request, error)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return errors.response(errors.internal())


def _routing_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """The router's own errors (404, 405, …) in the envelope, with the headers that go with them."""
    match error.status:
        case 404:
            fault = Fault(404, f"There is no {request.path[:200]} here.", code="unknown_url")
        case 405:
            fault = Fault(405, f"{request.method} is not for this URL.", code="method_not_allowed")
        case status:
            fault = Fault(status, error.reason, code="http_error")
    response = errors.response(fault)
    if hdrs.ALLOW in error.headers:
        response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    return response


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """To every response, streams and errors too: its request's id, and leave for any web page to read it."""
    response.headers["x-request-id"] = request.get(REQUEST_ID, "")
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _READABLE
    if request.method == hdrs.METH_OPTIONS:
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, _HEADERS)
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
