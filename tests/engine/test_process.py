"""The engine as a process, spoken to over the bus."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import psutil
import pytest

from bus.bus import Bus, new_identity
from bus.errors import Refused
from bus.messages.base import NodeId, SequenceId
from bus.messages.engine import Hello, Load, Phase, Shutdown, Submit
from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    FinishReason,
    RefusalCode,
    Sampling,
    Stopping,
    TextPrompt,
    TokenPrompt,
)
from tests.engine.conftest import Models
from tests.engine.process import PATIENCE_S, ROOT, command, engine_process

WORDS = "how do I add a second machine to the cluster"


def long(tokens: int) -> Stopping:
    return Stopping(max_tokens=tokens, ignore_eos=True)


async def test_a_life_from_hello_to_shutdown(models: Models) -> None:
    async with engine_process() as engine:
        ready = await engine.load(models("llama"))
        assert isinstance(engine.said[0], Hello)
        assert engine.said[0].pid == engine.process.pid
        assert set(engine.said[0].versions) == {"mlx", "mlx-lm"}
        assert [phase.phase for phase in engine.phases if phase.phase is not Phase.LOADING] == [
            Phase.WARMING,
            Phase.READY,
        ]
        assert ready.context == 2048

        answer = await engine.ask(TextPrompt(WORDS), stopping=long(12), logprobs=2, echo=True)
        assert answer.accepted is not None
        assert answer.accepted.prompt_tokens > 3
        assert answer.text.startswith(WORDS)
        assert (answer.tokens, len(answer.logprobs)) == (12, answer.accepted.prompt_tokens + 12)
        assert answer.finish is not None
        assert answer.finish.reason is FinishReason.LENGTH

        talk = await engine.ask(ChatPrompt((ChatMessage("user", WORDS),)), stopping=long(5))
        assert talk.tokens == 5

        busy = await engine.submit(TextPrompt(WORDS), stopping=long(1500))
        others = [await engine.submit(TextPrompt(WORDS), Sampling(), long(1500)) for _ in range(4)]
        running = await engine.beat(lambda beat: beat.running == 5)
        assert running.kv_bytes > 0
        await engine.cancel(*others)
        cancelled = [len(engine.answer(other).deltas) for other in others]
        assert (await engine.finished(busy)).tokens == 1500
        idle = await engine.beat(lambda beat: beat.running == 0)
        assert (idle.kv_bytes, idle.waiting, idle.prefilling) == (idle.prefix_bytes, 0, 0)
        assert all(engine.answer(other).finish is None for other in others)
        assert all(made < 1500 for made in cancelled)
        numbers = [step.number for step in engine.steps]
        assert numbers == sorted(set(numbers))
        assert await engine.shut_down() == 0


async def test_what_cannot_be_generated_is_refused_and_harms_nothing_else(models: Models) -> None:
    async with engine_process() as engine:
        await engine.until(lambda: engine.said)
        with pytest.raises(Refused, match="not ready"):
            await engine.peer.command(Submit(SequenceId("early"), TextPrompt("a")), 30)
        await engine.load(models("llama"), context=64)
        stream = await engine.submit(TextPrompt("a"), stopping=long(60))
        for prompt, sampling, code in (
            (TextPrompt(""), None, RefusalCode.INVALID),
            (TokenPrompt((1 << 30,)), None, RefusalCode.INVALID),
            (TextPrompt("a"), Sampling(logit_bias={1 << 30: 1.0}), RefusalCode.INVALID),
            (TextPrompt("word " * 200), None, RefusalCode.CONTEXT_LENGTH),
        ):
            answer = await engine.ask(prompt, sampling)
            assert answer.refused is not None
            assert answer.refused.refusal.code is code
        huge = await engine.ask(TextPrompt("a"), Sampling(top_k=1 << 30, seed=(1 << 64) - 1), long(10))
        assert huge.tokens == 10
        await engine.finished(stream)
        with pytest.raises(Refused, match="already"):
            await engine.peer.command(Load("elsewhere"), 30)
        with pytest.raises(Refused, match="takes no Hello"):
            await engine.peer.command(Hello(1), 30)


async def test_a_model_that_cannot_be_loaded_fails_with_a_reason_and_ends_the_process() -> None:
    async with engine_process() as engine:
        failed = await engine.load(ROOT / "nowhere")
        assert failed.phase is Phase.FAILED
        assert "is no folder" in failed.reason
        assert await engine.exit_code() == 1


@pytest.mark.parametrize("arguments", [(), ("--log-level", "loud")])
async def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine", *arguments, stderr=asyncio.subprocess.PIPE, cwd=ROOT
    )
    _, complaint = await process.communicate()
    assert b"usage: python -m engine" in complaint
    assert process.returncode == 2


async def test_an_engine_without_a_model_can_be_shut_down() -> None:
    async with engine_process() as engine:
        await engine.until(lambda: engine.said)
        assert await engine.shut_down() == 0


async def test_a_shutdown_ends_a_busy_engine(models: Models) -> None:
    async with engine_process() as engine:
        await engine.load(models("llama"))
        for _ in range(4):
            await engine.submit(TextPrompt(WORDS), stopping=long(1800))
        await engine.beat(lambda beat: beat.running == 4)
        assert await engine.shut_down() == 0


async def test_sigterm_ends_a_busy_engine_at_once(models: Models) -> None:
    async with engine_process() as engine:
        await engine.load(models("llama"))
        await engine.submit(TextPrompt(WORDS), stopping=long(1800))
        await engine.beat(lambda beat: beat.running == 1)
        engine.process.send_signal(signal.SIGTERM)
        assert await engine.exit_code() == -signal.SIGTERM


async def test_ctrl_c_is_the_nodes_to_act_on(models: Models) -> None:
    async with engine_process() as engine:
        await engine.until(lambda: engine.said)
        engine.process.send_signal(signal.SIGINT)
        assert (await engine.load(models("llama"))).phase is Phase.READY


async def test_an_engine_whose_node_closes_the_pipe_is_gone(models: Models) -> None:
    async with engine_process() as engine:
        await engine.load(models("llama"))
        await engine.submit(TextPrompt(WORDS * 60), stopping=long(1000))
        assert engine.process.stdin is not None
        engine.process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            await engine.process.wait()


NODE = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
child.stdin.write(b"\\n")
child.stdin.flush()
print(child.pid, flush=True)
child.wait()
"""


async def test_an_engine_whose_node_was_killed_is_gone(models: Models) -> None:
    bus = await Bus.open(NodeId("test"))
    identity = new_identity()
    ready = asyncio.Event()
    gone = asyncio.Event()

    def receive(body: object) -> None:
        if getattr(body, "phase", None) is Phase.READY or isinstance(body, Hello):
            ready.set()

    peer = bus.expect(identity, receive=receive, gone=gone.set)
    node = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        NODE,
        *command(bus.commands_endpoint, identity),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        assert node.stdout is not None
        engine = psutil.Process(int(await node.stdout.readline()))
        await ready.wait()
        ready.clear()
        await peer.command(Load(str(models("llama"))), 30)
        await ready.wait()
        node.kill()
        await node.wait()
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        await asyncio.to_thread(psutil.wait_procs, [engine], timeout=10.0)
        assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    finally:
        await bus.close()


async def test_logs_are_one_line_each_without_a_prompts_text(models: Models) -> None:
    async with engine_process(stderr=asyncio.subprocess.PIPE) as engine:
        await engine.load(models("llama"))
        await engine.ask(TextPrompt("a secret word"), stopping=long(3))
        await engine.peer.command(Shutdown(), 30)
        assert engine.process.stderr is not None
        logged = (await engine.process.stderr.read()).decode().splitlines()
        assert logged
        assert all(line.split(" ")[0] in ("DEBUG", "INFO", "WARNING", "ERROR") for line in logged)
        assert not any("secret" in line for line in logged)
        await engine.exit_code()


async def test_a_call_of_a_tool_reaches_the_bus_whole(models: Models) -> None:
    """The random model does not call tools by itself: its bias makes it write the call's markers."""
    async with engine_process() as engine:
        await engine.load(models("llama"))
        vocabulary = json.loads((models("llama") / "tokenizer.json").read_text())
        added = {token["content"]: token["id"] for token in vocabulary["added_tokens"]}
        prompt = ChatPrompt(
            (ChatMessage("user", WORDS),), tools=('{"type": "function", "function": {"name": "f"}}',)
        )
        bias = Sampling(
            temperature=0.0,
            logit_bias={added["<tool_call>"]: 900.0, added["</tool_call>"]: 500.0},
            presence_penalty=1000.0,
        )
        answer = await engine.ask(prompt, bias, long(4))
        assert answer.text.startswith("<tool_call></tool_call>")
        assert not answer.calls
