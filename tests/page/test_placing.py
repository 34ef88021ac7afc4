"""Models over several machines: which has which layers, how each is, and how they are placed and stopped."""

from playwright.async_api import Page, expect

from bus.messages.base import ModelId, NodeId
from bus.messages.engine import Phase
from bus.messages.placement import Previews, Ruled, Sharding
from tests.page.clusters import HERE, choice, coordinator, declared, instance, model, node, rank, stages
from tests.page.conftest import ONE_LOOP
from tests.page.standin import StandIn

pytestmark = ONE_LOOP

ATTIC, CELLAR = NodeId("n2"), NodeId("n3")
TWO = stages((HERE,), (ATTIC,))
ALONE = choice((HERE,), why="study alone: 631 tokens/s expected")
DIVIDED = choice((HERE,), (ATTIC,), why="2 stages: 476 tokens/s expected")
NO_RDMA = Ruled("jaccl", "study has no RDMA")


def join(stand_in: StandIn) -> None:
    """Two more machines."""
    stand_in.publish(coordinator(), node(id=ATTIC, name="attic"), node(id=CELLAR, name="cellar"))


async def look(page: Page) -> None:
    """Open the form, and ask for the choices."""
    await page.get_by_text("Place a model", exact=True).click()
    await page.get_by_role("button", name="Show choices").click()


async def test_each_machine_shows_its_speed_and_part_in_the_cluster(status: Page, stand_in: StandIn) -> None:
    join(stand_in)
    stand_in.publish(node(id=CELLAR, name="cellar", leaving=True))
    cards = status.locator(".node")
    await expect(cards).to_have_count(3)
    await expect(status.locator(".node [data-slot=coordinator]:visible")).to_have_count(1)
    await expect(cards.nth(0).locator("[data-slot=coordinator]")).to_be_visible()
    await expect(cards.nth(2).locator("[data-slot=leaving]")).to_be_visible()
    for words in ("412 GFLOP/s", "38.4 GB/s", "192.168.1.20:52416"):
        await expect(cards.nth(1)).to_contain_text(words)


async def test_a_machine_alone_coordinates_nobody(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(coordinator(), instance(running=1))
    await expect(status.locator("[data-slot=activity]")).to_have_text("busy")
    await expect(status.locator(".node [data-slot=coordinator]:visible")).to_have_count(0)


async def test_a_divided_model_shows_which_machine_has_which_layers(status: Page, stand_in: StandIn) -> None:
    join(stand_in)
    stand_in.publish(
        declared(TWO),
        instance(nodes=(HERE, ATTIC), phase=Phase.LOADING, reason="rank 1 on attic: reading weights"),
        rank(0, HERE),
        rank(1, ATTIC, Phase.LOADING, "reading weights", 0.4),
    )
    rows = status.locator(".stage")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("Layers 1\N{EN DASH}4")
    await expect(rows.nth(0).locator(".rank")).to_have_attribute("data-phase", "ready")
    await expect(rows.nth(1)).to_contain_text("attic loading 40 %")
    await expect(rows.nth(1)).to_contain_text("reading weights")
    stand_in.publish(rank(1, ATTIC, Phase.FAILED, "its engine ended with exit code -9"))
    await expect(rows.nth(1)).to_contain_text("attic failed its engine ended with exit code -9")


async def test_tensor_ranks_stand_side_by_side_in_their_stage(status: Page, stand_in: StandIn) -> None:
    join(stand_in)
    stand_in.publish(
        declared(stages((HERE, ATTIC)), sharding=Sharding.TENSOR),
        instance(nodes=(HERE, ATTIC)),
        rank(0, HERE),
    )
    await expect(status.locator(".stage")).to_have_count(1)
    ranks = status.locator(".rank")
    await expect(ranks).to_have_count(2)
    await expect(ranks.nth(0)).to_contain_text("study ready")
    await expect(ranks.nth(1)).to_contain_text("attic waiting it has not said anything yet")


async def test_what_is_made_ready_to_take_over_is_told(status: Page, stand_in: StandIn) -> None:
    join(stand_in)
    stand_in.publish(
        declared(stages((HERE,)), successor=TWO), instance(epoch=2, phase=Phase.LOADING, progress=0.5)
    )
    await expect(status.locator(".instance")).to_have_count(1)
    await expect(status.locator(".instance")).to_contain_text("Next: on study, attic (loading, 50 %)")


async def test_a_model_is_stopped_by_its_button(status: Page, stand_in: StandIn) -> None:
    stand_in.publish(declared(stages((HERE,))))
    stop = status.get_by_role("button", name="Stop model guide, instance i1")
    stand_in.no = "the cluster has no coordinator"
    await stop.click()
    await expect(status.locator(".instance .problem")).to_have_text("the cluster has no coordinator")
    stand_in.no = ""
    await stop.click()
    await expect(stop).to_have_text("Stopping")
    assert [await stand_in.withdrawn.get() for _ in range(2)] == ["i1", "i1"]
    stand_in.publish(declared(stages((HERE,)), withdrawn=True))
    stand_in.withdraw(instance())
    await expect(status.locator(".instance")).to_have_count(0)
    await expect(status.locator("#instances-title")).to_be_focused()


async def test_choices_are_shown_with_their_reasons_and_the_chosen_one_is_placed(
    status: Page, stand_in: StandIn
) -> None:
    join(stand_in)
    stand_in.previews = Previews((ALONE, DIVIDED), (NO_RDMA,))
    await look(status)
    rows = status.locator(".choice")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("study alone: 631 tokens/s expected")
    await expect(rows.nth(1)).to_contain_text("study: layers 1\N{EN DASH}4 → attic: layers 5\N{EN DASH}8")
    assert await stand_in.previewed.get() == {"model": "guide"}
    await expect(status.locator("#announcer")).to_have_text("2 ways to place guide, best first.")
    await expect(status.locator("#place-ruled")).not_to_have_attribute("open", "")
    await rows.nth(1).get_by_role("button", name="Place on").click()
    assert await stand_in.placed.get() == {
        "model": "guide",
        "sharding": "pipeline",
        "interconnect": "ring",
        "context": 2048,
        "nodes": [HERE, ATTIC],
        "layers": [4, 4],
        "stages": 2,
        "tensor": 1,
    }
    await expect(rows).to_have_count(0)
    await expect(status.locator("#announcer")).to_contain_text("guide is being placed on study")


async def test_what_the_form_fixes_is_asked_for(status: Page, stand_in: StandIn) -> None:
    join(stand_in)
    stand_in.previews = Previews((DIVIDED,))
    await look(status)
    await expect(status.locator(".choice")).to_have_count(1)
    await stand_in.previewed.get()
    await status.get_by_label("Sharding").select_option("pipeline")
    await expect(status.locator(".choice")).to_have_count(0)
    await status.get_by_role("spinbutton", name="Stages").fill("2")
    await status.get_by_label("Context, tokens").fill("512")
    await status.get_by_label("attic").check()
    await status.get_by_label("cellar").check()
    await status.get_by_role("button", name="Show choices").press("Enter")
    assert await stand_in.previewed.get() == {
        "model": "guide",
        "sharding": "pipeline",
        "stages": "2",
        "context": "512",
        "nodes": f"{ATTIC},{CELLAR}",
    }


async def test_the_cache_and_a_draft_model_are_chosen_among_the_further_settings(
    status: Page, stand_in: StandIn
) -> None:
    stand_in.publish(model(id=ModelId("tiny")))
    stand_in.previews = Previews((ALONE,))
    await status.get_by_text("Place a model", exact=True).click()
    await expect(status.get_by_label("KV cache")).to_be_hidden()
    await status.get_by_text("More settings").click()
    await status.get_by_label("KV cache").select_option("8 bits")
    await status.get_by_label("Draft model").select_option("tiny")
    await status.get_by_role("button", name="Show choices").click()
    assert await stand_in.previewed.get() == {"model": "guide", "kv_bits": "8", "draft": "tiny"}
    await status.get_by_role("button", name="Place on study").click()
    placed = await stand_in.placed.get()
    assert (placed["model"], placed["kv_bits"], placed["draft"]) == ("guide", 8, "tiny")


async def test_what_is_impossible_says_why_at_once(status: Page, stand_in: StandIn) -> None:
    stand_in.previews = Previews((), (NO_RDMA,))
    await look(status)
    await expect(status.locator("#place-problem")).to_contain_text("There is no way to place it")
    await expect(status.get_by_text("jaccl: study has no RDMA")).to_be_visible()


async def test_a_refusal_is_told_and_can_be_tried_again(status: Page, stand_in: StandIn) -> None:
    stand_in.previews = Previews((ALONE,))
    await look(status)
    place = status.get_by_role("button", name="Place on study")
    await expect(place).to_be_visible()
    stand_in.no = "8.0 of 4.0 GiB free"
    await place.click()
    await expect(status.locator("#place-problem")).to_have_text("8.0 of 4.0 GiB free")
    stand_in.no = ""
    await place.click()
    await expect(place).to_have_count(0)
    assert stand_in.placed.qsize() == 2


async def test_eight_machines_fit_on_a_phone(status: Page, stand_in: StandIn) -> None:
    others = [NodeId(f"m{number}") for number in range(7)]
    stand_in.publish(*(node(id=name, name=f"machine {name} of the upper floor") for name in others))
    grid = stages((HERE, others[0]), (others[1], others[2]), (others[3], others[4]), (others[5], others[6]))
    nodes = (HERE, *others)
    stand_in.publish(declared(grid, sharding=Sharding.HYBRID), instance(nodes=nodes))
    stand_in.publish(*(rank(number, name) for number, name in enumerate(nodes)))
    stand_in.previews = Previews((choice(*(stage.nodes for stage in grid), why="over all of them"),))
    await look(status)
    await expect(status.locator(".rank[data-phase=ready]")).to_have_count(8)
    await expect(status.locator(".choice")).to_have_count(1)
    for width in (320, 390, 768, 1024, 2560):
        await status.set_viewport_size({"width": width, "height": 800})
        assert await status.evaluate("document.documentElement.scrollWidth") <= width
