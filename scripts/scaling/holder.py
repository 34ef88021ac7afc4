"""A process that holds light nodes: `python -m scripts.scaling.holder FOLDER`.

Told what to do on its standard input, with reports on its standard output. It ends with its standard input.
"""

import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from actors.kernel.loop import bind_loop
from scripts.scaling.light_node import LightNode, keys
from scripts.scaling.words import Mark, Measure, Measured, Open, Opened, Order, Report

READY: Final = b"ready\n"
"""Its first line: everything that nodes share is loaded."""


class Holder:
    """Its nodes, and what is asked of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes: dict[int, LightNode] = {}

    async def obey(self, order: Order) -> None:
        """Do it, and report where that is asked."""
        match order:
            case Open(nodes=numbers, peers=peers):
                opening = (LightNode.open(each, peers, self._folder / str(each), _report) for each in numbers)
                self._nodes |= dict(zip(numbers, await asyncio.gather(*opening), strict=True))
                _report(Opened({each: self._nodes[each].address for each in numbers}))
            case Mark(node=node, mark=mark):
                self._nodes[node].mark(mark)
            case Measure():
                passed = {number: node.passed() for number, node in self._nodes.items()}
                _report(Measured(time.monotonic(), time.process_time(), passed))

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self._nodes.values()))


def _report(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


async def main(folder: Path) -> None:
    """Obey until there are no more orders."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    keys()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    with bind_loop(loop):
        holder = Holder(folder)
        try:
            async for line in orders:
                await holder.obey(msgspec.json.decode(line, type=Order))
        finally:
            await holder.close()
            pipe.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(Path(sys.argv[1])))
