"""The step loop: takes what is new, computes a step, says what came of it; sleeps when there is nothing."""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

import mlx.core as mx

from bus.messages.base import SequenceId
from bus.messages.engine import Load, Prefilled, Refused, Step
from bus.messages.generation import Delta, Refusal, RefusalCode
from engine.batch import Batch, Outcome
from engine.border import Chosen, Kept, active_bytes, cached_bytes, side_stream
from engine.gauges import Gauges, Reading
from engine.guard import Guard
from engine.logprobs import Likely, most_likely
from engine.pace import Pace
from engine.sampling import Row
from engine.scheduler import Room, WaitingLine, rank
from engine.sequence import Sequence
from engine.threads import Threads
from engine.work import Drop, End, Job, Work

logger = logging.getLogger(__name__)

READING_S: Final = 0.1
"""How often a busy loop looks at its gauges; each look costs a little."""

Post: TypeAlias = Callable[[Step | Refused], None]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A sequence that is computed, or whose prefill was begun and put aside."""

    sequence: Sequence
    row: Row
    guard: Guard | None
    rank: float
    """Its place in line."""
    kept: Kept | None = None
    """What is computed of its prompt, while it is put aside."""


class StepLoop:
    """Runs on the thread that computes; others reach it through its inbox only.

    Before every step it takes cancels and new jobs. A step decodes first; what prefill it does is as large
    as the pace allows. One sequence's fault ends that sequence; the model's own fault ends the loop.
    """

    def __init__(
        self,
        batch: Batch,
        sequence_of: Callable[[Job], Sequence],
        vocabulary: int,
        inbox: "SimpleQueue[Work]",
        post: Post,
        gauges: Gauges,
        pace: Pace,
        max_running: int,
        threads: Threads,
    ) -> None:
        self._batch = batch
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
        self._side = side_stream()
        self._steps = 0
        self._tokens = 0
        self._read_s = 0.0
        self._since_s = 0.0
        """When the step under way began: at the end of the last one, if there was no rest between."""
        self._just_joined = False
        self._ended = False

    def run(self) -> None:
        """Until an End is taken; raises what the model raises."""
        self._rest()
        while self.turn():
            pass

    def turn(self) -> bool:
        """Take what is new, waiting for it if there is nothing to compute, and compute a step. False: end."""
        if not self._take_all():
            return False
        if self._busy:
            self._step()
        if not self._busy:
            self._rest()
        return True

    @property
    def _busy(self) -> bool:
        return bool(len(self._batch) or len(self._waiting))

    # -- what is new -----------------------------------------------------------------------------

    def _take_all(self) -> bool:
        """Everything that came in; where there is nothing to compute, wait for something. False: end."""
        if not self._busy:
            self._take(self._inbox.get())
            self._since_s = time.monotonic()
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
            case Load():
                logger.warning("a model is loaded already: ignored")

    def _admit(self, job: Job) -> None:
        if job.max_tokens == 0:
            self._say((self._sequence_of(job).nothing(),), ())
            return
        self._waiting.add(job, len(job.tokens), self._rank(job))

    def _rank(self, job: Job) -> float:
        return rank(job.arrived_s, self._pace.expected_s(len(job.tokens)))

    def _drop(self, unwanted: frozenset[SequenceId]) -> None:
        self._waiting.drop(lambda waiting: _job_of(waiting).sequence in unwanted)
        self._forget([self._uids[sequence] for sequence in unwanted if sequence in self._uids])

    def _forget(self, uids: list[int]) -> None:
        self._batch.remove(uids)
        for uid in uids:
            del self._uids[self._members.pop(uid).sequence.job.sequence]

    # -- a step ----------------------------------------------------------------------------------

    def _step(self) -> None:
        decoding = self._batch.decoding + self._batch.joining > 0
        self._insert_next(decoding)
        granted = self._pace.slice(self._batch.position, decoding, self._just_joined)
        self._threads.for_step(prefills=self._batch.prefilling > 0)
        outcome = self._batch.step(granted)
        self._learn(outcome, granted, decoding)
        deltas = self._deltas(outcome.chosen)
        self._say(deltas, self._progress(outcome))
        self._refuse_failed()
        if time.monotonic() - self._read_s > READING_S:
            self._read()

    def _insert_next(self, decoding: bool) -> None:
        if not len(self._waiting):
            return
        self._give_way()
        room = Room(len(self._batch), self._max_running, self._batch.prefilling)
        for waiting in self._waiting.next_group(room, self._pace.slice(0, decoding, self._just_joined)):
            try:
                member = self._begin(waiting) if isinstance(waiting, Job) else waiting
            except Exception:
                logger.exception("a sequence could not be begun")
                self._post(_fault(_job_of(waiting).sequence))
            else:
                self._insert(member)

    def _begin(self, job: Job) -> Member:
        row = Row.of(job.decoding, secrets.randbits(64), self._vocabulary)
        guard = Guard.of(job, self._vocabulary)
        return Member(self._sequence_of(job), row, guard, self._rank(job))

    def _insert(self, member: Member) -> None:
        job = member.sequence.job
        uid = self._batch.insert(job.tokens, member.row, member.guard, member.kept)
        # What was kept is the batch's now: held here, too, it would be in memory twice.
        self._members[uid] = replace(member, kept=None)
        self._uids[job.sequence] = uid
        logger.debug(
            "%s begins: %d prompt tokens, %d in the batch", job.sequence, len(job.tokens), len(self._batch)
        )

    def _give_way(self) -> None:
        """Put a long prefill aside for a prompt that is much shorter than what is left of it."""
        lone = self._batch.lone_prefill()
        if lone is None:
            return
        uid, remaining = lone
        member = self._members[uid]
        if not self._waiting.should_pass(member.rank, remaining):
            return
        kept = self._batch.put_aside(uid)
        del self._members[uid], self._uids[member.sequence.job.sequence]
        self._waiting.add(replace(member, kept=kept), remaining, member.rank)

    def _learn(self, outcome: Outcome, granted: int, decoding: bool) -> None:
        now = time.monotonic()
        took, self._since_s = now - self._since_s, now
        if outcome.sliced:
            if not self._just_joined:
                self._pace = self._pace.after_slice(took, outcome.sliced, outcome.position, granted, decoding)
        elif self._just_joined:
            self._pace = self._pace.after_join(took)
        elif not outcome.joined:
            self._pace = self._pace.after_decode(took)
        self._just_joined = outcome.joined > 0

    def _deltas(self, chosen: list[Chosen]) -> tuple[Delta, ...]:
        self._tokens += len(chosen)
        likely = self._likely(chosen)
        deltas, over = [], []
        for part in chosen:
            member = self._members[part.uid]
            try:
                delta = member.sequence.take(part.token, likely.get(part.uid))
            except Exception:
                logger.exception("a sequence's text could not be made")
                self._post(_fault(member.sequence.job.sequence))
                over.append(part.uid)
                continue
            deltas.append(delta)
            if delta.finish is not None:
                over.append(part.uid)
        self._forget(over)
        return tuple(deltas)

    def _likely(self, chosen: list[Chosen]) -> dict[int, Likely]:
        wanted: list[tuple[Chosen, int]] = []
        for part in chosen:
            count = self._members[part.uid].sequence.job.logprobs
            if count is not None:
                wanted.append((part, count))
        rows: list[mx.array] = [part.logprobs for part, _ in wanted]
        found = most_likely(
            rows, [part.token for part, _ in wanted], [count for _, count in wanted], self._side
        )
        return {part.uid: likely for (part, _), likely in zip(wanted, found, strict=True)}

    def _progress(self, outcome: Outcome) -> tuple[Prefilled, ...]:
        return tuple(
            Prefilled(self._members[part.uid].sequence.job.sequence, part.done, part.total)
            for part in outcome.progress
            if part.uid in self._members
        )

    def _refuse_failed(self) -> None:
        """End sequences whose own logits processor failed; the step went on without it."""
        failed = [uid for uid, member in self._members.items() if member.guard and member.guard.failure]
        for uid in failed:
            logger.error("a sequence's penalties failed: %r", self._members[uid].guard)
            self._post(_fault(self._members[uid].sequence.job.sequence))
        self._forget(failed)

    def _say(self, deltas: tuple[Delta, ...], prefilled: tuple[Prefilled, ...]) -> None:
        self._steps += 1
        if deltas or prefilled:
            self._post(Step(self._steps, deltas, prefilled))

    # -- gauges ----------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Nothing is left to do: give back memory."""
        self._batch.settle()
        self._just_joined = False
        self._read()

    def _read(self) -> None:
        self._read_s = time.monotonic()
        self._gauges.reading = Reading(
            steps=self._steps,
            tokens=self._tokens,
            running=self._batch.decoding + self._batch.joining,
            prefilling=self._batch.prefilling,
            waiting=len(self._waiting),
            kv_bytes=self._batch.kv_bytes,
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
