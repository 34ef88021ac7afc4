"""The clients: a process that sends what it is told to and notes when each byte of the answers came.

It reads plans from standard input and writes reports to standard output, one JSON line each. While a plan
runs it only notes; it looks into the bytes when all is over, so that it takes little of the machine that it
measures.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Sequence

import aiohttp
import msgspec

from scripts.benchmark.answers import read_stream, read_whole
from scripts.benchmark.traffic import Message, Plan, Report, Seen, Wish

JSON = {"Content-Type": "application/json"}
RETRY_S = 0.005
OVERLAP_S = 0.5
"""How long a background client stays when all others have ended."""


class _Client:
    """One request from its sending to its end."""

    def __init__(self, wish: Wish, deadline_s: float) -> None:
        self.wish = wish
        self._deadline_s = deadline_s
        self._body = msgspec.json.encode(wish.body)
        self._arrivals: list[tuple[float, bytes]] = []
        self._seen = Seen(sent_s=0.0, ended_s=0.0)

    async def run(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(self.wish.delay_s)
        self._note(sent_s=time.monotonic())
        until = time.monotonic() + self.wish.insist_s
        while True:
            if await self._try(session) or time.monotonic() >= until:
                return
            await asyncio.sleep(RETRY_S)

    async def _try(self, session: aiohttp.ClientSession) -> bool:
        """Ask once; False: there was no answer, or a server that is not ready."""
        self._arrivals.clear()
        self._note(status=0, error="", hung_up=False)
        try:
            async with asyncio.timeout(min(self.wish.hang_up_after_s or self._deadline_s, self._deadline_s)):
                await self._ask(session)
        except TimeoutError:
            self._note(hung_up=True, error="" if self.wish.hang_up_after_s else "no end before the deadline")
        except asyncio.CancelledError:
            self._note(hung_up=True)
        except (aiohttp.ClientError, OSError) as error:
            self._note(error=f"{type(error).__name__}: {error}")
        self._note(ended_s=time.monotonic())
        return self._seen.hung_up or (self._seen.status == 200 and not self._seen.error)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        async with session.post(self.wish.url, data=self._body, headers=JSON) as response:
            self._note(status=response.status)
            try:
                async for piece in response.content.iter_any():
                    self._arrivals.append((time.monotonic(), piece))
            finally:
                response.close()

    def _note(self, **changes: float | int | str | bool) -> None:
        self._seen = msgspec.structs.replace(self._seen, **changes)

    def report(self) -> Seen:
        streams = self.wish.body.stream and self._seen.status == 200
        return (read_stream if streams else read_whole)(self._seen, self._arrivals)


class _Talk:
    """A request, and what its client asks after each answer."""

    def __init__(self, wish: Wish, deadline_s: float) -> None:
        self.wish = wish
        self._deadline_s = deadline_s
        self._clients = [_Client(wish, deadline_s)]

    async def run(self, session: aiohttp.ClientSession) -> None:
        await self._clients[-1].run(session)
        for said in self.wish.turns:
            seen = self._clients[-1].report()
            if seen.error or seen.hung_up:
                return
            self._clients.append(_Client(after(self._clients[-1].wish, seen.text, said), self._deadline_s))
            await self._clients[-1].run(session)

    def reports(self) -> list[Seen]:
        return [client.report() for client in self._clients]


def after(wish: Wish, answer: str, said: Sequence[Message]) -> Wish:
    """What is asked next in a chat, at once: pure.

    A blank is put before the answer in any case: the models' words begin with one, mlx_lm.server leaves it
    out, and without it the answer's first token would be another one.
    """
    history = (*wish.body.messages, Message(role="assistant", content=f" {answer.lstrip()}"), *said)
    body = msgspec.structs.replace(wish.body, messages=history)
    return msgspec.structs.replace(wish, body=body, delay_s=0.0)


async def carry_out(plan: Plan) -> Report:
    """Run all clients of a plan; returns when the last one has ended."""
    cpu_s = time.process_time()
    clients = [_Talk(wish, plan.deadline_s) for wish in plan.wishes]
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await _run_all(clients, session)
    cpu_s = time.process_time() - cpu_s
    seen = tuple(seen for client in clients for seen in client.reports())
    return Report(seen=seen, cpu_s=cpu_s)


async def _run_all(clients: Sequence[_Talk], session: aiohttp.ClientSession) -> None:
    tasks = {client: asyncio.create_task(client.run(session)) for client in clients}
    background = [task for client, task in tasks.items() if client.wish.background]
    await asyncio.gather(*(task for client, task in tasks.items() if not client.wish.background))
    if background:
        await asyncio.sleep(OVERLAP_S)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)


def main() -> None:
    gc.disable()
    for line in sys.stdin.buffer:
        report = asyncio.run(carry_out(msgspec.json.decode(line, type=Plan)))
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
