"""The index of kept prefixes finds the longest one, and its orders make stores that hold what it says."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.prefixes.index import TRAILS, Hit, Index
from engine.steps.store_orders import Fetch, Forget, Keep, Mark, Save, Split, StoreOrder

TOKEN_BYTES = 3
STATE_BYTES = 10
OFTEN = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)

Tokens = tuple[int, ...]


@dataclass
class Store:
    """What a rank holds, in tokens instead of arrays."""

    sequences: dict[int, Tokens] = field(default_factory=dict)
    nodes: dict[int, Tokens] = field(default_factory=dict)
    states: dict[int, Tokens] = field(default_factory=dict)
    """By node: all the tokens before it."""

    def apply(self, orders: tuple[StoreOrder, ...]) -> None:
        for order in orders:
            self._apply(order)

    def _apply(self, order: StoreOrder) -> None:
        match order:
            case Keep(node, uid, begin, end, state):
                assert node not in self.nodes
                self.nodes[node] = self.sequences[uid][begin:end]
                if state:
                    self.states[node] = self.sequences[uid]
            case Mark(node, uid):
                assert node in self.nodes
                assert node not in self.states
                self.states[node] = self.sequences[uid]
            case Split(node, at, rest):
                whole = self.nodes.pop(node)
                self.nodes |= {node: whole[:at], rest: whole[at:]}
                if node in self.states:
                    self.states[rest] = self.states.pop(node)
                assert 0 < at < len(whole)
            case Forget(nodes, states_only):
                for node in nodes:
                    if not states_only:
                        del self.nodes[node]
                    # A node whose state went before may follow it later.
                    gone = self.states.pop(node, None)
                    assert gone is not None or not states_only
            case Fetch() | Save():
                raise AssertionError("those are the scheduler's own")

    def read(self, hit: Hit) -> Tokens:
        return tuple(token for node, count in hit.path for token in self.nodes[node][:count])


class KeptPrefixes(RuleBasedStateMachine):
    """An index and a store against a list of all that was kept. Nothing of it is forgotten there, so that a
    hit after a shrink is only known to be right, not to be the longest."""

    sliceable = True

    def __init__(self) -> None:
        super().__init__()
        self.index = Index(self.sliceable, TOKEN_BYTES, 0 if self.sliceable else STATE_BYTES)
        self.store = Store()
        self.kept: set[Tokens] = set()
        self.whole = True
        self.uid = 0

    def longest(self, tokens: Tokens, at_most: int) -> int:
        if self.sliceable:
            return max((min(common(tokens, kept), at_most) for kept in self.kept), default=0)
        return max(
            (len(kept) for kept in self.kept if kept == tokens[: len(kept)] and len(kept) <= at_most),
            default=0,
        )

    @rule(tokens=st.lists(st.integers(0, 2), max_size=12).map(tuple))
    def keep(self, tokens: Tokens) -> None:
        self.uid += 1
        self.store.sequences[self.uid] = tokens
        before = self.index.nbytes
        orders = self.index.keep(tokens, self.uid, stands_at_end=True)
        self.store.apply(orders)
        if tokens:
            self.kept.add(tokens)
            assert self.index.match(tokens, len(tokens)).length == len(tokens)
        if not any(isinstance(order, Keep | Mark) for order in orders):
            assert self.index.nbytes == before
        assert self.index.keep(tokens, self.uid, stands_at_end=True) == ()

    @rule(tokens=st.lists(st.integers(0, 2), max_size=14).map(tuple), less=st.integers(0, 3))
    def match(self, tokens: Tokens, less: int) -> None:
        at_most = max(0, len(tokens) - less)
        peeked = self.index.peek(tokens, at_most)
        hit = self.index.match(tokens, at_most)
        assert hit.length == peeked == sum(count for _, count in hit.path)
        assert self.store.read(hit) == tokens[: hit.length]
        assert hit.length <= at_most
        if self.whole:
            assert hit.length == self.longest(tokens, at_most)
        if hit.path and not self.sliceable:
            assert self.store.states[hit.path[-1][0]] == tokens[: hit.length]

    @rule(share=st.floats(0, 1))
    def shrink(self, share: float) -> None:
        before, target = self.index.nbytes, int(self.index.nbytes * share)
        orders = self.index.shrink(target)
        self.store.apply(orders)
        self.whole = self.whole and not orders
        assert self.index.nbytes <= target
        assert bool(orders) == (before > target)

    @rule()
    @precondition(lambda self: len(self.index) > 0)
    def restart(self) -> None:
        record = self.index.record()
        index = Index.from_record(record, self.sliceable, TOKEN_BYTES, 0 if self.sliceable else STATE_BYTES)
        assert index.record() == record
        self.index = index

    @invariant()
    def the_store_holds_what_the_index_counts(self) -> None:
        tokens = sum(len(run) for run in self.store.nodes.values())
        assert (len(self.index), self.index.tokens) == (len(self.store.nodes), tokens)
        states = 0 if self.sliceable else STATE_BYTES * len(self.store.states)
        assert self.index.nbytes == TOKEN_BYTES * tokens + states


class KeptPrefixesWithStates(KeptPrefixes):
    sliceable = False


TestWhereAllCanBeCut = KeptPrefixes.TestCase
TestWhereAllCanBeCut.settings = OFTEN
TestWhereStatesAreNeeded = KeptPrefixesWithStates.TestCase
TestWhereStatesAreNeeded.settings = OFTEN


def common(one: Tokens, other: Tokens) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def an_index(sliceable: bool = True) -> Index:
    return Index(sliceable, TOKEN_BYTES, 0 if sliceable else STATE_BYTES)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 40))
def test_a_prefix_is_found_up_to_where_the_prompt_parts_from_it(tokens: list[int], at: int) -> None:
    index = an_index()
    index.keep(tokens, 1, stands_at_end=False)
    prompt = [*tokens[:at], 9, *tokens[at:]]
    assert index.match(prompt, len(prompt) - 1).length == min(at, len(tokens))


def test_nothing_is_kept_of_states_that_are_not_where_the_tokens_end() -> None:
    index = an_index(sliceable=False)
    assert index.keep([1, 2, 3], 1, stands_at_end=False) == ()
    assert index.keep([1, 2, 3], 1, stands_at_end=True) == (Keep(0, 1, 0, 3, state=True),)


def test_a_state_within_a_run_of_tokens_cuts_it() -> None:
    index = an_index(sliceable=False)
    index.keep([1, 2, 3, 4], 1, stands_at_end=True)
    assert index.match([1, 2, 3, 5], 3) == Hit()
    assert index.keep([1, 2], 2, stands_at_end=True) == (Split(0, 2, 1), Mark(0, 2))
    assert index.match([1, 2, 3, 5], 3) == Hit(2, ((0, 2),))


def test_what_conversations_share_outlives_them() -> None:
    index = an_index()
    system = list(range(20))
    for question in range(3):
        index.keep([*system, 100 + question], question, stands_at_end=False)
    index.shrink(len(system) * TOKEN_BYTES)
    assert index.match([*system, 100], 21).length == len(system)


def test_a_state_where_conversations_part_outlives_states_within_one() -> None:
    index = an_index(sliceable=False)
    system, talk = [1, 2], [1, 2, 3, 4]
    for tokens in (system, talk, [*talk, 5], [*talk, 5, 6], [*system, 9]):
        index.keep(tokens, 1, stands_at_end=True)
    index.match([*talk, 5, 6, 7], 6)
    assert index.shrink(index.nbytes - 1) == (Forget((1,), states_only=True),)
    assert index.peek([*talk, 9], 4) == len(system)


def test_who_is_used_stays_and_who_is_only_looked_at_does_not() -> None:
    index = an_index()
    for token in range(4):
        index.keep([token] * 5, token, stands_at_end=False)
    index.match([0] * 5, 4)
    index.peek([1] * 5, 5)
    index.shrink(2 * 5 * TOKEN_BYTES)
    assert [index.peek([token] * 5, 5) for token in range(4)] == [5, 0, 0, 5]


def test_everything_can_go() -> None:
    for sliceable in (True, False):
        index = an_index(sliceable)
        index.keep([1, 2, 3], 1, stands_at_end=True)
        index.keep([1, 2, 4], 2, stands_at_end=True)
        index.shrink(-1)
        assert (len(index), index.nbytes) == (0, 0)
        assert index.match([1, 2, 3], 2) == Hit()


def test_trails_stay_while_one_of_their_conversations_does_and_the_latest_are_last() -> None:
    index = an_index()
    index.keep([1, 2, 3], 1, stands_at_end=False, trail=(10, 11))
    index.keep([1, 2, 4], 2, stands_at_end=False, trail=(10, 12))
    assert list(index.trails) == [11, 12, 10]
    index.match([1, 2, 3, 3], 3)
    assert list(index.trails) == [12, 11, 10]
    index.shrink(index.nbytes - 1)
    assert list(index.trails) == [11, 10]
    assert Index.from_record(index.record(), True, TOKEN_BYTES, 0).trails == (11, 10)


def test_no_more_trails_are_told_than_fit_into_a_beat() -> None:
    index = an_index()
    for number in range(TRAILS + 50):
        index.keep([number], number, stands_at_end=False, trail=(number,))
    assert list(index.trails) == list(range(50, TRAILS + 50))


@pytest.mark.parametrize("sliceable", [True, False])
def test_thousands_of_conversations_go_one_after_another(sliceable: bool) -> None:
    draw = random.Random(1)
    index, store = an_index(sliceable), Store()
    for uid in range(6_000):
        store.sequences[uid] = tuple(draw.randrange(4) for _ in range(draw.randrange(8, 40)))
        store.apply(index.keep(store.sequences[uid], uid, stands_at_end=True))
    assert len(index) > (9_000 if sliceable else 6_000)
    while len(index):
        store.apply(index.shrink(index.nbytes - 1))
    assert store == Store(store.sequences)


def test_a_record_that_is_none_is_refused() -> None:
    record = an_index().record()
    for broken, sliceable in ((b"", True), (record[:-1], True), (b"\x00", True), (record, False)):
        with pytest.raises(ValueError, match="record"):
            Index.from_record(broken, sliceable, TOKEN_BYTES, 0)
