"""Who may enter, and how early they are served: what the API asks before it opens a request."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from aiohttp import hdrs, web


class Admission(Protocol):
    """Counts what each key has under way."""

    def enter(self, key: str, wished: int = 0) -> AbstractContextManager[int]:
        """A place for one request, given up when the block is left; the int is its priority (more is
        earlier), of which the body `wished` so much. Raises ApiError 429 with a Retry-After when the key has
        too much under way."""


class Everybody:
    """Lets everybody in, at the priority that they wish for."""

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
