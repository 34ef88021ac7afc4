"""What a request has to say comes out in order, and nothing follows its end."""

import asyncio

from actors.outlet import Outlet
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.request import Chunk, Completed, Failed, RequestEvent, Usage

DONE = Completed(usage=Usage(prompt_tokens=1, completion_tokens=1))


async def read(outlet: Outlet) -> list[RequestEvent]:
    return [event async for event in outlet]


async def test_events_come_out_in_order_up_to_the_terminal_one() -> None:
    outlet = Outlet()
    events: list[RequestEvent] = [Chunk(index=0, text="a"), Chunk(index=1, text="b"), DONE]
    for event in events:
        outlet.put(event)
    assert await read(outlet) == events


async def test_nothing_follows_the_terminal_event() -> None:
    outlet = Outlet()
    outlet.put(Failed(refusal=Refusal(code=RefusalCode.CANCELLED, message="the client left")))
    outlet.put(DONE)
    assert len(await read(outlet)) == 1


async def test_a_reader_that_came_first_is_woken_by_each_event() -> None:
    outlet = Outlet()
    reader = asyncio.create_task(read(outlet))
    for event in (Chunk(index=0, text="a"), DONE):
        await asyncio.sleep(0)
        outlet.put(event)
    assert await reader == [Chunk(index=0, text="a"), DONE]
