"""`POST /v1/embeddings`: texts and token ids as points in the space of a model that was made for that."""

import base64
import math
import sys
from array import array

import msgspec
from aiohttp import web

from api.errors import Fields, invalid
from api.generate import Generations
from api.orders import embedding_order
from api.requests import new_id, read_body
from api.schema import EmbeddingBody, decode
from api.shapes import EmbeddingItem, EmbeddingList, EmbeddingUsage
from bus.messages.request import Admitted, Chunk, Completed

MOST_AT_ONCE = 128
"""Inputs that are with the engine together; the others of the same request come after them."""


class EmbeddingRoute:
    """The route's handler."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations

    async def post(self, request: web.Request) -> web.StreamResponse:
        """All embeddings at once."""
        name = new_id(request, "embd")
        body = decode(await read_body(request, self._generations.settings), EmbeddingBody)
        order = embedding_order(body, name)
        answer = EmbeddingAnswer(body, len(order.prompts))
        return await self._generations.whole(request, order, answer, Fields("input"), MOST_AT_ONCE)


class EmbeddingAnswer:
    """A request's embeddings as one list."""

    def __init__(self, body: EmbeddingBody, inputs: int) -> None:
        self._body = body
        self._inputs = inputs
        self._points: dict[int, bytes] = {}

    def admitted(self, event: Admitted) -> None:
        """It tells nothing that a list of embeddings needs."""

    def chunk(self, event: Chunk) -> None:
        """Take one input's embedding in. Raises ApiError 400 where more dimensions are asked for than there
        are: with the first, rather than when all have been computed."""
        if event.embedding:
            _check(self._body.dimensions, numbers_of(event.embedding))
            self._points[event.index] = event.embedding

    def completed(self, event: Completed) -> bytes:
        """The whole body."""
        items = (self._item(index, self._points[index]) for index in range(self._inputs))
        tokens = event.usage.prompt_tokens
        return msgspec.json.encode(
            EmbeddingList("list", tuple(items), self._body.model, EmbeddingUsage(tokens, tokens))
        )

    def _item(self, index: int, point: bytes) -> EmbeddingItem:
        numbers = numbers_of(point)
        if self._body.dimensions is not None:
            numbers = shortened(numbers, self._body.dimensions)
        plain = self._body.encoding_format != "base64"
        return EmbeddingItem("embedding", index, numbers.tolist() if plain else encoded(numbers))


def numbers_of(point: bytes) -> "array[float]":
    """An embedding's float32 numbers, which come little-endian."""
    numbers = array("f", point)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def encoded(numbers: "array[float]") -> str:
    """The base64 of the numbers' little-endian bytes."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def shortened(numbers: "array[float]", dimensions: int) -> "array[float]":
    """The first so many numbers, scaled to length 1."""
    kept = numbers[:dimensions]
    length = math.hypot(*kept)
    return array("f", (number / length for number in kept)) if length else kept


def _check(dimensions: int | None, numbers: "array[float]") -> None:
    if dimensions is not None and dimensions > len(numbers):
        raise invalid(f"This model's embeddings have {len(numbers)} dimensions.", "dimensions")
