"""However a model is divided between processes, its tokens are those of one process."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from bus.keys import Keys
from bus.messages.base import SequenceId
from bus.messages.engine import Beat, Load, Part, Phase
from bus.messages.generation import FinishReason, RegexFormat, Sampling, Stopping, TokenPrompt
from engine.border import Network
from scripts.make_model import make_model
from tests.engine.process import PATIENCE_S, EngineUnderTest, engine_process
from tests.engine.ranks import ranks
from tests.engine.reference import greedy

Stages = tuple[tuple[int, int], ...]

LAYERS = 4
ONE: Stages = ((0, 4),)
TWO: Stages = ((0, 2), (2, 4))
THREE: Stages = ((0, 1), (1, 3), (3, 4))
DIVISIONS: dict[str, tuple[Stages, int]] = {
    "pipeline-2": (TWO, 1),
    "pipeline-3": (THREE, 1),
    "tensor-2": (ONE, 2),
    "hybrid-2x2": (TWO, 2),
}
ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3_moe", "deepseek_v3", "gpt_oss", "gemma3", "qwen3_next")
WITHOUT_SHARD = ("gemma3", "qwen3_next")
BY_DEFAULT = {
    ("qwen2", "tensor-2"),
    ("gpt_oss", "hybrid-2x2"),
    ("gemma3", "pipeline-3"),
    ("qwen3_next", "pipeline-2"),
}
"""What every run of the tests covers; `scripts/test-long` covers all."""


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Models with enough layers for three stages."""
    root = tmp_path_factory.mktemp("divided")

    def folder(architecture: str) -> Path:
        path = root / architecture
        return path if path.exists() else make_model(architecture, path, layers=LAYERS)

    return folder


@dataclass(frozen=True)
class Request:
    prompt: tuple[int, ...]
    tokens: int
    after: int
    """How many tokens of others are seen before it is sent."""
    cancel_at: int | None
    """How many of its own are seen before it is cancelled."""


def some_requests(seed: int, count: int = 14) -> list[Request]:
    draw = random.Random(seed)
    requests = []
    for number in range(count):
        prompt = tuple(draw.randrange(20, 500) for _ in range(draw.choice((1, 2, 9, 33, 70, 150))))
        cancel_at = draw.randrange(10) if draw.random() < 0.3 else None
        requests.append(Request(prompt, draw.randrange(6, 30), draw.randrange(1 + 8 * number), cancel_at))
    return sorted(requests, key=lambda request: request.after)


def alone(folder: Path, requests: list[Request]) -> list[list[int]]:
    """The tokens of one process that has the whole model."""
    network = Network(folder)
    return [greedy(network, request.prompt, request.tokens) for request in requests]


def tokens_of(engine: EngineUnderTest, sequence: SequenceId) -> list[int]:
    return [token for delta in engine.answer(sequence).deltas for token in delta.ids]


async def serve(engine: EngineUnderTest, requests: list[Request], *, rest: bool = True) -> list[list[int]]:
    """Send, cancel and wait as they say, and until it rests; returns each one's tokens."""
    sequences: list[SequenceId] = []
    live: set[SequenceId] = set()

    async def see_through(sequence: SequenceId, cancel_at: int | None) -> None:
        if cancel_at is None:
            await engine.finished(sequence)
        else:
            await engine.until(
                lambda: len(tokens_of(engine, sequence)) >= cancel_at or engine.answer(sequence).over
            )
            await engine.cancel(sequence)
        live.discard(sequence)

    def enough(after: int) -> bool:
        return not live or sum(len(tokens_of(engine, sequence)) for sequence in sequences) >= after

    async with asyncio.TaskGroup() as group:
        for request in requests:
            await engine.until(partial(enough, request.after))
            stopping = Stopping(max_tokens=request.tokens, ignore_eos=True)
            sequence = await engine.submit(TokenPrompt(request.prompt), stopping=stopping)
            sequences.append(sequence)
            live.add(sequence)
            group.create_task(see_through(sequence, request.cancel_at))
    if rest:
        await at_rest(engine)
    return [tokens_of(engine, sequence) for sequence in sequences]


def rests(beat: Beat) -> bool:
    busy = beat.running + beat.prefilling + beat.waiting + beat.kv_bytes - beat.prefix_bytes
    return busy == 0 and not beat.waiting_for


async def at_rest(engine: EngineUnderTest) -> None:
    await engine.beat(rests)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "division" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--long")
        pairs = [
            (architecture, division)
            for architecture in ARCHITECTURES
            for division, (_, tensor) in DIVISIONS.items()
            if tensor == 1 or architecture not in WITHOUT_SHARD
            if everything or (architecture, division) in BY_DEFAULT
        ]
        metafunc.parametrize(("architecture", "division"), pairs)


async def test_ranks_together_make_the_tokens_of_one_process(
    folder_of: Callable[[str], Path], architecture: str, division: str
) -> None:
    folder = folder_of(architecture)
    requests = some_requests(seed=len(architecture) + len(division))
    expected = alone(folder, requests)
    layers, tensor = DIVISIONS[division]
    async with ranks(layers, tensor) as crew:
        await crew.load(folder)
        made = await serve(crew.first, requests)
        for request, tokens, wanted in zip(requests, made, expected, strict=True):
            assert tokens == (wanted if request.cancel_at is None else wanted[: len(tokens)])
        # Whatever was cancelled is gone everywhere.
        await asyncio.gather(*(at_rest(engine) for engine in crew.engines))
        assert await crew.shut_down() == [0] * len(crew.engines)


@pytest.mark.parametrize("divided", ["pipeline-3", "tensor-2"])
async def test_the_memory_is_back_on_every_rank_with_the_next_beats(
    folder_of: Callable[[str], Path], divided: str
) -> None:
    """However the last requests end: by their length, by a cancel in the middle of prefill, or of decode."""
    ends = ((300, 0), (40, None), (7, 3))
    requests = [Request(tuple(range(20, 20 + length)), 9, 0, cancel_at) for length, cancel_at in ends]

    async def is_back(engine: EngineUnderTest) -> None:
        seen = len(engine.beats)
        # The first may have been on its way already.
        await engine.until(lambda: len(engine.beats) >= seen + 2)
        assert rests(engine.beats[seen + 1])

    layers, tensor = DIVISIONS[divided]
    async with ranks(layers, tensor) as crew:
        await crew.load(folder_of("llama"))
        await serve(crew.first, requests, rest=False)
        await asyncio.gather(*(is_back(engine) for engine in crew.engines))


async def test_ranks_sample_as_one_process_does(folder_of: Callable[[str], Path]) -> None:
    """Seeds, penalties, logprobs, and an answer that is taken up in its middle."""
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=7, repetition_penalty=1.2, presence_penalty=0.3)
    stopping = Stopping(max_tokens=20, ignore_eos=True)
    prompt = TokenPrompt(tuple(range(30, 60)))
    async with engine_process() as one, ranks(TWO) as crew:
        await asyncio.gather(one.load(folder_of("llama")), crew.load(folder_of("llama")))
        expected, made = [
            await engine.ask(prompt, sampling, stopping, logprobs=3) for engine in (one, crew.first)
        ]
        assert [each.token for each in made.logprobs] == [each.token for each in expected.logprobs]
        for mine, theirs in zip(made.logprobs, expected.logprobs, strict=True):
            assert [rival.token for rival in mine.top] == [rival.token for rival in theirs.top]
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert made.finish is not None
        assert made.finish.reason is FinishReason.LENGTH
        ids = tuple(each.token for each in expected.logprobs)
        sequence = await crew.first.submit(prompt, sampling, stopping, resume=ids[:9])
        await crew.first.finished(sequence)
        assert tuple(tokens_of(crew.first, sequence)) == ids[9:]


async def test_ranks_that_know_the_clusters_key_speak_only_with_each_other(
    folder_of: Callable[[str], Path],
) -> None:
    async with ranks(TWO, keys=Keys.of("a secret of this test")) as crew:
        await crew.load(folder_of("llama"))
        stopping = Stopping(max_tokens=5, ignore_eos=True)
        answer = await crew.first.ask(TokenPrompt((30, 31, 32)), stopping=stopping)
        assert answer.tokens == 5


async def test_a_rank_that_waits_says_for_whom(folder_of: Callable[[str], Path]) -> None:
    async with ranks(TWO) as crew:
        await crew.load(folder_of("llama"))
        first, last = crew.engines
        last.process.kill()
        await last.exit_code()
        await first.submit(TokenPrompt((30, 31, 32)))
        await first.beat(lambda beat: beat.waiting_for == "rank 1")
        assert await first.shut_down() == 0


async def test_ranks_end_at_once_while_they_wait_for_each_other(folder_of: Callable[[str], Path]) -> None:
    async with engine_process() as engine:
        await engine.until(lambda: engine.said)
        await engine.peer.command(Load(str(folder_of("llama")), part=Part(0, TWO)), PATIENCE_S)
        await engine.until(lambda: any(each.phase is Phase.WAITING for each in engine.phases))
        assert await engine.shut_down() == 0


async def test_ranks_that_hold_nothing_use_no_processor(folder_of: Callable[[str], Path]) -> None:
    async with ranks(TWO) as crew:
        await crew.load(folder_of("llama"))
        for engine in crew.engines:
            await at_rest(engine)
            before = processor_s(engine)
            await engine.beat(rests)
            await engine.beat(rests)
            assert processor_s(engine) - before < 0.1


def processor_s(engine: EngineUnderTest) -> float:
    times = psutil.Process(engine.process.pid).cpu_times()
    return float(times.user + times.system)


async def test_a_model_that_mlx_lm_cannot_divide_is_refused_with_a_reason(
    folder_of: Callable[[str], Path],
) -> None:
    async with ranks(ONE, 2) as crew:
        with pytest.raises(AssertionError, match="can't divide the layers of gemma3_text"):
            await crew.load(folder_of("gemma3"))


@pytest.mark.parametrize(
    ("architecture", "divided"),
    [("llama", "tensor-2"), ("gpt_oss", "pipeline-2"), ("qwen3_next", "pipeline-3")],
)
async def test_ranks_keep_prefixes_and_hold_answers_to_formats_as_one_process_does(
    folder_of: Callable[[str], Path], architecture: str, divided: str
) -> None:
    """Turns of a conversation beside answers that are held to a pattern, and others that are guessed."""
    layers, tensor = DIVISIONS[divided]
    network = Network(folder_of(architecture))
    prompt = tuple(range(30, 130))
    turns: list[tuple[int, ...]] = [prompt]
    for _ in range(3):
        turns.append((*turns[-1], *greedy(network, turns[-1], 12), 40, 41, 42))
    async with ranks(layers, tensor) as crew:
        await crew.load(folder_of(architecture))
        digits = RegexFormat("[0-9]{30}")
        held = [await crew.first.submit(TokenPrompt(prompt[:9]), format=digits) for _ in range(2)]
        repeated = await crew.first.submit(
            TokenPrompt((50, 51, 52) * 20), stopping=Stopping(max_tokens=60, ignore_eos=True)
        )
        for number, turn in enumerate(turns):
            stopping = Stopping(max_tokens=12, ignore_eos=True)
            sequence = await crew.first.submit(TokenPrompt(turn), stopping=stopping)
            await crew.first.finished(sequence)
            assert tokens_of(crew.first, sequence) == greedy(network, turn, 12)
            cached = crew.first.answer(sequence).finish
            assert cached is not None
            # Without guesses, the last token of an answer is not computed before its end is known.
            assert cached.cached_tokens == (len(turns[number - 1]) + 11 if number else 0)
        for each in held:
            answer = await crew.first.finished(each)
            assert re.fullmatch("[0-9]{30}", answer.text)
        await crew.first.finished(repeated)
        assert tokens_of(crew.first, repeated) == greedy(network, (50, 51, 52) * 20, 60)
        await asyncio.gather(*(at_rest(engine) for engine in crew.engines))
        kept = [engine.beats[-1].prefix_bytes for engine in crew.engines]
        assert all(kept)
