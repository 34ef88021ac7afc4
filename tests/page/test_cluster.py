"""The cluster's facts as the page shows them, and the buttons that stop requests."""

from msgspec.structs import replace
from playwright.async_api import Page, expect

from bus.messages.base import ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.facts import Pressure, RequestState
from tests.page.clusters import GIB, instance, model, node, request
from tests.page.conftest import ONE_LOOP
from tests.page.standin import StandIn

pytestmark = ONE_LOOP


async def test_the_machine_and_its_memory_are_shown(status: Page) -> None:
    card = status.locator(".node")
    for words in (
        "study",
        "this machine",
        "version 0.1.0",
        "cpu",
        "AMD Ryzen 7",
        "libopenblas0",
        "23 %",
        "2 h 05 min",
    ):
        await expect(card).to_contain_text(words)
    await expect(card).to_contain_text("14.0 GiB free of 24.0 GiB")
    await expect(card).to_contain_text("Models hold 2.00 GiB")
    await expect(card).to_contain_text("Kept for reuse 512 MiB")
    await expect(card.locator("[data-slot=pressure]")).to_have_text("pressure normal")


async def test_pressure_changes_and_says_why_it_is_not_known(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(node(pressure=Pressure.CRITICAL, available_bytes=GIB))
    await expect(status.locator("[data-slot=pressure]")).to_have_text("pressure critical")
    stand_in.publish(node(pressure=Pressure.UNKNOWN, reason="This kernel has no /proc/pressure."))
    await expect(status.locator("[data-slot=pressure]")).to_have_text("pressure unknown")
    await expect(status.locator(".node")).to_contain_text("This kernel has no /proc/pressure.")


async def test_an_instance_goes_through_its_phases(status: Page, stand_in: StandIn) -> None:
    card = status.locator(".instance")
    stand_in.publish(instance(phase=Phase.LOADING, reason="reading weights", progress=0.4))
    await expect(card.locator("[data-slot=phase]")).to_have_text("loading")
    await expect(card).to_contain_text("reading weights")
    await expect(card).to_contain_text("1 min 15 s")
    await expect(card.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    await expect(status.locator("#announcer")).to_have_text("guide is loading.")
    stand_in.publish(instance(phase=Phase.WARMING, reason="first step"))
    await expect(card.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", "40")
    stand_in.publish(instance())
    await expect(card.locator("[data-slot=activity]")).to_have_text("idle")
    stand_in.publish(instance(running=3, waiting=2, tokens_per_s=87.65))
    await expect(card.locator("[data-slot=activity]")).to_have_text("busy")
    await expect(card.locator("[data-slot=rate]")).to_have_text("87.7")
    await expect(card.locator("[data-slot=running]")).to_have_text("3")
    await expect(card.locator("[data-slot=kv]")).to_have_text("34.3 MiB")
    await expect(status.locator("#summary")).to_have_text("1 machine · 1 model ready · 0 requests")


async def test_a_failed_instance_says_why_to_everybody(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(instance(phase=Phase.FAILED, reason="weights are missing: download the model again"))
    card = status.locator(".instance[data-phase=failed]")
    await expect(card).to_contain_text("weights are missing: download the model again")
    await expect(status.locator("#announcer")).to_have_text(
        "guide is failed: weights are missing: download the model again."
    )


async def test_requests_come_and_go(status: Page, stand_in: StandIn) -> None:
    await expect(status.locator("#requests-empty")).to_be_visible()
    first = request(state=RequestState.PREFILL, reason="", prefilled_tokens=64)
    stand_in.publish(first)
    row = status.locator(".request")
    await expect(row.locator("[data-slot=prompt]")).to_have_text("64 of 120")
    await expect(row.locator("[data-slot=generated]")).to_have_text("45")
    await expect(row.locator("[data-slot=rate]")).to_have_text("31.2")
    await expect(row).to_contain_text("chatcmpl-1")
    stand_in.withdraw(first)
    await expect(row).to_have_count(0)
    await expect(status.locator("#requests-empty")).to_be_visible()


async def test_who_waits_sees_its_place_and_who_is_computed_how_long_it_takes(
    status: Page, stand_in: StandIn
) -> None:
    waiting = request(state=RequestState.WAITING, reason="waiting for memory", prefilled_tokens=0)
    reason = status.locator(".request [data-slot=reason]")
    stand_in.publish(replace(waiting, place=3))
    await expect(reason).to_have_text("waiting for memory, 3 before it")
    stand_in.publish(replace(waiting, place=0))
    await expect(reason).to_have_text("waiting for memory, it is the next")
    prefill = request(state=RequestState.PREFILL, reason="computing the prompt", prefilled_tokens=64)
    stand_in.publish(replace(prefill, cached_tokens=48, eta_s=11.2))
    await expect(reason).to_have_text("computing the prompt, 48 tokens kept from before, about 12 s to go")


async def test_an_instance_shows_what_it_keeps_and_what_that_saves(status: Page, stand_in: StandIn) -> None:
    card = status.locator(".instance")
    await expect(card.locator("[data-slot=kv-meter]")).to_be_hidden()
    await expect(card.locator("[data-slot=caches]")).to_be_hidden()
    keeps = replace(
        instance(running=3),
        kv_bytes=3 * GIB,
        kv_limit_bytes=4 * GIB,
        prefix_bytes=GIB,
        prompt_tokens=2000,
        cached_tokens=1260,
        kv_bits=8,
    )
    stand_in.publish(keeps)
    await expect(card.locator("[data-slot=kv-name]")).to_have_text("KV cache, of 4.00 GiB")
    await expect(card.get_by_role("img", name="KV cache: 75 % in use")).to_be_visible()
    for words in ("1.00 GiB kept", "63 % of 2,000 prompt tokens", "KV cache in 8 bits"):
        await expect(card.locator("[data-slot=caches]")).to_contain_text(words)


async def test_each_request_has_a_stop_button_of_its_own(status: Page, stand_in: StandIn) -> None:
    early, late = request("chatcmpl-1", started_at=1.0), request("chatcmpl-2", started_at=2.0)
    stand_in.publish(late, early)
    await status.get_by_role("button", name="Stop request chatcmpl-2").click()
    assert await stand_in.cancelled.get() == "chatcmpl-2"
    await expect(status.get_by_role("button", name="Stop request chatcmpl-2")).to_have_text("Stopping")
    stand_in.withdraw(late)
    await expect(status.locator(".request")).to_have_count(1)
    await expect(status.get_by_role("button", name="Stop request chatcmpl-1")).to_have_text("Stop")


async def test_a_stop_that_fails_says_so_and_can_be_pressed_again(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(request())
    stand_in.cancel_status = 500
    await status.get_by_role("button", name="Stop request").click()
    await expect(status.locator(".request .problem")).to_contain_text("HTTP status 500")
    stand_in.cancel_status = 200
    await status.get_by_role("button", name="Stop request").click()
    await expect(status.locator(".request .problem")).to_be_hidden()
    assert stand_in.cancelled.qsize() == 2


async def test_a_stop_that_wants_a_key_asks_for_one(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(request())
    stand_in.cancel_status = 401
    await status.get_by_role("button", name="Stop request").click()
    await expect(status.locator(".request .problem")).to_contain_text("Not stopped")
    await expect(status.get_by_label("API key")).to_be_focused()


async def test_a_focused_button_keeps_the_focus_while_figures_change(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(request("chatcmpl-2", started_at=2.0))
    button = status.get_by_role("button", name="Stop request chatcmpl-2")
    await button.focus()
    earlier = request("chatcmpl-1", started_at=1.0)
    stand_in.publish(earlier, request("chatcmpl-2", started_at=2.0, generated_tokens=99))
    await expect(status.locator(".request").nth(1)).to_contain_text("99")
    await expect(button).to_be_focused()
    stand_in.withdraw(earlier)
    await expect(status.locator(".request")).to_have_count(1)
    await expect(button).to_be_focused()
    stand_in.withdraw(request("chatcmpl-2"))
    await expect(status.locator("#requests-title")).to_be_focused()


async def test_a_button_can_be_pressed_by_key(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(request())
    await status.get_by_role("button", name="Stop request").focus()
    await status.keyboard.press("Enter")
    assert await stand_in.cancelled.get() == "chatcmpl-1"


async def test_models_on_disk_show_what_is_wrong_with_them(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(model(id=ModelId("broken"), problem="its config.json can't be read: download it again"))
    rows = status.locator(".model")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("its config.json can't be read: download it again")
    for words in ("guide", "llama", "built in", "2,048", "6.96 MiB"):
        await expect(rows.nth(1)).to_contain_text(words)


async def test_several_machines_have_a_card_each_with_this_one_first(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(node(id=NodeId("n0"), name="attic"), node(id=NodeId("n2"), name="cellar"))
    await expect(status.locator(".node h3")).to_have_text(["study", "attic", "cellar"])
    await expect(status.get_by_text("this machine")).to_have_count(3)
    await expect(status.locator(".node [data-slot=here]:visible")).to_have_count(1)


async def test_a_lost_connection_is_told_and_made_again(status: Page, stand_in: StandIn) -> None:
    banner = status.locator("#banner")
    await expect(banner).to_be_hidden()
    stand_in.refusing = True
    stand_in.drop()
    await expect(banner).to_contain_text("lost, retrying")
    del stand_in.facts["instance/i1/1"]
    stand_in.refusing = False
    await expect(banner).to_be_hidden()
    await expect(status.locator(".instance")).to_have_count(0)
    await expect(status.locator("#instances-empty")).to_be_visible()


async def test_facts_of_an_unknown_kind_are_passed_over(status: Page, stand_in: StandIn) -> None:
    stand_in.send_change("link/a/b", "link", {"latency_s": 0.001})
    stand_in.publish(instance(running=1))
    await expect(status.locator("[data-slot=activity]")).to_have_text("busy")


async def test_nothing_is_wider_than_a_phone(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(request(), model(id=ModelId("mlx-community/" + "Very-Long-Model-Name-" * 4)))
    await expect(status.locator(".request")).to_have_count(1)
    for width in (320, 390, 768, 1024, 2560):
        await status.set_viewport_size({"width": width, "height": 800})
        assert await status.evaluate("document.documentElement.scrollWidth") <= width
