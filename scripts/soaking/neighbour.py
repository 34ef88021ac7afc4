"""Another model that comes to the same machine and goes again, and takes its share of memory meanwhile."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from random import Random

import aiohttp
import msgspec

from scripts.soaking.errands import EMBED
from scripts.soaking.serving import Refused, ready, withdraw

STAYS_S = (5.0, 15.0)
AWAY_S = (14.0, 30.0)
"""Longer than a budget takes to grow again."""
PATIENCE_S = 120.0
"""For its being placed, and again for its being gone."""
ASKS_EVERY_S = 1.0
CAPS = (None, None, 0.4, 0.25)
"""KV cache that it may take at most, as a share of what all may have; None: its half."""
SAME = 1e-4
"""How far apart two unit vectors of the same text may be: batches round differently."""


class _Item(msgspec.Struct, frozen=True):
    embedding: tuple[float, ...]


class _Embeddings(msgspec.Struct, frozen=True):
    data: tuple[_Item, ...]


class _Placed(msgspec.Struct, frozen=True):
    id: str


class _Created(msgspec.Struct, frozen=True):
    data: tuple[_Placed, ...]


class Neighbour:
    """A model for embeddings, used while it is there: a text has the same one each time."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        model: str,
        nodes: Sequence[str],
        budget_bytes: int,
        random: Random,
    ) -> None:
        self.visits = 0
        """How often it was there and ready."""
        self.answers = 0
        self.wrong: list[str] = []
        self._session, self._url, self._model = session, url, model
        self._nodes, self._budget_bytes, self._random = nodes, budget_bytes, random
        self._known: tuple[float, ...] = ()

    async def come_and_go(self, over: asyncio.Event) -> None:
        """Again and again, until it is over; it is gone then."""
        while not over.is_set():
            try:
                async with asyncio.timeout(PATIENCE_S):
                    instance = await self._come()
                    await ready(self._session, self._url, instance)
                self.visits += 1
                await self._stay(over)
                async with asyncio.timeout(PATIENCE_S):
                    await withdraw(self._session, self._url, instance)
            except (Refused, aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                self.wrong.append(f"the neighbour, visit {self.visits}: {type(error).__name__}: {error}")
            await _unless(over, self._random.uniform(*AWAY_S))

    async def _come(self) -> str:
        cap = self._random.choice(CAPS)
        bound = {"kv_bytes": int(cap * self._budget_bytes)} if cap else {}
        body = {"model": self._model, "nodes": [self._random.choice(self._nodes)], **bound}
        raw = await self._post("/v1/instances", body, 201)
        return msgspec.json.decode(raw, type=_Created).data[0].id

    async def _stay(self, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._random.uniform(*STAYS_S)
        while loop.time() < until_s and not over.is_set():
            await self._ask()
            await _unless(over, ASKS_EVERY_S)

    async def _ask(self) -> None:
        body = {"model": self._model, "input": "Who else is here?"}
        raw = await self._post(EMBED, body, 200)
        found = msgspec.json.decode(raw, type=_Embeddings).data[0].embedding
        self.answers += 1
        if apart(self._known or found, found) > SAME:
            self.wrong.append(f"the neighbour, visit {self.visits}: the same text has another embedding")
        self._known = found

    async def _post(self, path: str, body: Mapping[str, object], status: int) -> bytes:
        async with self._session.post(f"{self._url}{path}", json=body) as response:
            raw = await response.read()
            if response.status != status:
                raise Refused(f"{response.status} {raw.decode(errors='replace')}")
            return raw


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """How far the directions of two vectors are apart: pure."""
    scale, other_scale = math.hypot(*one) or 1.0, math.hypot(*other) or 1.0
    return math.dist([each / scale for each in one], [each / other_scale for each in other])


async def _unless(over: asyncio.Event, seconds: float) -> None:
    """Wait so long, unless it is over before."""
    try:
        await asyncio.wait_for(over.wait(), seconds)
    except TimeoutError:
        return
