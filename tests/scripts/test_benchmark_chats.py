"""The benchmark's chats, agents, arrivals and schemas: what is asked, and how it is judged."""

import math
from itertools import pairwise
from statistics import mean

import mlx.core as mx
import msgspec
import pytest
from jsonschema import Draft202012Validator

from scripts.benchmark.answers import read_stream
from scripts.benchmark.bare import Costs, costs
from scripts.benchmark.client import after
from scripts.benchmark.models import CHATTY, KV_HEADS, Prompts, Shape, make, words
from scripts.benchmark.scenarios.agents import STEPS, TOOLS, first_steps, later_steps
from scripts.benchmark.scenarios.chat import new_tokens
from scripts.benchmark.scenarios.goodput import KINDS, Limits, arrivals
from scripts.benchmark.scenarios.schema import SCHEMA, mean_gap, per_token_s
from scripts.benchmark.stats import median, ratios
from scripts.benchmark.traffic import Body, Message, Seen, Wish

TINY = Shape("tiny-chat", layers=2, hidden=64, intermediate=128, context=256, words=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make(TINY, tmp_path_factory.mktemp("models")))


# -- models ----------------------------------------------------------------------------------------


def test_a_chatty_model_says_whole_words_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = make(TINY, tmp_path_factory.mktemp("models"))

    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    said = mx.any(weights["lm_head.weight"] != 0, axis=1).tolist()
    assert isinstance(said, list)
    assert sum(map(bool, said)) == len(words(folder)) > 100


def test_a_prompt_has_as_many_tokens_as_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = make(TINY, tmp_path_factory.mktemp("models"))
    prompts = Prompts(folder)

    assert prompts.next(40).count(" ") == 40
    assert prompts.next(5)[:12] != prompts.next(5)[:12]


def test_a_shape_knows_its_keys_and_values() -> None:
    assert CHATTY.kv_bytes_per_token == 6 * 2 * KV_HEADS * 32 * 4


def test_what_new_tokens_cost_is_measured_behind_what_was_before(tiny: str) -> None:
    found = costs(Costs(tiny, ((0, 40), (60, 10), (70, 1))))

    assert len(found) == 3
    assert all(took_s > 0 for took_s in found)


# -- chats -----------------------------------------------------------------------------------------


def test_the_next_turn_has_all_that_was_said() -> None:
    body = Body(
        model="m", messages=(Message(role="user", content="a"),), max_tokens=4, temperature=0.0, stream=True
    )
    wish = Wish(url="u", body=body, delay_s=3.0)

    following = after(wish, "word two", [Message(role="tool", content="b", tool_call_id="call_1")])

    assert [(each.role, each.content) for each in following.body.messages] == [
        ("user", "a"),
        ("assistant", " word two"),
        ("tool", "b"),
    ]
    assert following.delay_s == 0.0
    assert after(wish, " word two", []).body.messages[1].content == " word two"


def test_a_body_has_a_prompt_or_messages() -> None:
    text = Body(model="m", prompt="p", max_tokens=1, temperature=0.0, stream=False)
    chat = Body(
        model="m", messages=(Message(role="user", content="a"),), max_tokens=1, temperature=0.0, stream=True
    )

    assert set(msgspec.to_builtins(text)) == {"model", "prompt", "max_tokens", "temperature", "stream"}
    assert set(msgspec.to_builtins(chat)) == {"model", "messages", "max_tokens", "temperature", "stream"}


def test_a_chats_text_calls_and_cached_tokens_are_read() -> None:
    events = [
        {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 7},
            },
        },
    ]
    arrivals = [
        (float(at), b"data: " + msgspec.json.encode(event) + b"\n\n") for at, event in enumerate(events)
    ]

    seen = read_stream(Seen(sent_s=0.0, ended_s=9.0, status=200), arrivals)

    assert (seen.text, seen.token_s, seen.cached_tokens) == ("a{}", (1.0, 2.0), 7)


def test_new_tokens_of_a_turn_were_neither_asked_nor_answered_before() -> None:
    turns = [
        Seen(sent_s=0, ended_s=0, prompt_tokens=prompt, completion_tokens=answer)
        for prompt, answer in ((500, 60), (800, 40), (845, 10))
    ]

    assert new_tokens(turns) == [(0, 500), (560, 240), (840, 5)]


def test_agents_begin_and_go_on() -> None:
    seen = [Seen(sent_s=place, ended_s=place) for place in range(2 * STEPS)]

    assert [one.sent_s for one in first_steps(seen)] == [0, STEPS]
    assert len(list(later_steps(seen))) == 2 * (STEPS - 1)
    assert {tool["type"] for tool in TOOLS} == {"function"}


# -- goodput ---------------------------------------------------------------------------------------


def test_arrivals_are_the_same_for_all_who_are_measured() -> None:
    assert arrivals(1, 2.0, 30.0) == arrivals(1, 2.0, 30.0)
    assert arrivals(1, 2.0, 30.0) != arrivals(2, 2.0, 30.0)


def test_arrivals_are_a_poisson_process_of_all_lengths() -> None:
    coming = arrivals(7, 5.0, 1000.0)
    between = [after.at_s - before.at_s for before, after in pairwise(coming)]

    assert mean(between) == pytest.approx(0.2, rel=0.05)
    # Times between events of a Poisson process: as much spread as mean, and a median of ln 2 of it.
    assert median(between) == pytest.approx(0.2 * math.log(2), rel=0.1)
    for kind in KINDS:
        share = mean(kind.prompt[0] <= each.prompt <= kind.prompt[1] for each in coming)
        assert share == pytest.approx(kind.percent / 100, abs=0.03)


LIMITS = Limits(ttft_s=1.0, itl_p99_s=0.1)


@pytest.mark.parametrize(
    ("times", "hung_up", "good"),
    [
        ((0.5, 0.55, 0.6), False, True),
        ((1.5, 1.55), False, False),
        ((0.5, 0.9), False, False),
        ((0.5,), False, True),
        ((0.5, 0.55), True, False),
        ((), False, False),
    ],
)
def test_an_answer_is_good_when_it_comes_whole_soon_and_evenly(
    times: tuple[float, ...], hung_up: bool, good: bool
) -> None:
    assert LIMITS.are_met(Seen(sent_s=0.0, ended_s=2.0, token_s=times, hung_up=hung_up)) is good


# -- schemas ---------------------------------------------------------------------------------------


def test_the_schema_is_one_and_longer_than_an_answer() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    item = {"name": "a", "kind": "small", "count": 1, "tags": ["b"]}
    whole = Draft202012Validator(SCHEMA)

    assert whole.is_valid({"title": "t", "items": [item] * 100})
    assert not whole.is_valid({"title": "t", "items": [item] * 99})


def test_time_per_token_is_taken_while_all_streams_run() -> None:
    early = Seen(sent_s=0, ended_s=9, token_s=(0.0, 1.0, 2.0, 3.0, 4.0))
    late = Seen(sent_s=0, ended_s=9, token_s=(1.0, 1.5, 2.0, 2.5, 6.0, 9.0))

    assert mean_gap(early.token_s, 1.0, 4.0) == 1.0
    assert per_token_s([early, late]) == pytest.approx(0.75)
    assert math.isnan(per_token_s([early, Seen(sent_s=0, ended_s=9, token_s=(5.0, 6.0))]))


def test_what_could_not_be_measured_does_not_count() -> None:
    assert median([1.0, math.nan, 3.0]) == 2.0
    assert ratios([math.nan, 4.0], [1.0, 2.0]) == [2.0]
