"""Rank 0: sends out the plans of all lanes' steps, computes its own share and takes in what came of them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from engine.border import give_back_memory
from engine.gauges import Gauges
from engine.loader import LoadFailed
from engine.memory.footprint import Footprint
from engine.ranks.hop import Inlet, Interrupted, Parcel
from engine.ranks.rank import Begun, Equipment, Rank, Way
from engine.sharding.stage import Stage
from engine.steps.entry import Entry
from engine.steps.plan import Insertion, Plan, Result
from engine.steps.stepper import Chosen, Kept, Stepped
from engine.steps.store_orders import Fetch, Forget, StoreOrder


@dataclass(slots=True)
class _Wishes:
    """What the next plan of a lane says besides its step."""

    remove: list[int] = field(default_factory=list)
    aside: list[int] = field(default_factory=list)
    insert: list[Insertion] = field(default_factory=list)


@dataclass(slots=True)
class _Decoded:
    """A sequence that has its prompt behind it, as rank 0 knows it."""

    lane: int
    last: int
    """Its last token."""
    tokens: int
    """How many it has, its prompt's among them."""


class Conductor:
    """A Stepper over all ranks of an instance."""

    def __init__(
        self,
        rank: Rank,
        lanes: int,
        inlet: Inlet | None,
        results: deque[Result],
        sampling: int,
        gauges: Gauges,
    ) -> None:
        """`results`: where this rank's own go. If it is not the one that samples, they come in by `inlet`,
        which is None where there are no other ranks."""
        self.lanes = lanes
        self.depth = lanes
        self.goes_ahead = inlet is None
        self.vocabulary = 0
        self._rank = rank
        self._inlet = inlet
        self._results = results
        self._sampling = sampling
        self._gauges = gauges
        self._wishes = [_Wishes() for _ in range(lanes)]
        self._store: list[StoreOrder] = []
        """For the next plan of whichever lane: all lanes have one store."""
        self._entries: dict[int, Entry] = {}
        """Of those that are not removed."""
        self._decoded: dict[int, _Decoded] = {}
        self._plans: list[Plan | None] = [None] * lanes
        """Of each lane, the last one that decodes."""
        self._rejected: list[tuple[int, ...]] = [()] * lanes
        """What the ranks forget with the next plan of each lane."""
        self._gone: list[set[int]] = [set() for _ in range(lanes)]
        """Of each lane, those that the ranks were told to remove since its last plan that decodes."""
        self._sent: deque[tuple[Plan, bytes]] = deque()
        """Plans that are sent out, and that this rank has not done its own part of."""
        self._begun: Begun | None = None
        """The one that it is in the middle of: its slice is not computed."""
        self._uids = 0
        self._steps = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Result)

    # -- who is in it ----------------------------------------------------------------------------

    def insert(self, lane: int, entry: Entry, kept: Kept | None) -> int:
        if kept is None:
            insertion = Insertion(self._new_uid(), entry)
        else:
            insertion = Insertion(kept.uid, None if kept.begun else entry)
            for other, wishes in enumerate(self._wishes):
                if other != lane and kept.uid in wishes.aside:
                    # Before it goes on in this lane, the ranks have to take it out of that one.
                    self._send(other, Plan(other, self._steps))
        self._entries[insertion.uid] = entry
        self._wishes[lane].insert.append(insertion)
        return insertion.uid

    def put_aside(self, lane: int, uid: int, done: int) -> Kept:
        self._wishes[lane].aside.append(uid)
        return Kept(uid, done)

    def drop(self, kept: Kept) -> None:
        self.remove(0, [kept.uid])
        for lane in range(len(self._wishes)):
            self.tidy(lane)

    def remove(self, lane: int, uids: Sequence[int]) -> None:
        for wishes in self._wishes:
            # What the ranks have not been told to put aside is still in its lane.
            wishes.remove += [uid for uid in uids if uid in wishes.aside]
            wishes.aside = [uid for uid in wishes.aside if uid not in uids]
        wishes = self._wishes[lane]
        wishes.insert = [insertion for insertion in wishes.insert if insertion.uid not in uids]
        wishes.remove += [uid for uid in uids if uid not in wishes.remove]
        for uid in uids:
            self._entries.pop(uid, None)
            self._decoded.pop(uid, None)

    def _new_uid(self) -> int:
        self._uids += 1
        return self._uids

    # -- what is kept ----------------------------------------------------------------------------

    def store(self, orders: Sequence[StoreOrder]) -> None:
        for lane, rejected in enumerate(self._rejected):
            if rejected and orders:  # what caches hold in vain must not be kept
                self._send(lane, Plan(lane, self._steps))
        self._store += orders

    def restore(self, name: str) -> bytes | None:
        """Have every rank hold what it has on its disk under this name: they do that when they are told to
        connect, and this one now. Returns the record that was saved with it; None: alone, it can do without.
        Raises LoadFailed where others count on it."""
        record = self._rank.store.restore(name)
        if record is None and self._inlet is not None:
            raise LoadFailed("this rank's kept prefixes can't be read: it starts again without them")
        return record

    def forget_all(self) -> None:
        """Have every rank let go all that is kept."""
        self.store([Forget(self._rank.store.nodes)])

    @property
    def stored(self) -> int:
        """Nodes of which something is kept."""
        return len(self._rank.store.nodes)

    def fetch(self, path: tuple[tuple[int, int], ...]) -> Kept:
        uid = self._new_uid()
        self.store([Fetch(uid, path)])
        return Kept(uid, sum(count for _, count in path), begun=False)

    def computed(self, uid: int) -> int:
        decoded = self._decoded[uid]
        plan = self._plans[decoded.lane]
        # The last token is computed with the next step, which may have begun.
        return decoded.tokens if plan is not None and plan.ahead else decoded.tokens - 1

    # -- steps -----------------------------------------------------------------------------------

    def begin(
        self,
        lane: int,
        slice_tokens: int,
        decoding: Sequence[int],
        joining: Sequence[int],
        guesses: Sequence[tuple[int, ...]] = (),
        ahead: bool = True,
    ) -> None:
        self._steps += 1
        plan = Plan(
            lane,
            self._steps,
            join=tuple(joining),
            tokens=tuple(self._decoded[uid].last for uid in decoding),
            slice_tokens=slice_tokens,
            ahead=ahead and self.goes_ahead,
            guesses=tuple(guesses),
        )
        if plan.tokens or plan.join:
            self._plans[lane] = plan
        self._send(lane, plan)
        if plan.tokens or plan.join:
            self._gone[lane].clear()

    def tidy(self, lane: int) -> None:
        if self._wishes[lane].remove or self._store:
            self._send(lane, Plan(lane, self._steps))

    def _send(self, lane: int, step: Plan) -> None:
        """Send a plan out, with all that is wished for in its lane; `wait` does this rank's part of it."""
        wishes, self._wishes[lane] = self._wishes[lane], _Wishes()
        store, self._store = self._store, []
        rejected, self._rejected[lane] = self._rejected[lane], ()
        plan = msgspec.structs.replace(
            step,
            remove=tuple(wishes.remove),
            aside=tuple(wishes.aside),
            insert=tuple(wishes.insert),
            store=tuple(store),
            rejected=rejected,
        )
        self._gone[lane].update(plan.remove)
        header = self._encoder.encode(plan)
        self._rank.pass_on(header)
        self._sent.append((plan, header))

    def wait(self) -> list[Stepped]:
        """Results that are there, or the next ones; none, if something new comes in first."""
        self._carry_on()
        self._take()
        if not self._results and self._inlet is not None:
            self._gauges.waiting_for = f"rank {self._sampling}"
            try:
                self._inlet.wait()
            except Interrupted:
                return []
            finally:
                self._gauges.waiting_for = ""
            self._take()
        results = list(self._results)
        self._results.clear()
        return [self._stepped(result) for result in results]

    def _carry_on(self) -> None:
        """Do this rank's part of what was sent out; but who waits for tokens that it has chosen shall not
        wait for the slice that comes after them."""
        while not self._results and (self._begun is not None or self._sent):
            if self._begun is not None:
                begun, self._begun = self._begun, None
                self._rank.finish(begun, _nothing_more)
            else:
                plan, header = self._sent.popleft()
                self._begun = self._rank.begin(plan, header, None)

    def _take(self) -> None:
        while self._inlet is not None and (parcel := self._inlet.poll()) is not None:
            self._results.append(self._decoder.decode(parcel.header))

    # -- what came of them -----------------------------------------------------------------------

    def _stepped(self, result: Result) -> Stepped:
        self.vocabulary = result.vocabulary or self.vocabulary
        if result.decoded:
            self._note(result)
        likely = dict(result.likely)
        chosen = [Chosen(uid, token, likely.get(place)) for place, (uid, token) in enumerate(result.tokens)]
        return Stepped(
            result.lane,
            chosen,
            result.failed,
            result.decoded,
            result.done,
            result.prompts,
            result.vectors,
            result.slice_s,
        )

    def _note(self, result: Result) -> None:
        """How far each sequence has come, and what its caches hold in vain."""
        made: dict[int, list[int]] = {}
        for uid, token in result.tokens:
            made.setdefault(uid, []).append(token)
        for uid, tokens in made.items():
            entry = self._entries.get(uid)
            if entry is None:
                continue  # it was removed while its tokens were computed
            decoded = self._decoded.setdefault(uid, _Decoded(result.lane, 0, len(entry.tokens)))
            decoded.last = tokens[-1]
            decoded.tokens += len(tokens)
        plan = self._plans[result.lane]
        if plan is not None and plan.guesses:
            width = 1 + max(len(guesses) for guesses in plan.guesses)
            gone = self._gone[result.lane]
            self._rejected[result.lane] = tuple(
                width - len(tokens) for uid, tokens in made.items() if uid not in gone
            )

    def settle(self) -> None:
        self._carry_on()
        give_back_memory()

    def footprint(self) -> Footprint:
        return self._rank.footprint()

    @property
    def embeds(self) -> bool:
        """Whether the model was made for embeddings."""
        return self._rank.embeds

    @property
    def kv_bytes(self) -> int:
        return self._rank.kv_bytes

    @property
    def stored_bytes(self) -> int:
        return self._rank.store.nbytes


def alone(stage: Stage, gauges: Gauges, equipment: Equipment | None = None) -> Conductor:
    """Of an instance with this one rank."""
    results: deque[Result] = deque()
    rank = Rank(stage, 1, Way(tell=results.append), equipment or Equipment())
    return Conductor(rank, 1, None, results, 0, gauges)


def _nothing_more() -> Parcel:
    raise AssertionError("rank 0 is in the first stage: nobody sends it hidden states")
