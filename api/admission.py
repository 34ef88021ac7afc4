"""Who may enter, and how early they are served: what the API asks before it does anything for a client."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_LOOKING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})


class Admission(Protocol):
    """Knows the keys, and counts what each of them has under way."""

    def know(self, key: str) -> None:
        """Raises ApiError 401 for who may not ask for anything."""

    def enter(self, key: str, wished: int = 0) -> AbstractContextManager[int]:
        """A place for one request, given up when the block is left; the int is its priority (more is
        earlier), of which the body `wished` so much. Raises ApiError 429 with a Retry-After when the key has
        too much under way."""


class Everybody:
    """Lets everybody in, at the priority that they wish for."""

    def know(self, key: str) -> None:
        """Whatever the key."""

    @contextmanager
    def enter(self, key: str, wished: int = 0) -> Iterator[int]:
        """Whatever the key."""
        yield wished


def key_of(request: web.Request) -> str:
    """The key that a client shows: `Authorization: Bearer KEY` or `x-api-key: KEY`; empty: none."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key", "").strip()


def guarded(admission: Admission) -> Middleware:
    """Whatever changes something is for those who have a key; others are refused before their body is read.
    Looking is for everybody: a page's event stream can't show a key. Prompts and answers are never shown."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in _LOOKING:
            admission.know(key_of(request))
        return await handler(request)

    return guard
