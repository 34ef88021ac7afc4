"""What every handler needs of an HTTP request: its id and its whole body."""

import asyncio
import secrets

from aiohttp import web

from api.errors import ApiError, Fault, invalid
from api.settings import ApiSettings
from bus.messages.base import RequestId

REQUEST_ID = web.RequestKey("request_id", str)
"""What the response's `x-request-id` will say."""


def new_id(request: web.Request, prefix: str) -> RequestId:
    """A fresh id for a generation, which `POST /v1/cancel/{id}` takes."""
    name = RequestId(f"{prefix}-{secrets.token_hex(12)}")
    request[REQUEST_ID] = name
    return name


async def read_body(request: web.Request, settings: ApiSettings) -> bytes:
    """The whole body. Raises ApiError: 413 when too large, 408 when too slow, 400 when broken."""
    try:
        async with asyncio.timeout(settings.body_s):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        message = f"The body is larger than {settings.max_body_bytes} bytes."
        raise ApiError(Fault(413, message, code="body_too_large")) from None
    except TimeoutError:
        message = f"The body did not arrive within {settings.body_s:g} s."
        raise ApiError(Fault(408, message, code="body_too_slow")) from None
    except web.RequestPayloadError:
        raise invalid("The body's transfer or content encoding is broken.", code="invalid_body") from None
