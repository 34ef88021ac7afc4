"""A client reads every word in order, however slowly it reads."""

from actors.outlet import MERGE_ABOVE, Outlet
from bus.messages.generation import Finish, FinishReason, Refusal, RefusalCode
from bus.messages.request import Chunk, Completed, Failed, RequestEvent, Usage, Waiting

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


async def test_a_newer_reason_to_wait_replaces_an_unread_one() -> None:
    outlet = Outlet()
    for done in range(10):
        outlet.put(Waiting(reason="prefill", done=done, total=10))
    outlet.put(DONE)
    assert await read(outlet) == [Waiting(reason="prefill", done=9, total=10), DONE]


async def test_a_slow_reader_gets_the_same_text_in_few_events() -> None:
    outlet = Outlet()
    count = 10_000
    for number in range(count):
        for index in (0, 1):
            outlet.put(Chunk(index=index, text=f"{number},", generated=number + 1))
    finish = Finish(reason=FinishReason.STOP, completion_tokens=count)
    for index in (0, 1):
        outlet.put(Chunk(index=index, generated=count, finish=finish))
    outlet.put(DONE)
    events = await read(outlet)
    assert len(events) <= MERGE_ABOVE + 1
    for index in (0, 1):
        chunks = [event for event in events if isinstance(event, Chunk) and event.index == index]
        assert "".join(chunk.text for chunk in chunks) == "".join(f"{number}," for number in range(count))
        assert chunks[-1].finish == finish


async def test_a_merged_chunk_never_puts_reasoning_after_text() -> None:
    outlet = Outlet()
    for _ in range(MERGE_ABOVE):
        outlet.put(Chunk(index=0, text="t"))
    outlet.put(Chunk(index=0, reasoning="r"))
    outlet.put(DONE)
    chunks = [event for event in await read(outlet) if isinstance(event, Chunk)]
    assert chunks[-1] == Chunk(index=0, reasoning="r")
