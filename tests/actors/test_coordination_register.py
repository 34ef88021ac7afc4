"""Every node comes to hold the same declarations, keeps them over restarts, and forgets withdrawn ones."""

import logging
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.coordination import ledger_file
from actors.coordination.register import REMEMBERED_S, Register
from bus.messages.base import InstanceId, ModelId, NodeId
from bus.messages.facts import DeclaredFact
from bus.messages.placement import Instance, Stage, Term

NODES = st.sampled_from(["a", "b", "c"]).map(NodeId)


def declared(id: str, epoch: int, term: Term, reason: str = "", withdrawn: bool = False) -> DeclaredFact:
    stage = Stage(0, 4, (term.node or NodeId("a"),), needed_bytes=100)
    instance = Instance(InstanceId(id), epoch, ModelId("m"), (stage,), 512)
    return DeclaredFact(instance=instance, term=term, reason=reason, withdrawn=withdrawn)


FACTS: st.SearchStrategy[DeclaredFact] = st.builds(
    declared,
    id=st.sampled_from(["i", "j"]),
    epoch=st.integers(1, 3),
    term=st.builds(Term, number=st.integers(1, 3), node=NODES),
    reason=st.sampled_from(["x", "y"]),
    withdrawn=st.booleans(),
)


@given(facts=st.lists(FACTS, max_size=12), data=st.data())
def test_merging_in_any_order_and_any_number_of_times_comes_to_the_same(
    facts: list[DeclaredFact], data: st.DataObject
) -> None:
    often = data.draw(st.permutations(facts + facts[: data.draw(st.integers(0, len(facts)))]))
    one, other = Register(facts), Register(often)
    assert one.declared == other.declared
    assert one.highest == other.highest
    assert not any(one.take(fact) for fact in other.declared.values())


@given(facts=st.lists(FACTS, min_size=1, max_size=12))
def test_what_counts_never_goes_back_to_an_older_epoch_or_term(facts: list[DeclaredFact]) -> None:
    register = Register()
    last: dict[InstanceId, tuple[bool, int, Term]] = {}
    for fact in facts:
        register.take(fact)
        for id, held in register.declared.items():
            now = held.withdrawn, held.instance.epoch, held.term
            assert now >= last.get(id, now)
            last[id] = now


def test_the_higher_epoch_counts_then_the_higher_term() -> None:
    register = Register()
    assert register.take(declared("i", 2, Term(1, NodeId("a"))))
    assert not register.take(declared("i", 1, Term(9, NodeId("b"))))
    assert register.take(declared("i", 2, Term(2, NodeId("b"))))
    assert not register.take(declared("i", 2, Term(2, NodeId("b"))))
    assert register.highest == Term(9, NodeId("b")), "a term counts as seen even if its word does not"


def test_no_epoch_that_was_reached_elsewhere_brings_back_what_was_withdrawn() -> None:
    register = Register([declared("i", 2, Term(1, NodeId("a")), withdrawn=True)])
    assert not register.take(declared("i", 7, Term(9, NodeId("b"))))


def test_a_coordinators_second_word_on_an_epoch_counts_even_if_its_clock_went_back() -> None:
    register = Register()
    first = register.declare(declared("i", 1, Term(1, NodeId("a")), "waits"), at=1000.0)
    second = register.declare(declared("i", 1, Term(1, NodeId("a")), "waits for b"), at=900.0)
    assert register.declared[InstanceId("i")].reason == "waits for b"
    other = Register([second, first])
    assert other.declared == register.declared


def test_a_declaration_of_a_term_that_is_over_changes_nothing() -> None:
    register = Register([declared("i", 2, Term(5, NodeId("b")))])
    assert register.declare(declared("i", 2, Term(4, NodeId("a"))), at=1.0).term == Term(5, NodeId("b"))


def test_withdrawn_instances_are_remembered_for_a_day() -> None:
    register = Register([declared("j", 1, Term(1, NodeId("a")))])
    register.declare(declared("i", 2, Term(1, NodeId("a")), withdrawn=True), at=1000.0)
    assert register.prune(1000.0 + REMEMBERED_S) == ()
    assert not register.take(declared("i", 1, Term(1, NodeId("a")))), "an old word does not bring it back"
    assert register.prune(1001.0 + REMEMBERED_S) == (InstanceId("i"),)
    assert set(register.declared) == {InstanceId("j")}


# -- on disk ---------------------------------------------------------------------------------------


def test_a_restart_brings_back_what_was_declared_and_the_highest_term(tmp_path: Path) -> None:
    register = Register([declared("i", 3, Term(2, NodeId("a")), "placed")])
    register.see(Term(8, NodeId("b")))
    assert ledger_file.write(tmp_path / "new", register)
    again = ledger_file.read(tmp_path / "new")
    assert again.declared == register.declared
    assert again.highest == Term(8, NodeId("b"))


def test_the_file_is_its_owners_alone_and_nothing_else_is_left_beside_it(tmp_path: Path) -> None:
    ledger_file.write(tmp_path, Register())
    ledger_file.write(tmp_path, Register([declared("i", 1, Term(1, NodeId("a")))]))
    (only,) = tmp_path.iterdir()
    assert only.name == ledger_file.FILE
    assert stat.S_IMODE(only.stat().st_mode) == 0o600


def test_without_a_file_nothing_is_declared(tmp_path: Path) -> None:
    assert ledger_file.read(tmp_path).declared == {}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _mangle(path: Path) -> None:
    path.write_bytes(b"\xff\x00" * 10)


def _nest(path: Path) -> None:
    path.write_bytes(b"[" * 1_000_000)


@pytest.mark.parametrize("spoil", [_cut, _mangle, _nest])
def test_a_file_that_cant_be_read_is_set_aside_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    ledger_file.write(tmp_path, Register([declared("i", 1, Term(1, NodeId("a")))]))
    spoil(tmp_path / ledger_file.FILE)
    with caplog.at_level(logging.WARNING):
        assert ledger_file.read(tmp_path).declared == {}
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("instances.json.unreadable-")
    assert aside.name in caplog.text


def test_a_disk_that_takes_nothing_is_told_of_and_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "data"
    in_the_way.write_text("a file where the folder should be")
    assert not ledger_file.write(in_the_way, Register())
    assert "can't be written" in caplog.text
