"""Who is computed, who waits, and who gives way to whom."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bus.messages.base import SequenceId
from bus.messages.generation import RefusalCode
from engine.memory.admission import Admit, Holding, Refuse, Verdict, Wait
from engine.scheduling.guesser import Guesser
from engine.scheduling.keeper import WORTH_KEEPING, Keeper
from engine.scheduling.member import Member
from engine.scheduling.news import News
from engine.scheduling.pace import Pace
from engine.scheduling.scheduler import Fit, Room, WaitingLine
from engine.scheduling.track import Track
from engine.steps.stepper import Stepper

logger = logging.getLogger(__name__)

TURN = "waits for its turn"
AGAIN = "waits for memory again: it goes on from its tokens"


class Roster:
    """Every sequence of the step loop: in a lane, or in line."""

    def __init__(
        self,
        stepper: Stepper,
        lanes: Sequence[Track],
        keeper: Keeper,
        guesser: Guesser,
        news: News,
        max_running: int,
    ) -> None:
        self.cached = 0
        """Prompt tokens that had not to be computed, since the start."""
        self.preempted = 0
        """Sequences that were put off for want of memory, since the start."""
        self._stepper = stepper
        self._lanes = lanes
        self._keeper = keeper
        self._guesser = guesser
        self._news = news
        self._max_running = max_running
        self._line: WaitingLine[Member] = WaitingLine()
        self._members: dict[int, Member] = {}
        self._uids: dict[SequenceId, int] = {}
        self._aside: dict[int, Member] = {}
        """Those in line of whose prompt something is computed, by the uid that they keep."""
        self._why = ""
        """What the first in line waits for, if it is not its turn only."""

    @property
    def running(self) -> int:
        return sum(len(lane.batch) for lane in self._lanes)

    @property
    def streams(self) -> int:
        """Sequences that wait for a token."""
        return sum(lane.batch.decoding + lane.batch.joining for lane in self._lanes)

    @property
    def crowd(self) -> float | None:
        """Prompts that wait or are computed, for each of them; None: nobody waits for a token."""
        prompts = len(self._line) + sum(lane.batch.prefilling for lane in self._lanes)
        return prompts / self.streams if self.streams else None

    @property
    def waiting(self) -> int:
        return len(self._line)

    def __getitem__(self, uid: int) -> Member:
        return self._members[uid]

    def get(self, uid: int) -> Member | None:
        """None: it has been cancelled."""
        return self._members.get(uid)

    def begun(self, uid: int) -> Member | None:
        """As `get`, and those who were put aside since."""
        return self._members.get(uid) or self._aside.get(uid)

    # -- who comes and goes ----------------------------------------------------------------------

    def stand_in_line(self, member: Member) -> None:
        known = member.kept.done if member.kept else self._known(member)
        self._line.add(member, len(member.entry.tokens) - known, member.rank)

    def drop(self, unwanted: frozenset[SequenceId]) -> None:
        """Nobody wants these any more."""
        for gone in self._line.drop(lambda waiting: waiting.job.sequence in unwanted):
            self._let_go(gone)
        self.forget([self._uids[sequence] for sequence in unwanted if sequence in self._uids])

    def forget(self, uids: Sequence[int]) -> None:
        """These have ended."""
        members = {uid: self._members.pop(uid) for uid in uids}
        for member in members.values():
            del self._uids[member.job.sequence]
        for lane in self._lanes:
            lane.batch.remove([uid for uid, member in members.items() if member.lane is lane])
        self._guesser.forget(uids)

    # -- who is next -----------------------------------------------------------------------------

    def insert_next(self, lane: Track, pace: Pace) -> None:
        """Have those begin in a lane for whom there is room."""
        self._why = ""
        if not len(self._line):
            return
        self._give_way(lane)
        own, everybody = len(lane.batch), self.running
        even = -(-(everybody + len(self._line)) // len(self._lanes))
        at_most = min(self._max_running - everybody + own, even)
        # While tokens are waited for, one lane's prompts at a time come between them.
        prefilling = sum(each.batch.prefilling for each in self._lanes if self.streams or each is lane)
        group = self._line.next_group(
            Room(own, at_most, prefilling),
            pace.slice(0, self.crowd, lane.joins_ahead),
            lambda member, group: self._fits(lane, member, group),
        )
        for member in group:
            self._insert(lane, member)
        if group:
            self._keeper.computes([*map(self._holdings, self._lanes), *map(_of_aside, self._aside.values())])

    def _fits(self, lane: Track, member: Member, group: Sequence[Member]) -> Fit:
        """Whether it may begin now: nobody is just computing what it begins with, and memory has room."""
        if self._follows(member, group):
            return Fit.NOT_YET
        match self._admits(lane, member, group):
            case Admit():
                return Fit.YES
            case Wait(reason=reason):
                self._why = reason
                return Fit.NOBODY
            case Refuse() if member.put_off:
                # Sent away for a budget that others made smaller? It was running: it goes on, if alone.
                return Fit.NOBODY if self.running or group else self._alone()
            case Refuse(reason=reason):
                self._let_go(member)
                self._news.refuse(member.job.sequence, RefusalCode.DOES_NOT_FIT, reason)
                return Fit.NEVER

    def _alone(self) -> Fit:
        """Have one begin that is computed alone, whatever it takes, as the last to run is."""
        self._let_go(*self._aside.values())
        self._keeper.let_go()
        return Fit.YES

    def _admits(
        self, lane: Track, member: Member, group: Sequence[Member] = (), giving: Member | None = None
    ) -> Verdict:
        """Whether memory has room for it; `giving`: once that one is put aside."""
        place = self._lanes.index(lane)
        lanes = [self._holdings(each, but=giving) for each in self._lanes]
        lanes[place] += [each.holding for each in group]
        resting = [each for each in self._aside.values() if each is not member]
        aside = [[giving.holding]] if giving is not None else []
        verdict = self._keeper.admits(
            [*lanes, *map(_of_aside, resting), *aside], place, member.holding, member.entry.tokens
        )
        if isinstance(verdict, Wait) and giving is None and resting and not any(lanes):
            # Else nobody would ever go on: they wait behind this one.
            self._let_go(*resting)
            verdict = self._keeper.admits(lanes, place, member.holding, member.entry.tokens)
        return verdict

    def _follows(self, member: Member, group: Sequence[Member], but: Member | None = None) -> bool:
        """Whether much of how it begins is being computed for somebody else: it can have that soon."""
        if member.kept is not None or not self._keeper.keeps:
            return False
        under_way = [*(each for each in self._members.values() if not each.made), *group]
        entries = [each.entry for each in under_way if each.entry.answers and each is not but]
        if not entries:
            return False
        tokens, known = member.entry.tokens, self._known(member)
        return any(
            self._keeper.shared(tokens, entry.tokens, entry.marks) - known > WORTH_KEEPING
            for entry in entries
        )

    def _known(self, member: Member) -> int:
        """How much of its prompt is kept; what is looked at token by token is computed all the same."""
        return 0 if member.entry.looked_at else self._keeper.known(member.entry.tokens)

    def _insert(self, lane: Track, member: Member) -> None:
        if not len(lane.batch):
            lane.wake()
        kept = member.kept
        if kept is None and self._known(member):
            kept = self._keeper.fetch(member.entry.tokens)
            if kept is not None and not member.sequence.generated:
                member.sequence.cached = min(kept.done, member.job.prompt_tokens)
                self.cached += member.sequence.cached
        uid = lane.batch.insert(member.entry, kept)
        # What was kept is the batch's now: held here, too, it would be in memory twice.
        member.lane, member.kept, member.put_off = lane, None, False
        self._aside.pop(uid, None)
        self._members[uid] = member
        self._uids[member.job.sequence] = uid
        logger.debug(
            "%s begins: %d tokens, %d of them kept, %d in the batch",
            member.job.sequence,
            len(member.entry.tokens),
            kept.done if kept else 0,
            len(lane.batch),
        )

    # -- who gives way ---------------------------------------------------------------------------

    def _give_way(self, lane: Track) -> None:
        """Put a long prefill aside for a prompt that is much shorter than what is left of it, if that one can
        begin beside it."""
        lone, first = lane.batch.lone_prefill(), self._line.first
        if lone is None or first is None:
            return
        uid, remaining = lone
        member = self._members[uid]
        if not self._line.should_pass(member.rank, remaining) or self._follows(first, (), but=member):
            return
        if not isinstance(self._admits(lane, first, giving=member), Admit):
            return
        del self._members[uid], self._uids[member.job.sequence]
        member.lane, member.kept = None, lane.batch.put_aside(uid)
        self._aside[uid] = member
        self.stand_in_line(member)

    def _let_go(self, *members: Member) -> None:
        """Of those in line: what is computed of their prompts. They would begin again."""
        for member in members:
            if member.kept is not None:
                del self._aside[member.kept.uid]
                self._stepper.drop(member.kept)
                member.renewed()

    def relieve(self) -> None:
        """Before a step: have those put off for whom memory is too short."""
        self._keeper.beside_bytes = self._guesser.nbytes
        uids = [[uid for uid, member in self._members.items() if member.lane is lane] for lane in self._lanes]
        lanes = [[self._members[uid].holding for uid in each] for each in uids]
        put_off = self._keeper.relieve([*lanes, *map(_of_aside, self._aside.values())])
        if put_off and self._keeper.beside_bytes:
            self._guesser.forget(list(self._members))  # nobody gives way to guesses
            self._keeper.beside_bytes = 0
            put_off = self._keeper.relieve([*lanes, *map(_of_aside, self._aside.values())])
        if put_off and self._aside:
            self._let_go(*self._aside.values())
            put_off = self._keeper.relieve(lanes)
        for lane, place in put_off:
            self._put_off(uids[lane][place])

    def _put_off(self, uid: int) -> None:
        member = self._members.pop(uid)
        del self._uids[member.job.sequence]
        assert member.lane is not None
        member.lane.batch.remove([uid])
        self._guesser.forget([uid])
        if not member.sequence.generated:  # what was kept of its prompt may be gone when it goes on
            self.cached -= member.sequence.cached
            member.sequence.cached = 0
        member.renewed()
        member.put_off = True
        self.preempted += 1
        logger.info("%s is put off: memory is short", member.job.sequence)
        self.stand_in_line(member)

    def _holdings(self, lane: Track, but: Member | None = None) -> list[Holding]:
        return [each.holding for each in self._members.values() if each.lane is lane and each is not but]

    # -- what is told of them --------------------------------------------------------------------

    def tell_line(self) -> None:
        """Who waits, and what for."""
        self._news.line(list(self._reasons()), time.monotonic())

    def _reasons(self) -> Iterator[tuple[SequenceId, str]]:
        for place, member in enumerate(self._line.in_order()):
            if member.put_off:
                yield member.job.sequence, AGAIN
            else:
                yield member.job.sequence, self._why if self._why and not place else TURN


def _of_aside(member: Member) -> list[Holding]:
    """A batch of its own, of what is computed of it."""
    assert member.kept is not None
    return [replace(member.holding, length=member.kept.done)]
