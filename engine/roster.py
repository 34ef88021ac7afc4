"""Who is computed, who waits, and who gives way to whom."""

import logging
from collections.abc import Iterator, Sequence

from bus.messages.base import SequenceId
from bus.messages.generation import RefusalCode
from engine.admission import Admit, Holding, Refuse, Wait
from engine.guesser import Guesser
from engine.keeper import WORTH_KEEPING, Keeper, agree
from engine.member import Member
from engine.news import News
from engine.pace import Pace
from engine.scheduler import Fit, Room, WaitingLine
from engine.steps import Stepper
from engine.track import Track

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
        self._why = ""
        """What the first in line waits for, if it is not its turn only."""

    @property
    def running(self) -> int:
        return sum(len(lane.batch) for lane in self._lanes)

    @property
    def waiting(self) -> int:
        return len(self._line)

    def __contains__(self, uid: int) -> bool:
        return uid in self._members

    def __getitem__(self, uid: int) -> Member:
        return self._members[uid]

    def get(self, uid: int) -> Member | None:
        """None: it has been cancelled."""
        return self._members.get(uid)

    # -- who comes and goes ----------------------------------------------------------------------

    def stand_in_line(self, member: Member) -> None:
        known = member.kept.done if member.kept else self._known(member)
        self._line.add(member, len(member.entry.tokens) - known, member.rank)

    def drop(self, unwanted: frozenset[SequenceId]) -> None:
        """Nobody wants these any more."""
        for gone in self._line.drop(lambda waiting: waiting.job.sequence in unwanted):
            if gone.kept is not None:
                self._stepper.drop(gone.kept)
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

    def insert_next(self, lane: Track, decoding: bool, pace: Pace) -> None:
        """Have those begin in a lane for whom there is room. `decoding`: somebody waits for tokens."""
        self._why = ""
        if not len(self._line):
            return
        self._give_way(lane)
        own, everybody = len(lane.batch), self.running
        even = -(-(everybody + len(self._line)) // len(self._lanes))
        at_most = min(self._max_running - everybody + own, even)
        # While tokens are waited for, one lane's prompts at a time come between them.
        prefilling = sum(each.batch.prefilling for each in self._lanes if decoding or each is lane)
        group = self._line.next_group(
            Room(own, at_most, prefilling),
            pace.slice(0, decoding, lane.just_joined),
            lambda member, group: self._fits(lane, member, group),
        )
        for member in group:
            self._insert(lane, member)

    def _fits(self, lane: Track, member: Member, group: Sequence[Member]) -> Fit:
        """Whether it may begin now: nobody is just computing what it begins with, and memory has room."""
        if member.kept is None and self._keeper.keeps and self._follows(member, group):
            return Fit.NOT_YET
        place = self._lanes.index(lane)
        lanes = [self._holdings(each) for each in self._lanes]
        lanes[place] += [each.holding for each in group]
        match self._keeper.admits(lanes, place, member.holding):
            case Admit():
                return Fit.YES
            case Wait(reason=reason):
                self._why = reason
                return Fit.NOBODY
            case Refuse(reason=reason):
                self._news.refuse(member.job.sequence, RefusalCode.DOES_NOT_FIT, reason)
                return Fit.NEVER

    def _follows(self, member: Member, group: Sequence[Member]) -> bool:
        """Whether much of how it begins is being computed for somebody else: it can have that soon."""
        tokens, known = member.entry.tokens, self._known(member)
        under_way = [each for each in self._members.values() if not each.made and each.entry.answers]
        return any(agree(tokens, each.entry.tokens) - known > WORTH_KEEPING for each in (*under_way, *group))

    def _known(self, member: Member) -> int:
        """How much of its prompt is kept; what is looked at token by token is computed all the same."""
        entry = member.entry
        return 0 if entry.embed or entry.prompt_logprobs else self._keeper.known(entry.tokens)

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
        member.lane, member.kept = lane, None
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
        """Put a long prefill aside for a prompt that is much shorter than what is left of it."""
        lone = lane.batch.lone_prefill()
        if lone is None:
            return
        uid, remaining = lone
        if not self._line.should_pass(self._members[uid].rank, remaining):
            return
        member = self._members.pop(uid)
        del self._uids[member.job.sequence]
        member.lane, member.kept = None, lane.batch.put_aside(uid)
        self.stand_in_line(member)

    def relieve(self) -> None:
        """Before a step: have those put off for whom memory is too short."""
        if not self.running:
            self._keeper.fit()
            return
        uids = [[uid for uid, member in self._members.items() if member.lane is lane] for lane in self._lanes]
        lanes = [[self._members[uid].holding for uid in each] for each in uids]
        for lane, place in self._keeper.relieve(lanes):
            self._put_off(uids[lane][place])

    def _put_off(self, uid: int) -> None:
        member = self._members.pop(uid)
        del self._uids[member.job.sequence]
        assert member.lane is not None
        member.lane.batch.remove([uid])
        self._guesser.forget([uid])
        member.renewed()
        self.preempted += 1
        logger.info("%s is put off: memory is short", member.job.sequence)
        self.stand_in_line(member)

    def _holdings(self, lane: Track) -> list[Holding]:
        return [member.holding for member in self._members.values() if member.lane is lane]

    # -- what is told of them --------------------------------------------------------------------

    def tell_line(self) -> None:
        """Who waits, and what for."""
        self._news.line(list(self._reasons()))

    def _reasons(self) -> Iterator[tuple[SequenceId, str]]:
        for place, member in enumerate(self._line.in_order()):
            if member.sequence.generated:
                yield member.job.sequence, AGAIN
            else:
                yield member.job.sequence, self._why if self._why and not place else TURN
