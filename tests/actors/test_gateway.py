"""What the API asks of its node is answered, also while the actor that it is for is started again."""

import asyncio

from actors.node_gateway import NodeGateway
from bus.bus import Bus
from bus.messages.base import ModelId, NodeId
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Wish
from tests.actors.probe import soon
from tests.actors.stage import Stage


async def test_a_preview_under_which_the_placement_ends_is_to_be_asked_for_again(
    bound_loop: asyncio.AbstractEventLoop,
) -> None:
    bus = await Bus.open(NodeId("n-1"))
    stage = Stage(bus)
    asked = stage.silent_placement()
    gateway = NodeGateway(NodeId("n-1"), bus, stage.directory, timeout_s=60.0)
    preview = asyncio.create_task(gateway.preview(Wish(ModelId("m"))))
    await soon(asked.wait())
    await stage.clear()
    answer = await soon(preview)
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.TIMEOUT
    assert answer.retry_after_s is not None
    await bus.close()
