"""Errors in OpenAI's words: what went wrong, its HTTP status, its envelope and whether to try again."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import msgspec
from aiohttp import web

from bus.messages.generation import Refusal, RefusalCode

_PROMPTS = ("prompt", "messages")
"""What a refusal calls the prompt, whichever field of which route it came in."""
_FORMAT = "response_format"
"""What it calls the format."""
_CHOICE = "tool_choice"
"""What it calls the choice among tools."""


class ErrorKind(StrEnum):
    """The envelope's `type`."""

    INVALID_REQUEST = "invalid_request_error"
    RATE_LIMIT = "rate_limit_exceeded"
    CANCELLED = "request_cancelled"
    SERVER = "server_error"


@dataclass(frozen=True)
class Fault:
    """One error as a client gets to see it."""

    status: int
    message: str
    kind: ErrorKind = ErrorKind.INVALID_REQUEST
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    retry: bool | None = None
    """Overrides what the official clients would do by status alone (they retry 408, 409, 429 and 5xx)."""


@dataclass(frozen=True)
class Fields:
    """What a body called those of its fields that a refusal may blame by another name."""

    prompt: str
    format: str = _FORMAT
    choice: str = _CHOICE


class ApiError(Exception):
    """Ends a handler with a fault; the middleware answers it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Detail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Detail


def invalid(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """A request that is wrong in itself."""
    return ApiError(Fault(400, message, param=param, code=code))


def not_served(param: str, what: str) -> ApiError:
    """A request that is right, for something that this server cannot do yet."""
    return invalid(f"{what} not served yet; leave `{param}` out.", param, "unsupported_value")


def internal() -> Fault:
    """An error that nobody foresaw; what it was is in the log."""
    return Fault(
        500, "Something went wrong here; the node's log says what.", ErrorKind.SERVER, code="internal"
    )


def stopping() -> Fault:
    """The node is being shut down."""
    message = "The node is shutting down; try again when it is back."
    return Fault(503, message, ErrorKind.SERVER, code="shutting_down", retry_after_s=5.0)


def fault_of(refusal: Refusal, fields: Fields) -> Fault:
    """The status, type and retry advice of a refusal, with the field to blame as its client called it."""
    message, wait = refusal.message, refusal.retry_after_s
    param = _param(refusal.param, fields)
    code = refusal.code.value
    match refusal.code:
        case RefusalCode.INVALID:
            return Fault(400, message, param=param, code=code)
        case RefusalCode.CONTEXT_LENGTH:
            return Fault(400, message, param=param or fields.prompt, code=code)
        case RefusalCode.MODEL_NOT_FOUND | RefusalCode.INSTANCE_NOT_FOUND:
            which = "model" if refusal.code is RefusalCode.MODEL_NOT_FOUND else "id"
            return Fault(404, message, param=param or which, code=code)
        case RefusalCode.DOES_NOT_FIT:
            return Fault(503, message, ErrorKind.SERVER, param, code, wait, retry=wait is not None)
        case RefusalCode.OVERLOADED:
            return Fault(429, message, ErrorKind.RATE_LIMIT, param, code, retry_after_s=wait or 1.0)
        case RefusalCode.TIMEOUT:
            return Fault(504, message, ErrorKind.SERVER, param, code)
        case RefusalCode.ENGINE_LOST | RefusalCode.NOT_COORDINATOR:
            return Fault(503, message, ErrorKind.SERVER, param, code, retry_after_s=wait or 1.0)
        case RefusalCode.ENGINE_FAILED:
            return Fault(500, message, ErrorKind.SERVER, param, code, retry=False)
        case RefusalCode.CANCELLED:
            return Fault(499, message, ErrorKind.CANCELLED, param, code)
        case _:
            assert_never(refusal.code)


def _param(param: str | None, fields: Fields) -> str | None:
    if param in _PROMPTS:
        return fields.prompt
    return {_FORMAT: fields.format, _CHOICE: fields.choice}.get(param, param) if param else None


def envelope(fault: Fault) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    return msgspec.json.encode(_Envelope(_Detail(fault.message, fault.kind.value, fault.param, fault.code)))


def response(fault: Fault) -> web.Response:
    """The fault as an HTTP response of its own."""
    return web.Response(
        status=fault.status,
        reason="Client Closed Request" if fault.status == 499 else None,
        body=envelope(fault),
        content_type="application/json",
        headers=_retry_headers(fault),
    )


def _retry_headers(fault: Fault) -> dict[str, str]:
    headers = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(fault.retry_after_s)))
        headers["retry-after-ms"] = str(math.ceil(fault.retry_after_s * 1000))
    if fault.retry is not None:
        headers["x-should-retry"] = "true" if fault.retry else "false"
    return headers
