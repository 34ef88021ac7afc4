"""Asks the coordinator, wherever it is: this node's own Placement, or that of another."""

import asyncio
from typing import Final, TypeAlias

import pykka

from actors import names
from actors.kernel.directory import Directory, NobodyThere
from actors.kernel.mailbox import MailboxFull
from actors.messages import Elsewhere
from bus.errors import BusError, CommandTimeout, Refused
from bus.mesh import Mesh
from bus.messages.base import NodeId
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Create, Created, Withdraw

ANSWER_S: Final = 30.0
"""Planning over many nodes and models takes far less."""
COORDINATOR_S: Final = 20.0
"""How long there may be no coordinator, or one that can't be reached, before that is the answer."""
LOOK_AGAIN_S: Final = 0.2

Answer: TypeAlias = Created | Refusal | None


async def ask_coordinator(directory: Directory, mesh: Mesh | None, body: Create | Withdraw) -> Answer:
    """What the coordinator says. While one is being found, this waits, within limits.

    Where an answer is lost it asks again, if that is safe: `Withdraw` is, and `Create` with `once`. A plain
    `Create` that may have been done is not repeated.
    """
    why = ""
    for _ in range(round(COORDINATOR_S / LOOK_AGAIN_S)):
        answer = await _ask_here(directory, body)
        if isinstance(answer, Elsewhere):
            why = answer.why
            if answer.coordinator is not None and mesh is not None:
                was_there = answer.coordinator in mesh.members
                try:
                    return await _ask_there(mesh, answer.coordinator, body)
                except CommandTimeout as error:
                    return Refusal(RefusalCode.TIMEOUT, str(error))
                except Refused as error:
                    if error.refusal.code is not RefusalCode.NOT_COORDINATOR:
                        return error.refusal
                    why = str(error)
                except BusError as error:
                    why = str(error)
                    if was_there and isinstance(body, Create) and not body.once:
                        return _perhaps_done(why)
        else:
            return answer
        await asyncio.sleep(LOOK_AGAIN_S)
    message = f"the cluster's coordinator has no answer yet: {why}. Ask again, or look at GET /v1/cluster"
    return Refusal(RefusalCode.OVERLOADED, message, retry_after_s=2.0)


async def _ask_here(directory: Directory, body: Create | Withdraw) -> Answer | Elsewhere:
    try:
        placement = directory.get(names.PLACEMENT)
        return await placement.request(body, (Created, Refusal, Elsewhere, type(None)), timeout=ANSWER_S)
    except (NobodyThere, pykka.ActorDeadError, MailboxFull):
        return Elsewhere(None, "this node's placement is being started again")
    except TimeoutError:
        return Refusal(RefusalCode.TIMEOUT, "this node's placement did not answer", retry_after_s=1.0)


async def _ask_there(mesh: Mesh, node: NodeId, body: Create | Withdraw) -> Answer:
    answer = await mesh.command(node, body, ANSWER_S)
    return answer if isinstance(answer, Created) else None


def _perhaps_done(why: str) -> Refusal:
    message = f"the coordinator was lost before it answered ({why}): see GET /v1/instances if it was placed"
    return Refusal(RefusalCode.TIMEOUT, message, retry_after_s=2.0)
