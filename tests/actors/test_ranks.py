"""The ranks of one epoch: they connect when all of them listen, and the loss of one is the loss of all."""

from actors.running.ranks import Ranks
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.engine import Connect, Phase
from bus.messages.facts import RankFact
from bus.messages.placement import Instance, Stage

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
INSTANCE = Instance(
    id=InstanceId("i"),
    epoch=3,
    model=ModelId("m"),
    stages=(Stage(0, 2, (A,)), Stage(2, 4, (B,)), Stage(4, 6, (C,))),
    context=512,
)


def fact(
    rank: int,
    *,
    hop: str = "",
    phase: Phase = Phase.CONNECTING,
    reason: str = "starting",
    epoch: int = 3,
    budget: int = 0,
    kept: str = "",
) -> RankFact:
    node = INSTANCE.nodes[rank]
    return RankFact(INSTANCE.id, epoch, rank, node, phase, reason, hop=hop, kv_budget_bytes=budget, kept=kept)


def ranks(own: int = 0) -> Ranks:
    return Ranks(INSTANCE, own, name_of=lambda node: f"machine {node}")


def test_they_connect_once_all_of_them_listen() -> None:
    mine = ranks()
    for rank in range(3):
        assert mine.connect() is None
        mine.tell(rank, fact(rank, hop=f"tcp://{rank}"))
    assert mine.connect() == Connect(hops=("tcp://0", "tcp://1", "tcp://2"), rings=())
    assert mine.missing == ""


def connected(budgets: tuple[int, int, int], kept: tuple[str, str, str]) -> Connect:
    mine = ranks()
    for rank in range(3):
        mine.tell(rank, fact(rank, hop=f"tcp://{rank}", budget=budgets[rank], kept=kept[rank]))
    connect = mine.connect()
    assert connect is not None
    return connect


def test_rank_0_is_told_what_each_may_hold_if_that_is_known_of_all() -> None:
    nothing_kept = ("", "", "")
    assert connected((300, 200, 100), nothing_kept).kv_bytes == (300, 200, 100)
    assert connected((300, 0, 100), nothing_kept).kv_bytes == ()


def test_prefixes_on_disk_are_taken_up_if_all_have_the_same() -> None:
    unknown = (0, 0, 0)
    assert connected(unknown, ("x", "x", "x")).kept == "x"
    assert connected(unknown, ("x", "x", "")).kept == ""
    assert connected(unknown, ("x", "y", "x")).kept == ""


def test_rank_0_holds_no_more_than_what_the_tightest_rank_has_room_for() -> None:
    mine = ranks()
    assert mine.fitting(1000) == 1000, "of the others nothing is known"
    mine.tell(1, fact(1, budget=400))
    mine.tell(2, fact(2, budget=700))
    assert mine.fitting(1000) == 400
    assert mine.fitting(300) == 300


def test_whom_they_wait_for_is_named() -> None:
    mine = ranks()
    mine.tell(1, fact(1, reason="starting the engine process"))
    assert mine.missing == "waiting for rank 1 on machine b (starting the engine process), and for 1 more"


def test_a_rank_that_was_there_and_is_gone_breaks_the_epoch() -> None:
    mine = ranks()
    mine.tell(2, None)
    assert mine.broken is None, "it was never heard of: it may still come"
    mine.tell(2, fact(2))
    mine.tell(2, None)
    assert mine.broken == "rank 2 on machine c is gone"


def test_a_rank_that_failed_breaks_the_epoch_with_its_reason() -> None:
    mine = ranks()
    mine.tell(1, fact(1, phase=Phase.FAILED, reason="the engine process was killed"))
    assert mine.broken == "rank 1 on machine b: the engine process was killed"


def test_its_own_failure_is_not_news_to_it() -> None:
    mine = ranks(own=1)
    mine.tell(1, fact(1, phase=Phase.FAILED))
    assert mine.broken is None


def test_what_belongs_to_another_epoch_is_not_about_this_one() -> None:
    mine = ranks()
    mine.tell(1, fact(1, phase=Phase.FAILED, epoch=2))
    assert mine.broken is None
    assert "it has not been heard of yet" in mine.missing


def test_what_the_other_half_of_a_cluster_placed_as_the_same_epoch_is_not_about_this_one() -> None:
    mine = ranks()
    theirs = RankFact(INSTANCE.id, 3, 1, C, Phase.FAILED, "it broke there", hop="tcp://there")
    mine.tell(1, theirs)
    assert mine.broken is None
    assert "it has not been heard of yet" in mine.missing
