"""A sequence that can't be handed to its engine: whether that passes, and that nobody computes it unasked."""

import asyncio
from collections.abc import Callable

import pytest
import zmq

from actors.kernel.actor import LoopActor
from actors.kernel.directory import Directory
from actors.messages import Dispatch, RequestMessage
from actors.retry import is_passing
from actors.runner import Runner
from actors.running import engine_link
from actors.running.desk import perhaps_taken, untaken
from actors.running.engine_process import EngineProcess
from actors.running.runner_settings import RunnerSettings
from bus import errors
from bus.bus import Bus
from bus.codec import MESSAGE_LIMIT, decode_envelope, encode
from bus.keys import Keys
from bus.messages.base import InstanceId, ModelId, NodeId, SequenceId
from bus.messages.engine import Cancel, Phase, PhaseChange, Refused, Submit
from bus.messages.envelope import Command, Envelope, Notice
from bus.messages.generation import Prompt, Refusal, RefusalCode, TextPrompt
from bus.messages.placement import Instance, Stage
from tests.actors.probe import soon
from tests.bus.ends import raw, received

NODE = NodeId("n-1")
NAME = SequenceId("r/0")
ALONE = Instance(InstanceId("i"), 1, ModelId("m"), (Stage(0, 4, (NODE,)),), context=64)
IMPATIENT_S = 0.1


class Asker(LoopActor[RequestMessage]):
    """A request that keeps what becomes of its sequences."""

    def __init__(self, refused: asyncio.Queue[Refused]) -> None:
        super().__init__()
        self._refused = refused

    def on_receive(self, message: RequestMessage) -> None:
        if isinstance(message, Refused):
            self._refused.put_nowait(message)


class Mute:
    """An engine process that says that it is ready, and answers no command."""

    def __init__(self, socket: "zmq.Socket[bytes]", exited: Callable[[int], None]) -> None:
        self.pid, self.runs, self._exited = 0, True, exited
        ready = PhaseChange(phase=Phase.READY, reason="ready")
        socket.send(encode(Notice(ready)))

    def kill(self) -> None:
        self.runs = False

    async def end(self, _patience_s: float) -> None:
        self.kill()

    async def ended(self) -> None:
        """It ends at once."""


class Case:
    """A Runner whose engine is a socket in the test's hands, and a request that asks something of it."""

    def __init__(self, bus: Bus, socket: "zmq.Socket[bytes]", connected: asyncio.Event) -> None:
        self._socket = socket
        self._connected = connected
        settings = RunnerSettings(pace_s=0.05)
        self.runner = Runner.start(ALONE, NODE, bus, Directory(), settings)
        self.refused: asyncio.Queue[Refused] = asyncio.Queue()
        self.asker = Asker.start(self.refused)

    def submit(self, prompt: Prompt) -> None:
        self.runner.tell(Dispatch((Submit(NAME, prompt),), self.asker))

    async def refusal(self) -> Refusal:
        return (await soon(self.refused.get())).refusal

    async def command(self) -> Envelope:
        """The next that the engine hears, on a thread of its own: nobody else may use the socket then."""
        await self._connected.wait()
        (data,) = await received(self._socket)
        return decode_envelope(memoryview(data))

    async def close(self) -> None:
        for ref in (self.runner, self.asker):
            ref.kill("the test is over")
            await ref.ended


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_link, "COMMAND_TIMEOUT_S", IMPATIENT_S)


async def case_on(bus: Bus, socket: "zmq.Socket[bytes]", monkeypatch: pytest.MonkeyPatch) -> Case:
    connected = asyncio.Event()

    async def start(
        endpoint: str, identity: bytes, _keys: Keys | None, exited: Callable[[int], None]
    ) -> Mute:
        socket.routing_id = identity
        socket.connect(endpoint)
        mute = Mute(socket, exited)
        connected.set()
        return mute

    monkeypatch.setattr(EngineProcess, "start", start)
    return Case(bus, socket, connected)


async def test_what_an_engine_may_have_taken_without_a_word_is_cancelled(
    bound_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    bus = await Bus.open(NODE)
    with raw(zmq.DEALER) as socket:
        case = await case_on(bus, socket, monkeypatch)
        case.submit(TextPrompt("hello"))
        submitted = await case.command()
        assert isinstance(submitted, Command)
        assert isinstance(submitted.body, Submit)
        assert (await case.refusal()).code is RefusalCode.ENGINE_LOST
        cancelled = await case.command()
        assert isinstance(cancelled, Command)
        assert cancelled.body == Cancel((NAME,))
        await case.close()
    await bus.close()


async def test_a_prompt_that_the_bus_does_not_carry_is_its_clients_to_shorten(
    bound_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await Bus.open(NODE)
    with raw(zmq.DEALER) as socket:
        case = await case_on(bus, socket, monkeypatch)
        case.submit(TextPrompt("a" * MESSAGE_LIMIT))
        refusal = await case.refusal()
        assert (refusal.code, refusal.param) == (RefusalCode.INVALID, "prompt")
        assert "shorten it" in refusal.message
        await case.close()
    await bus.close()


@pytest.mark.parametrize(
    ("error", "passes", "perhaps"),
    [
        (errors.PeerGone("it left"), True, True),
        (errors.CommandTimeout("no answer"), True, True),
        (errors.QueueFull("it does not keep up"), True, True),
        (errors.TooLarge("17 MB"), False, False),
        (errors.Refused(Refusal(RefusalCode.ENGINE_FAILED, "see the log")), False, False),
        (errors.Refused(Refusal(RefusalCode.ENGINE_LOST, "not ready yet")), True, False),
    ],
)
def test_what_passes_is_tried_again_and_what_an_engine_says_itself_is_passed_on(
    error: errors.BusError, passes: bool, perhaps: bool
) -> None:
    refusal = untaken(error)
    assert is_passing(refusal.code) is passes
    assert str(error) in refusal.message
    assert perhaps_taken(error) is perhaps
