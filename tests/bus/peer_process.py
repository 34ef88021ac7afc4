"""An engine's end of the bus in a process of its own: `python -m tests.bus.peer_process ENDPOINT IDENTITY`.

Says hello, takes every command, and ends with Shutdown.
"""

import asyncio
import os
import sys

from bus.dealer import Dealer
from bus.messages.engine import Hello, Phase, PhaseChange, Shutdown
from bus.messages.envelope import Body
from bus.messages.generation import Refusal


async def main(endpoint: str, identity: bytes) -> None:
    ended = asyncio.Event()

    def receive(body: Body) -> Refusal | None:
        if isinstance(body, Shutdown):
            dealer.notify(PhaseChange(Phase.STOPPED, "as asked"))
            ended.set()
        return None

    dealer = Dealer.connect(endpoint, identity, receive)
    dealer.notify(Hello(os.getpid()))
    await ended.wait()
    dealer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], bytes.fromhex(sys.argv[2])))
