"""The chat box: what it sends, how it shows what comes, and how it ends."""

from playwright.async_api import Page, expect

from bus.messages.base import ModelId
from bus.messages.engine import Phase
from tests.page.clusters import instance, model
from tests.page.conftest import ONE_LOOP
from tests.page.standin import Answer, StandIn

pytestmark = ONE_LOOP


async def ask(page: Page, stand_in: StandIn, text: str) -> Answer:
    """Type and send; gives the server's end of the answer."""
    await page.get_by_label("Message", exact=True).fill(text)
    await page.get_by_label("Message", exact=True).press("Enter")
    return await stand_in.chats.get()


async def test_an_answer_streams_in_and_says_how_fast_it_came(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "What is a node?")
    assert answer.body["model"] == "guide"
    assert answer.body["stream"] is True
    assert answer.said == [{"role": "user", "content": "What is a node?"}]
    await expect(status.locator(".turn.user")).to_have_text("YouWhat is a node?")

    answer.delta(role="assistant", content="")
    answer.delta(content="A node is ")
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("A node is ")
    answer.delta(content="one machine.")
    answer.finish(tokens=12)
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("A node is one machine.")
    await expect(status.locator(".stats")).to_contain_text("first token after")
    await expect(status.locator(".stats")).to_contain_text("12 tokens")
    await expect(status.get_by_role("button", name="Send")).to_be_visible()


async def test_a_second_question_carries_the_first_and_its_answer(status: Page, stand_in: StandIn) -> None:
    first = await ask(status, stand_in, "Hello")
    first.delta(content="Hi there")
    first.finish()
    await expect(status.get_by_role("button", name="Send")).to_be_visible()
    second = await ask(status, stand_in, "And now?")
    assert second.said == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there"},
        {"role": "user", "content": "And now?"},
    ]


async def test_a_new_chat_forgets_the_old_one_and_ends_its_answer(status: Page, stand_in: StandIn) -> None:
    first = await ask(status, stand_in, "Hello")
    first.delta(content="Hi")
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("Hi")
    await status.get_by_role("button", name="New chat").click()
    await first.left.wait()
    await expect(status.locator(".turn")).to_have_count(0)
    second = await ask(status, stand_in, "Who are you?")
    assert second.said == [{"role": "user", "content": "Who are you?"}]


async def test_shift_enter_makes_a_new_line(status: Page, stand_in: StandIn) -> None:
    box = status.get_by_label("Message", exact=True)
    await box.press_sequentially("one")
    await box.press("Shift+Enter")
    await box.press_sequentially("two")
    await box.press("Enter")
    answer = await stand_in.chats.get()
    assert answer.said == [{"role": "user", "content": "one\ntwo"}]


async def test_stop_ends_the_request_and_keeps_what_was_said(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Tell me everything")
    answer.delta(content="First of all")
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("First of all")
    await status.locator("#chat-send").click()
    await answer.left.wait()
    await expect(status.locator(".stats")).to_contain_text("stopped")
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("First of all")
    await expect(status.get_by_role("button", name="Send")).to_be_visible()


async def test_enter_does_not_stop_an_answer(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Go on")
    box = status.get_by_label("Message", exact=True)
    await box.fill("next question")
    await box.press("Enter")
    answer.delta(content="still here")
    answer.finish()
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("still here")
    await expect(box).to_have_value("next question")


async def test_comments_say_why_there_is_nothing_yet(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Hello")
    await expect(status.locator(".pending")).to_be_visible()
    answer.comment("loading 40 %")
    await expect(status.locator(".pending")).to_have_text("loading 40 %")
    answer.delta(content="Hello!")
    await expect(status.locator(".pending")).to_be_hidden()


async def test_a_refusal_is_told_and_can_be_tried_again(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Hello")
    words = "Too many requests are waiting; try again in 3 seconds."
    answer.refuse(429, words)
    await expect(status.locator(".turn .problem")).to_have_text(words)
    await status.get_by_role("button", name="Try again").click()
    again = await stand_in.chats.get()
    assert again.said == [{"role": "user", "content": "Hello"}]
    again.delta(content="Hi")
    again.finish()
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("Hi")
    await expect(status.locator(".turn")).to_have_count(2)


async def test_an_error_in_the_stream_keeps_what_was_said(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Hello")
    answer.delta(content="Half an ans")
    answer.fail("The engine ended; it is being restarted.")
    await expect(status.locator(".turn .problem")).to_have_text("The engine ended; it is being restarted.")
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("Half an ans")


async def test_a_stream_that_breaks_off_is_not_taken_for_an_answer(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Hello")
    answer.delta(content="Half")
    answer.break_off()
    await expect(status.locator(".turn .problem")).to_contain_text("closed before the answer was finished")


async def test_markup_in_an_answer_stays_text(status: Page, stand_in: StandIn) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\"><script>1</script>"
    answer = await ask(status, stand_in, hostile)
    answer.delta(content=f"{hostile} and `code` here\n```sh\nrun\n```\n")
    answer.finish()
    await expect(status.locator(".turn.assistant .prose").last).to_contain_text(hostile)
    await expect(status.locator(".turn.user")).to_contain_text(hostile)
    await expect(status.locator(".turn img, .turn script")).to_have_count(0)
    await expect(status.locator(".turn .prose code")).to_have_text("code")
    await expect(status.locator(".turn .prose pre")).to_have_text("run")
    await expect(status).to_have_title("exo_actors")


async def test_reasoning_is_folded_away(status: Page, stand_in: StandIn) -> None:
    answer = await ask(status, stand_in, "Think")
    answer.delta(reasoning_content="Let me see.")
    answer.delta(content="Done.")
    answer.finish(reason="length")
    await expect(status.locator(".reasoning")).to_be_visible()
    await expect(status.locator(".reasoning .prose")).to_be_hidden()
    await status.get_by_text("Reasoning").click()
    await expect(status.locator(".reasoning .prose")).to_have_text("Let me see.")
    await expect(status.locator(".stats")).to_contain_text("cut at the limit of tokens")


async def test_the_chosen_model_is_asked_and_stays_chosen(status: Page, stand_in: StandIn) -> None:
    other = ModelId("mlx-community/Other")
    chooser = status.get_by_label("Model to talk to")
    stand_in.publish(model(id=other), model(id=ModelId("broken"), problem="its config.json can't be read"))
    await expect(chooser.locator("option")).to_have_text(["guide", f"{other} (loads when asked)"])
    await chooser.select_option(other)
    stand_in.publish(instance(phase=Phase.LOADING, reason="reading weights", id="i2", model=other))
    await expect(chooser.locator("option")).to_have_text(["guide", f"{other} (loading)"])
    await expect(chooser).to_have_value(other)
    answer = await ask(status, stand_in, "Hello")
    assert answer.body["model"] == other


async def test_a_node_that_wants_a_key_is_asked_again_with_one(status: Page, stand_in: StandIn) -> None:
    key = status.get_by_label("API key")
    await expect(key).to_be_hidden()
    answer = await ask(status, stand_in, "Hello")
    assert answer.authorization == ""
    answer.refuse(401, "This node wants an API key.")
    await expect(status.locator(".turn .problem")).to_have_text("This node wants an API key.")
    await expect(key).to_be_focused()
    await key.fill(" sk-1 ")
    await status.get_by_role("button", name="Try again").click()
    answer = await stand_in.chats.get()
    assert answer.authorization == "Bearer sk-1"
    answer.delta(content="Welcome.")
    answer.finish()
    await expect(status.locator(".turn.assistant .prose").last).to_have_text("Welcome.")
