"""The built-in model: small, quick to load, and right about the project in words new to it."""

import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest
from hypothesis import given
from hypothesis import strategies as some

from scripts.guide import words
from scripts.guide.chatter import repeating
from scripts.guide.conversation import (
    Call,
    Conversation,
    Tool,
    Turn,
    is_right,
    system,
    tool_call,
    tool_result,
    user,
)
from scripts.guide.encoding import ChatTokenizer, Encoder
from scripts.guide.measure import ask, report, share
from scripts.guide.network import build, named_weights
from scripts.guide.start import Shape, start
from scripts.guide.tokenizer import TEMPLATE
from scripts.guide.topics import FRAMES, Topic, read_topics
from scripts.guide.wording import ALTERNATIVES, choose, vary
from scripts.measure_guide import GUIDE, held_out, load_answerer

WEATHER: Tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}, "unit": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(GUIDE)


@pytest.fixture(scope="module")
def tokenizer(encoder: Encoder) -> ChatTokenizer:
    return encoder.tokenizer


def say(conversation: Conversation, encoder: Encoder) -> str:
    return ask([conversation], encoder, load_answerer(GUIDE))[0].said


# -- the model -----------------------------------------------------------------------------------


def test_its_folder_is_small_and_whole() -> None:
    files = {path.name: path.stat().st_size for path in GUIDE.iterdir() if path.is_file()}

    assert sum(files.values()) < 8_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files.keys()


def test_it_is_a_llama_in_float32_that_two_ranks_could_share() -> None:
    model, _ = mlx_lm.load(str(GUIDE))
    config = json.loads((GUIDE / "config.json").read_text())

    assert {weight.dtype for weight in named_weights(model).values()} == {mx.float32}
    assert (config["model_type"], config["max_position_embeddings"]) == ("llama", 8192)
    assert config["num_key_value_heads"] % 2 == config["num_hidden_layers"] % 2 == 0


def test_held_out_questions_are_answered_with_the_facts(encoder: Encoder) -> None:
    """`scripts/measure_guide.py` asks all of them: nine of ten are right. For a tenth, one standard error
    of that is 0.045."""
    questions = [each for each in held_out() if each.kind.startswith("topic")][::10]
    answered = ask(questions, encoder, load_answerer(GUIDE))

    assert share(answered) >= 0.81, "\n".join(report(answered))


def test_it_says_how_it_is_started_with_and_without_a_system_prompt(encoder: Encoder) -> None:
    for before in ((), (system("You are a helpful assistant."),)):
        turns = (*before, user("How do I start it?"), {"role": "assistant", "content": ""})
        assert "scripts/run" in say(Conversation("", turns), encoder)


def test_it_calls_a_tool_that_mlx_lm_understands(encoder: Encoder) -> None:
    call = Call("get_weather", {"city": "Paris"})
    asked = Conversation("", (user("What is the weather in Paris?"), tool_call(call)), (WEATHER,), call=call)
    _, wrapper = mlx_lm.load(str(GUIDE))
    said = say(asked, encoder)

    assert is_right(asked, said)
    assert wrapper.has_tool_calling
    inside = said.removeprefix(wrapper.tool_call_start).removesuffix(wrapper.tool_call_end)
    assert wrapper.tool_parser(inside, None) == {"name": "get_weather", "arguments": {"city": "Paris"}}


def test_it_tells_what_the_tool_returned(encoder: Encoder) -> None:
    call = Call("get_weather", {"city": "Paris"})
    turns: tuple[Turn, ...] = (
        user("What is the weather in Paris?"),
        tool_call(call),
        tool_result("sunny"),
        {"role": "assistant", "content": ""},
    )

    assert "sunny" in say(Conversation("", turns, (WEATHER,)), encoder)


# -- its tokenizer and template ------------------------------------------------------------------


@given(some.text())
def test_any_text_survives_the_tokenizer(tokenizer: ChatTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_name_has_the_same_pieces_in_a_question_and_in_a_call(tokenizer: ChatTokenizer) -> None:
    name = tokenizer.encode("Winterthur", add_special_tokens=False)
    for text in ("weather in Winterthur", '{"city": "Winterthur'):
        assert tokenizer.encode(text, add_special_tokens=False)[-len(name) :] == name


def render(tokenizer: ChatTokenizer, *turns: Turn, tools: list[Tool] | None = None) -> str:
    return tokenizer.apply_chat_template(list(turns), tools=tools, add_generation_prompt=True, tokenize=False)


def test_the_template_shows_a_tool_as_the_call_that_it_wants(tokenizer: ChatTokenizer) -> None:
    rendered = render(tokenizer, user("hi"), tools=[WEATHER])

    assert '{"name": "get_weather", "arguments": {"city": <string>}} Get the weather<|end|>' in rendered


def test_arguments_may_come_as_an_object_or_as_text(tokenizer: ChatTokenizer) -> None:
    as_object = tool_call(Call("add", {"a": 1, "b": 2}))
    function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    as_text = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": function}],
    }

    assert render(tokenizer, as_object) == render(tokenizer, as_text)


def test_content_may_come_in_parts(tokenizer: ChatTokenizer) -> None:
    parts = [{"type": "text", "text": "How do I "}, {"type": "text", "text": "stop?"}]

    assert render(tokenizer, {"role": "user", "content": parts}) == render(tokenizer, user("How do I stop?"))


def test_a_tool_without_parameters_is_rendered_too(tokenizer: ChatTokenizer) -> None:
    bare: Tool = {"type": "function", "function": {"name": "ping"}}

    assert '{"name": "ping", "arguments": {}}' in render(tokenizer, user("hi"), tools=[bare])


def test_the_template_is_the_one_that_it_was_trained_with() -> None:
    assert (GUIDE / TEMPLATE.name).read_text() == TEMPLATE.read_text()


# -- what it learns from -------------------------------------------------------------------------


def every_wording(template: str) -> Iterator[str]:
    """All questions that a template can give."""
    parts = ALTERNATIVES.split(template)
    choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    for chosen in product(*choices):
        yield " ".join("".join(chosen).split()).lower()


@pytest.mark.parametrize("topic", read_topics(), ids=lambda topic: topic.name)
def test_no_held_out_question_is_trained_on(topic: Topic) -> None:
    framed = [frame.format(words) for frame in FRAMES for words in topic.words]
    trained = {wording for template in (*topic.ask, *framed) for wording in every_wording(template)}

    assert len(topic.held_out) >= 2
    trained |= {" ".join(question.lower().rstrip("?.!").split()) for question in topic.paraphrases}
    assert not trained & {question.lower() for question in topic.held_out}


@pytest.mark.parametrize(
    "listed", [words.PLACES, words.PEOPLE, words.THINGS], ids=["places", "people", "things"]
)
def test_no_held_out_word_is_trained_on(listed: tuple[str, ...]) -> None:
    rng = random.Random(0)
    trained = {words.one_of(listed, rng, held_out=False) for _ in range(5000)}

    assert len(trained) > len(words.part(listed, False))
    assert not trained & set(words.part(listed, True))


def test_before_any_training_it_can_repeat_most_words(encoder: Encoder) -> None:
    config = json.loads((GUIDE / "config.json").read_text())
    network = build(config)
    shape = Shape(config["hidden_size"], 4, config["num_hidden_layers"], config["rope_theta"])
    start(network, shape, encoder.tokenizer.get_vocab(), seed=0)
    rng = random.Random(0)
    told, right = 0, mx.array(0)
    for _ in range(20):
        example = encoder.example(repeating(rng))
        guesses = network(mx.array([example.tokens]))[0, :-1].argmax(axis=-1)
        told += sum(example.said)
        right += ((guesses == mx.array(example.tokens[1:])) * mx.array(example.said[1:])).sum()

    assert (right > told / 2).item()


def test_an_answer_without_its_fact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        '[[topic]]\nname = "t"\nfact = ["x"]\nsay = "nothing"\nask = ["a"]\nwords = "c"\nheld_out = ["b"]\n'
    )
    with pytest.raises(ValueError, match="lacks a fact"):
        read_topics(tmp_path)


def test_the_same_random_numbers_give_the_same_words() -> None:
    def write(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [vary(choose("how [do I|can I] [start|run] [it|this]", rng), rng) for _ in range(20)]

    assert write(3) == write(3)
    assert write(3) != write(4)
    assert len(set(write(3))) > 10


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', True),
        ('<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>', False),
        ('<tool_call>{"name": "add"', False),
        ("1", False),
    ],
)
def test_only_the_very_call_counts_as_right(said: str, right: bool) -> None:
    call = Call("add", {"a": 1})

    assert is_right(Conversation("", (user("add 1"), tool_call(call)), call=call), said) is right
