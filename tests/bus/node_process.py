"""A node in a process of its own: `python -m tests.bus.node_process NUMBER PORT PEER…`.

Prints its address, publishes a fact, and answers each command with what it says.
"""

import asyncio
import sys

from bus.bus import Bus
from bus.messages.base import NodeId
from tests.bus.examples import request
from tests.bus.nodes import LIVELY, cluster, mesh_of


async def main(number: int, port: int, *peers: str) -> None:
    told = cluster(f"node {number}", *peers, port=port)
    bus = await Bus.open(NodeId(f"n-{number}"), limits=LIVELY, cluster=told)
    mesh_of(bus).serve(lambda node, body: body, lambda node, body: None)
    bus.publish(f"request/{number}", request(number))
    sys.stdout.write(f"{mesh_of(bus).address}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
