"""The step loop: takes what is new, computes a step, says what came of it; sleeps when there is nothing."""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

from bus.messages.base import SequenceId
from bus.messages.engine import Budget, Connect, Load, Prefilled, Refused, Step
from bus.messages.generation import Delta, Refusal, RefusalCode
from engine.batch import Batch
from engine.border import active_bytes, cached_bytes
from engine.gauges import Gauges, Reading
from engine.pace import Pace
from engine.penalties import Penalties
from engine.sampling import Row
from engine.scheduler import Room, WaitingLine, rank
from engine.sequence import Sequence
from engine.steps import Chosen, Entry, Kept, Progress, Stepper
from engine.threads import Threads
from engine.track import Track
from engine.work import Drop, End, Job, Work

logger = logging.getLogger(__name__)

READING_S: Final = 0.1
"""How often a busy loop looks at its gauges; each look costs a little."""

Post: TypeAlias = Callable[[Step | Refused], None]


@dataclass(frozen=True, slots=True)
class Member:
    """A sequence that is computed, or whose prefill was begun and put aside."""

    sequence: Sequence
    entry: Entry
    rank: float
    """Its place in line."""
    lane: Track | None = None
    kept: Kept | None = None
    """What is computed of its prompt, while it is put aside."""


class StepLoop:
    """Runs on the thread that computes; others reach it through its inbox only.

    Before every step it takes cancels and new jobs. A step decodes first; what prefill it does is as large
    as the pace allows. One sequence's fault ends that sequence; the model's own fault ends the loop.
    """

    def __init__(
        self,
        stepper: Stepper,
        batches: list[Batch],
        sequence_of: Callable[[Job], Sequence],
        vocabulary: int,
        inbox: "SimpleQueue[Work]",
        post: Post,
        gauges: Gauges,
        pace: Pace,
        max_running: int,
        threads: Threads,
    ) -> None:
        """`batches`: one for each of the stepper's lanes."""
        self._stepper = stepper
        self._lanes = [Track(batch) for batch in batches]
        self._sequence_of = sequence_of
        self._vocabulary = vocabulary
        self._inbox = inbox
        self._post = post
        self._gauges = gauges
        self._pace = pace
        self._max_running = max_running
        self._threads = threads
        self._waiting: WaitingLine[Job | Member] = WaitingLine()
        self._members: dict[int, Member] = {}
        self._uids: dict[SequenceId, int] = {}
        self._news: list[Step | Refused] = []
        """Said when the next steps have begun: the other ranks of this one's stage need not wait for that."""
        self._steps = 0
        self._tokens = 0
        self._read_s = 0.0
        self._ended = False

    def run(self) -> None:
        """Until an End is taken; raises what the model raises."""
        self._rest()
        while self.turn():
            pass

    def turn(self) -> bool:
        """Take what is new, waiting for it if there is nothing to compute; begin what steps can begin, say
        what came of those before, and take in what has become of steps. False: end."""
        if not self._take_all():
            self._say_all()
            return False
        for lane in sorted(self._lanes, key=lambda lane: len(lane.batch)):
            self._begin_steps(lane)
        self._tidy()
        self._say_all()
        if self._under_way:
            self._finish_steps()
            self._tidy()
        if not self._busy:
            self._say_all()
            self._rest()
        return True

    def _tidy(self) -> None:
        for lane in self._lanes:
            lane.batch.tidy()

    @property
    def _running(self) -> int:
        return sum(len(lane.batch) for lane in self._lanes)

    @property
    def _under_way(self) -> bool:
        return any(lane.batch.under_way for lane in self._lanes)

    @property
    def _decoding(self) -> bool:
        """Whether anybody waits for a token."""
        return any(lane.batch.decoding + lane.batch.joining for lane in self._lanes)

    @property
    def _busy(self) -> bool:
        return bool(self._running or len(self._waiting) or self._under_way)

    # -- what is new -----------------------------------------------------------------------------

    def _take_all(self) -> bool:
        """Everything that came in; where there is nothing to compute, wait for something. False: end."""
        if not self._busy:
            self._take(self._inbox.get())
            for lane in self._lanes:
                lane.wake()
        while not self._ended:
            try:
                self._take(self._inbox.get_nowait())
            except Empty:
                return True
        return False

    def _take(self, work: Work) -> None:
        match work:
            case Job():
                self._admit(work)
            case Drop(sequences=sequences):
                self._drop(sequences)
            case End():
                self._ended = True
            case Budget():
                pass
            case Load() | Connect():
                logger.warning("a model is loaded already: ignored")

    def _admit(self, job: Job) -> None:
        if job.max_tokens <= job.resumed:
            self._say((self._sequence_of(job).nothing(),), ())
            return
        self._waiting.add(job, len(job.tokens), self._rank(job))

    def _rank(self, job: Job) -> float:
        return rank(job.arrived_s, self._pace.expected_s(len(job.tokens)))

    def _drop(self, unwanted: frozenset[SequenceId]) -> None:
        for gone in self._waiting.drop(lambda waiting: _job_of(waiting).sequence in unwanted):
            if isinstance(gone, Member) and gone.kept is not None:
                self._stepper.drop(gone.kept)
        self._forget([self._uids[sequence] for sequence in unwanted if sequence in self._uids])

    def _forget(self, uids: list[int]) -> None:
        members = {uid: self._members.pop(uid) for uid in uids}
        for member in members.values():
            del self._uids[member.sequence.job.sequence]
        for lane in self._lanes:
            lane.batch.remove([uid for uid, member in members.items() if member.lane is lane])

    # -- a step begins ---------------------------------------------------------------------------

    def _begin_steps(self, lane: Track) -> None:
        """As many as may be under way: more than one only of prompts that nobody's tokens wait behind."""
        while lane.batch.may_begin(self._depth(lane)):
            decoding = self._decoding
            self._insert_next(lane, decoding)
            if not len(lane.batch):
                return
            self._begin_step(lane, decoding)

    def _depth(self, lane: Track) -> int:
        if not self._decoding:
            return self._stepper.depth
        return min(self._stepper.depth, 2 if lane.batch.decoding else 1)

    def _begin_step(self, lane: Track, decoding: bool) -> None:
        decoding = decoding or lane.batch.joining > 0
        granted = self._pace.slice(lane.batch.position, decoding, lane.just_joined)
        self._threads.for_step(prefills=lane.batch.prefilling > 0)
        lane.begin(granted, decoding)

    def _insert_next(self, lane: Track, decoding: bool) -> None:
        if not len(self._waiting):
            return
        self._give_way(lane)
        own, everybody = len(lane.batch), self._running
        even = -(-(everybody + len(self._waiting)) // len(self._lanes))
        at_most = min(self._max_running - everybody + own, even)
        # While tokens are waited for, one lane's prompts at a time come between them.
        prefilling = sum(each.batch.prefilling for each in self._lanes if decoding or each is lane)
        group = self._waiting.next_group(
            Room(own, at_most, prefilling), self._pace.slice(0, decoding, lane.just_joined)
        )
        for waiting in group:
            try:
                member = self._begin(waiting) if isinstance(waiting, Job) else waiting
            except Exception:
                logger.exception("a sequence could not be begun")
                self._news.append(_fault(_job_of(waiting).sequence))
            else:
                self._insert(lane, member)

    def _begin(self, job: Job) -> Member:
        entry = Entry(
            job.tokens,
            Row.of(job.decoding, secrets.randbits(64), self._vocabulary, job.resumed),
            replace(job.decoding, seed=None) if Penalties.wanted(job.decoding) else None,
            job.resumed,
            job.logprobs,
            self._vocabulary,
        )
        return Member(self._sequence_of(job), entry, self._rank(job))

    def _insert(self, lane: Track, member: Member) -> None:
        job = member.sequence.job
        if not len(lane.batch):
            lane.wake()
        uid = lane.batch.insert(member.entry, member.kept)
        # What was kept is the batch's now: held here, too, it would be in memory twice.
        self._members[uid] = replace(member, lane=lane, kept=None)
        self._uids[job.sequence] = uid
        logger.debug("%s begins: %d tokens, %d in the batch", job.sequence, len(job.tokens), len(lane.batch))

    def _give_way(self, lane: Track) -> None:
        """Put a long prefill aside for a prompt that is much shorter than what is left of it."""
        lone = lane.batch.lone_prefill()
        if lone is None:
            return
        uid, remaining = lone
        member = self._members[uid]
        if not self._waiting.should_pass(member.rank, remaining):
            return
        kept = lane.batch.put_aside(uid)
        del self._members[uid], self._uids[member.sequence.job.sequence]
        self._waiting.add(replace(member, lane=None, kept=kept), remaining, member.rank)

    # -- a step is computed ----------------------------------------------------------------------

    def _finish_steps(self) -> None:
        for stepped in self._stepper.wait():
            lane = self._lanes[stepped.lane]
            outcome, self._pace = lane.finish(stepped, self._pace)
            deltas = self._deltas(outcome.chosen)
            self._say(deltas, self._progress(outcome.progress))
            self._refuse(outcome.failed)
        if time.monotonic() - self._read_s > READING_S:
            self._read()

    def _deltas(self, chosen: list[Chosen]) -> tuple[Delta, ...]:
        deltas, over = [], []
        for part in chosen:
            member = self._members.get(part.uid)
            if member is None:
                continue  # it was cancelled while its token was computed
            self._tokens += 1
            try:
                delta = member.sequence.take(part.token, part.likely)
            except Exception:
                logger.exception("a sequence's text could not be made")
                self._news.append(_fault(member.sequence.job.sequence))
                over.append(part.uid)
                continue
            deltas.append(delta)
            if delta.finish is not None:
                over.append(part.uid)
        self._forget(over)
        return tuple(deltas)

    def _progress(self, progress: list[Progress]) -> tuple[Prefilled, ...]:
        return tuple(
            Prefilled(self._members[part.uid].sequence.job.sequence, part.done, part.total)
            for part in progress
            if part.uid in self._members
        )

    def _refuse(self, failed: tuple[int, ...]) -> None:
        """End sequences whose own logits processor failed."""
        there = [uid for uid in failed if uid in self._members]
        for uid in there:
            self._news.append(_fault(self._members[uid].sequence.job.sequence))
        self._forget(there)

    def _say_all(self) -> None:
        for message in self._news:
            self._post(message)
        self._news.clear()

    def _say(self, deltas: tuple[Delta, ...], prefilled: tuple[Prefilled, ...]) -> None:
        self._steps += 1
        if deltas or prefilled:
            self._news.append(Step(self._steps, deltas, prefilled))

    # -- gauges ----------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Nothing is left to do: give back memory."""
        self._stepper.settle()
        for lane in self._lanes:
            lane.rest()
        self._read()

    def _read(self) -> None:
        self._read_s = time.monotonic()
        batches = [lane.batch for lane in self._lanes]
        self._gauges.reading = Reading(
            steps=self._steps,
            tokens=self._tokens,
            running=sum(batch.decoding + batch.joining for batch in batches),
            prefilling=sum(batch.prefilling for batch in batches),
            waiting=len(self._waiting),
            kv_bytes=self._stepper.kv_bytes,
            active_bytes=active_bytes(),
            cached_bytes=cached_bytes(),
        )


def _job_of(waiting: Job | Member) -> Job:
    return waiting if isinstance(waiting, Job) else waiting.sequence.job


def _fault(sequence: SequenceId) -> Refused:
    return Refused(
        sequence,
        Refusal(
            RefusalCode.ENGINE_FAILED, "This answer failed inside the engine; the engine's log says where."
        ),
    )
