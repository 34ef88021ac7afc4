"""Plain completions as the official client reads them, in strict validation."""

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types import Completion

from bus.messages.generation import (
    FinishReason,
    InfillPrompt,
    Prompt,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    TopLogprob,
)
from bus.messages.request import Chunk
from tests.api.scripted import PROMPT_TOKENS, ScriptedGateway, answering, finish


async def collect(client: AsyncOpenAI, **options: object) -> list[Completion]:
    stream = await client.completions.create(model="m", prompt="Once", stream=True, extra_body=options)
    return [chunk async for chunk in stream]


async def test_a_whole_completion(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model="m", prompt="Once")
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert [(c.index, c.text, c.finish_reason) for c in answer.choices] == [(0, "Hello 0", "stop")]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", (TextPrompt("a"),)),
        ("", (TextPrompt(""),)),
        (["a", "b"], (TextPrompt("a"), TextPrompt("b"))),
        ([1, 2, 3], (TokenPrompt((1, 2, 3)),)),
        ([[1, 2], [3]], (TokenPrompt((1, 2)), TokenPrompt((3,)))),
    ],
)
async def test_each_form_of_prompt(
    client: AsyncOpenAI,
    gateway: ScriptedGateway,
    prompt: str | list[str] | list[int] | list[list[int]],
    prompts: tuple[Prompt, ...],
) -> None:
    answer = await client.completions.create(model="m", prompt=prompt)
    assert gateway.order.prompts == prompts
    assert len(answer.choices) == len(prompts)


async def test_choices_are_numbered_by_prompt_then_by_answer(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model="m", prompt=["a", "b"], n=2, best_of=2)
    assert [(c.index, c.text) for c in answer.choices] == [
        (0, "Hello 0"),
        (1, "Hello 1"),
        (2, "Hello 2"),
        (3, "Hello 3"),
    ]


def spoken(index: int, *logprobs: float) -> Chunk:
    """A whole answer, which begins with what is echoed of its prompt if there is more than was generated."""
    tokens = tuple(TokenLogprob(1, "x", b"x", logprob) for logprob in logprobs)
    return Chunk(index, f"answer {index}", logprobs=tokens, generated=1, finish=finish(1))


async def test_the_likeliest_answers_per_token_are_told_best_first(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(
        *(spoken(0, -3.0), spoken(1, -1.0, -1.0, -1.0, -1.0), spoken(2, -2.0, -1.5)),
        *(spoken(3), spoken(4, -9.0), spoken(5, -0.5)),
    )
    answer = await client.completions.create(model="m", prompt=["a", "b"], n=2, best_of=3)
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, "answer 1"),
        (1, "answer 2"),
        (2, "answer 5"),
        (3, "answer 4"),
    ]
    assert all(choice.logprobs is None for choice in answer.choices)
    assert (gateway.order.n, gateway.order.logprobs) == (3, 0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2 * 6, "all that were made are paid for"


async def test_an_echoed_prompt_says_nothing_of_how_likely_its_answers_are(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    prompt = (-8.0,) * PROMPT_TOKENS
    gateway.script = answering(spoken(0, *prompt, -2.0, -2.0), spoken(1, *prompt, -1.0))
    answer = await client.completions.create(model="m", prompt="a", best_of=2, echo=True, logprobs=0)
    (choice,) = answer.choices
    assert (choice.index, choice.text) == (0, "answer 1")
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs == [*prompt, -1.0]


async def test_a_stream_has_its_finish_with_the_last_text(lenient: AsyncOpenAI) -> None:
    chunks = await collect(lenient)
    assert [chunk.choices[0].text for chunk in chunks] == ["Hello", " 0"]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, "stop"]
    assert len({(c.id, c.created, c.model, c.system_fingerprint) for c in chunks}) == 1


async def test_include_usage_adds_one_chunk_without_choices(lenient: AsyncOpenAI) -> None:
    *rest, last = await collect(lenient, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 2
    assert all(chunk.usage is None for chunk in rest)


async def test_continuous_usage_counts_in_every_chunk(lenient: AsyncOpenAI) -> None:
    chunks = await collect(lenient, stream_options={"continuous_usage_stats": True})
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [1, 2]


TOKENS = (
    TokenLogprob(1, "On", b"On", -0.1, (TopLogprob(1, "On", b"On", -0.1), TopLogprob(2, "A", b"A", -2.0))),
    TokenLogprob(3, "ce", b"ce", -4.0, (TopLogprob(4, "ly", b"ly", -0.2),)),
)


async def test_logprobs_are_lists_with_offsets_into_the_text(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(Chunk(0, "Once", logprobs=TOKENS, generated=2, finish=finish(2)))
    answer = await client.completions.create(model="m", prompt="x", logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["On", "ce"]
    assert logprobs.token_logprobs == [-0.1, -4.0]
    assert logprobs.top_logprobs == [{"On": -0.1, "A": -2.0}, {"ly": -0.2, "ce": -4.0}]
    assert logprobs.text_offset == [0, 2]
    assert gateway.order.logprobs == 1


async def test_streamed_offsets_go_on_from_chunk_to_chunk(
    lenient: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    gateway.script = answering(
        Chunk(0, "On", logprobs=TOKENS[:1], generated=1),
        Chunk(0, "ce", logprobs=TOKENS[1:], generated=2, finish=finish(2)),
    )
    chunks = await collect(lenient, logprobs=0)
    found = [chunk.choices[0].logprobs for chunk in chunks]
    assert [logprobs.text_offset for logprobs in found if logprobs] == [[0], [2]]
    assert all(logprobs.top_logprobs is None for logprobs in found if logprobs)


async def test_an_echoed_prompt_is_scored_but_for_its_first_token(
    lenient: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    first = TokenLogprob(9, "The", b"The", None)
    gateway.script = answering(
        Chunk(0, "TheOnce", logprobs=(first, *TOKENS), finish=finish(0, FinishReason.LENGTH))
    )
    answer = await lenient.completions.create(model="m", prompt="x", echo=True, logprobs=1, max_tokens=0)
    assert gateway.order.stopping.max_tokens == 0
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["The", "On", "ce"]
    assert logprobs.token_logprobs == [None, -0.1, -4.0]
    assert logprobs.top_logprobs == [None, {"On": -0.1, "A": -2.0}, {"ly": -0.2, "ce": -4.0}]
    assert logprobs.text_offset == [0, 3, 5]


async def test_a_suffix_makes_a_gap_to_be_filled(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    await client.completions.create(model="m", prompt=["def f(", "def g("], suffix="return x")
    assert gateway.order.prompts == (InfillPrompt("def f(", "return x"), InfillPrompt("def g(", "return x"))


async def test_an_echo_is_asked_of_the_engine(client: AsyncOpenAI, gateway: ScriptedGateway) -> None:
    gateway.script = answering(
        Chunk(0, "Once"), Chunk(0, " upon", generated=1, finish=finish(1, FinishReason.LENGTH))
    )
    answer = await client.completions.create(model="m", prompt="Once", echo=True, max_tokens=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Once upon", "length")
    assert gateway.order.echo


async def test_what_is_not_served_is_refused_and_said_so(
    client: AsyncOpenAI, gateway: ScriptedGateway
) -> None:
    tags: dict[str, object] = {"structured_outputs": {"structural_tag": {}}}
    with pytest.raises(BadRequestError) as caught:
        await client.completions.create(model="m", prompt="a", extra_body=tags)
    assert (caught.value.param, caught.value.code) == ("structured_outputs", "unsupported_value")
    assert "not served" in str(caught.value)
    assert gateway.generations == []
