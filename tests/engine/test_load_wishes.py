"""What a Load can wish for: prefixes that outlive the process, fewer bits, a draft model, little memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bus.messages.engine import Beat, Budget, Load, Phase
from bus.messages.generation import RefusalCode, Stopping, TokenPrompt
from engine.border import Network
from engine.gauges import Gauges
from engine.loader import load as load_model
from engine.outfit import keeper_of
from engine.prefixes.index import Index
from engine.ranks.conductor import alone
from engine.steps.entry import Entry
from engine.steps.store_orders import Keep
from scripts.make_model import make_model
from tests.engine.process import PATIENCE_S, EngineUnderTest, engine_process
from tests.engine.ranks import ranks
from tests.engine.reference import greedy

PROMPT = tuple((7 * index + index * index // 3) % 500 + 20 for index in range(200))
TWELVE = Stopping(max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def of(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = make_model(architecture, root / architecture, layers=4)
        return made[architecture]

    return of


async def load(engine: EngineUnderTest, order: Load) -> None:
    await engine.until(lambda: engine.said)
    await engine.peer.command(order, PATIENCE_S)
    ended = await engine.until(
        lambda: next((each for each in engine.phases if each.phase in (Phase.READY, Phase.FAILED)), None)
    )
    assert ended.phase is Phase.READY, ended.reason


async def ask(engine: EngineUnderTest, prompt: tuple[int, ...]) -> tuple[list[int], int]:
    """Its tokens, and how many of the prompt were kept."""
    answer = await engine.ask(TokenPrompt(prompt), stopping=TWELVE)
    assert answer.finish is not None
    return [token for delta in answer.deltas for token in delta.ids], answer.finish.cached_tokens


def _given(record: bytes, name: str) -> bytes:
    return record


def saved(folder: Path) -> bool:
    return any(not path.name.endswith(".partial") for path in folder.glob("*"))


@pytest.mark.parametrize("architecture", ["gpt_oss"])
async def test_what_is_kept_outlives_the_engine(
    folder_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    folder, network = folder_of(architecture), Network(folder_of(architecture))
    order = Load(str(folder), hurry=True, prefixes_path=str(tmp_path), speculate=False)
    async with engine_process() as engine:
        await load(engine, order)
        tokens, _ = await ask(engine, PROMPT)
        assert await engine.shut_down() == 0
    assert saved(tmp_path)
    turn = (*PROMPT, *tokens, 33, 34)
    async with engine_process() as engine:
        await load(engine, order)
        assert await ask(engine, turn) == (greedy(network, turn, 12), len(PROMPT) + 12)


def test_a_record_that_is_not_about_what_is_kept_is_let_go_with_it(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Load(str(folder_of("llama")))
    loaded = load_model(folder_of("llama"), None, lambda doing, progress: None)
    for record in (b"nonsense", Index(True, 1, 0).record()):
        conductor = alone(loaded.stage, Gauges())
        conductor.insert(0, Entry(list(PROMPT)), None)
        conductor.begin(0, 64, [], [])
        conductor.wait()
        conductor.store([Keep(7, 1, 0, 64)])
        conductor.tidy(0)
        conductor.settle()
        assert conductor.stored == 1
        monkeypatch.setattr(conductor, "restore", partial(_given, record))
        keeper = keeper_of(order, loaded, conductor, conductor.footprint(), None, "kept")
        conductor.tidy(0)
        conductor.settle()
        assert (conductor.stored, keeper.nbytes) == (0, 0)


async def test_what_ranks_keep_outlives_them_together_or_not_at_all(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, network = folder_of("llama"), Network(folder_of("llama"))
    paths = [tmp_path / "0", tmp_path / "1"]
    async with ranks(((0, 2), (2, 4))) as crew:
        await crew.load(folder, prefixes_paths=paths)
        tokens, _ = await ask(crew.first, PROMPT)
        # Idle engines write after a while: asking for their end has rank 0 do it at once.
        await crew.save()
    turn = (*PROMPT, *tokens, 33, 34)
    async with ranks(((0, 2), (2, 4))) as crew:
        await crew.load(folder, prefixes_paths=paths)
        assert await ask(crew.first, turn) == (greedy(network, turn, 12), len(PROMPT) + 11)
    for path in paths[1].rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    async with ranks(((0, 2), (2, 4))) as crew:
        await crew.load(folder, prefixes_paths=paths)
        assert await ask(crew.first, turn) == (greedy(network, turn, 12), 0)


@pytest.mark.parametrize("bits", [4])
async def test_a_cache_of_fewer_bits_is_smaller_and_answers_all_the_same(tmp_path: Path, bits: int) -> None:
    wide = make_model("llama", tmp_path / "wide", layers=2, hidden=128)

    async def held(kv_bits: int | None) -> int:
        async with engine_process() as engine:
            await load(engine, Load(str(wide), hurry=True, kv_bits=kv_bits, speculate=False))
            streams = [
                await engine.submit(TokenPrompt(PROMPT[place:]), stopping=Stopping(300, ignore_eos=True))
                for place in range(3)
            ]
            beat: Beat = await engine.beat(lambda beat: beat.running == 3)
            for stream in streams:
                assert (await engine.finished(stream)).tokens == 300
            return beat.kv_bytes

    # Two tenths and three, and as beats come when they come, with room for what grows between them.
    assert await held(bits) < 0.6 * await held(None)


async def test_a_draft_model_guesses_and_changes_nothing(folder_of: Callable[[str], Path]) -> None:
    folder, network = folder_of("llama"), Network(folder_of("llama"))
    async with engine_process() as engine:
        await load(engine, Load(str(folder), hurry=True, draft_path=str(folder)))
        long = Stopping(max_tokens=150, ignore_eos=True)
        answer = await engine.ask(TokenPrompt(PROMPT), stopping=long)
        assert [token for delta in answer.deltas for token in delta.ids] == greedy(network, PROMPT, 150)
        beat: Beat = await engine.beat(lambda beat: beat.drafted_tokens > 0)
        assert beat.accepted_tokens > 0, "the model guesses for itself"


async def test_a_prompt_that_can_never_fit_is_refused_at_once_with_the_numbers(
    folder_of: Callable[[str], Path],
) -> None:
    async with engine_process() as engine:
        budget = Budget(kv_bytes=2_000_000, cache_bytes=1 << 26)
        await load(engine, Load(str(folder_of("llama")), hurry=True, budget=budget))
        sequence = await engine.submit(TokenPrompt(PROMPT * 8), stopping=TWELVE)
        await engine.until(lambda: engine.answer(sequence).over)
        refused = engine.answer(sequence).refused
        assert refused is not None
        assert refused.refusal.code is RefusalCode.CONTEXT_LENGTH
        assert "1600" in refused.refusal.message
        small = await engine.ask(TokenPrompt(PROMPT[:40]), stopping=TWELVE)
        assert small.tokens == 12
