"""All ranks of an instance as engine processes, started and connected as their Runners do it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from bus.keys import Keys
from bus.messages.engine import Bound, Connect, Load, Part, Phase
from tests.engine.process import PATIENCE_S, EngineUnderTest, engine_process


class Ranks:
    """Speak to `first` as to an engine that has the whole model."""

    def __init__(
        self, engines: list[EngineUnderTest], layers: tuple[tuple[int, int], ...], tensor: int
    ) -> None:
        self.engines = engines
        self._layers = layers
        self._tensor = tensor

    @property
    def first(self) -> EngineUnderTest:
        return self.engines[0]

    async def load(
        self,
        folder: Path,
        *,
        max_running: int = 64,
        pace_s: float = 0.06,
        prefixes_paths: Sequence[Path] | None = None,
    ) -> None:
        """Until all are ready."""
        paths: Sequence[Path | None] = prefixes_paths or [None] * len(self.engines)
        bound = await asyncio.gather(
            *(
                _bind(engine, folder, Part(rank, self._layers, self._tensor), max_running, pace_s, path)
                for rank, (engine, path) in enumerate(zip(self.engines, paths, strict=True))
            )
        )
        rings = tuple(each.ring for each in bound if each.ring)
        names = {each.kept for each in bound}
        kept = names.pop() if len(names) == 1 else ""
        order = Connect(tuple(each.hop for each in bound), rings, kept=kept)
        await asyncio.gather(*(_connect(engine, order) for engine in self.engines))

    async def save(self) -> None:
        """End rank 0, which has all write first, and wait until the others have."""
        seen = [len(engine.beats) for engine in self.engines]
        assert await self.first.shut_down() == 0
        for engine, count in zip(self.engines[1:], seen[1:], strict=True):
            await engine.until(partial(_has_beaten, engine, count + 2))
            assert await engine.shut_down() == 0

    async def shut_down(self) -> list[int]:
        return await asyncio.gather(*(engine.shut_down() for engine in self.engines))


def _has_beaten(engine: EngineUnderTest, times: int) -> bool:
    return len(engine.beats) >= times


async def _bind(
    engine: EngineUnderTest, folder: Path, part: Part, max_running: int, pace_s: float, prefixes: Path | None
) -> Bound:
    await engine.until(lambda: engine.said)
    path = str(prefixes) if prefixes else ""
    order = Load(str(folder), None, max_running, pace_s, part, prefixes_path=path)
    await engine.peer.command(order, PATIENCE_S)
    return await engine.until(lambda: next((each for each in engine.said if isinstance(each, Bound)), None))


async def _connect(engine: EngineUnderTest, order: Connect) -> None:
    await engine.peer.command(order, PATIENCE_S)
    ended = await engine.until(
        lambda: next((each for each in engine.phases if each.phase in (Phase.READY, Phase.FAILED)), None)
    )
    assert ended.phase is Phase.READY, ended.reason


@contextlib.asynccontextmanager
async def ranks(
    layers: tuple[tuple[int, int], ...], tensor: int = 1, keys: Keys | None = None
) -> AsyncIterator[Ranks]:
    """Fresh engines, one per rank; killed at the end if they still live."""
    async with contextlib.AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(engine_process(keys=keys)) for _ in range(len(layers) * tensor)
        ]
        yield Ranks(engines, layers, tensor)
