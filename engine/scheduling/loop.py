"""The step loop: takes what is new, computes a step, says what came of it; sleeps when there is nothing."""

import logging
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from bus.messages.engine import Budget, Connect, Load, Prefilled
from bus.messages.generation import Delta
from engine.border import active_bytes, cached_bytes, limit_cache
from engine.gauges import Gauges, Reading
from engine.scheduling.batch import Batch, Outcome
from engine.scheduling.guesser import Guesser
from engine.scheduling.keeper import Keeper
from engine.scheduling.member import Member, entry_of
from engine.scheduling.news import News, Post
from engine.scheduling.pace import Pace
from engine.scheduling.roster import Roster
from engine.scheduling.scheduler import rank
from engine.scheduling.track import Track
from engine.steps.stepper import Chosen, Progress, Stepper
from engine.text.sequence import Sequence as Answer
from engine.threads import Threads
from engine.work import Drop, End, Job, Work

logger = logging.getLogger(__name__)

READING_S: Final = 0.1
"""How often a busy loop looks at its gauges and at its line; each look costs a little."""
SAVE_S: Final = 10.0
"""How long nothing may have come before what is kept is written to disk."""


class StepLoop:
    """Runs on the thread that computes; others reach it through its inbox only.

    Before every step it takes cancels and new jobs. A step decodes first; what prefill it does is as large
    as the pace allows. One sequence's fault ends that sequence; the model's own fault ends the loop.
    """

    def __init__(
        self,
        *,
        stepper: Stepper,
        batches: Sequence[Batch],
        sequence_of: Callable[[Job], Answer],
        vocabulary: int,
        inbox: "SimpleQueue[Work]",
        post: Post,
        gauges: Gauges,
        pace: Pace,
        max_running: int,
        threads: Threads,
        keeper: Keeper,
        guesser: Guesser,
    ) -> None:
        """`batches`: one for each of the stepper's lanes."""
        self._stepper = stepper
        self._lanes = [Track(batch, stepper.goes_ahead) for batch in batches]
        self._sequence_of = sequence_of
        self._vocabulary = vocabulary
        self._inbox = inbox
        self._news = News(post)
        self._gauges = gauges
        self._pace = pace
        self._threads = threads
        self._keeper = keeper
        self._guesser = guesser
        self._roster = Roster(stepper, self._lanes, keeper, guesser, self._news, max_running)
        self._members = 0
        self._tokens = 0
        self._prompt_tokens = 0
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
            self._end()
            return False
        for lane in sorted(self._lanes, key=lambda lane: len(lane.batch)):
            self._begin_steps(lane)
        self._tidy()
        self._news.say()
        if self._under_way:
            self._finish_steps()
            self._tidy()
        if not self._busy:
            self._rest()
            self._news.say()
        return True

    def _tidy(self) -> None:
        for lane in self._lanes:
            lane.batch.tidy()

    def _end(self) -> None:
        if not self._busy and self._keeper.save():
            self._tidy()
            self._stepper.settle()
        self._news.say()

    @property
    def _under_way(self) -> bool:
        return any(lane.batch.under_way for lane in self._lanes)

    @property
    def _busy(self) -> bool:
        return bool(self._roster.running or self._roster.waiting or self._under_way)

    # -- what is new -----------------------------------------------------------------------------

    def _take_all(self) -> bool:
        """What came in, as far as who decodes can wait; with nothing to compute, wait for it. False: end."""
        if not self._busy:
            self._take(self._next())
            for lane in self._lanes:
                lane.wake()
        until_s = time.monotonic() + self._pace.gap_s
        while not self._ended and (time.monotonic() < until_s or not self._roster.streams):
            try:
                self._take(self._inbox.get_nowait())
            except Empty:
                break
        return not self._ended

    def _next(self) -> Work:
        """The next piece of work; if it is long in coming, there is time to write to disk."""
        try:
            return self._inbox.get(timeout=SAVE_S)
        except Empty:
            if self._keeper.save():
                self._tidy()
                self._stepper.settle()
            return self._inbox.get()

    def _take(self, work: Work) -> None:
        match work:
            case Job():
                self._admit(work)
            case Drop(sequences=sequences):
                self._roster.drop(sequences)
            case Budget():
                limit_cache(work.cache_bytes)
                self._keeper.budget = work
                if work.short:
                    self._keeper.let_go()
            case End():
                self._ended = True
            case Load() | Connect():
                logger.warning("a model is loaded already: ignored")

    def _admit(self, job: Job) -> None:
        self._prompt_tokens += job.prompt_tokens
        try:
            sequence = self._sequence_of(job)
            entry = entry_of(job, self._vocabulary, marks=not self._keeper.cuts)
        except Exception:
            logger.exception("a sequence could not be begun")
            self._news.fault(job.sequence)
            return
        if entry.answers or entry.embed or (entry.prompt_logprobs and len(entry.tokens) > 1):
            self._members += 1
            known = 0 if entry.looked_at else self._keeper.known(entry.tokens)
            alone_s = self._pace.expected_s(len(entry.tokens) - known, known)
            place = rank(job.priority, job.arrived_s, alone_s)
            self._roster.stand_in_line(Member(sequence, entry, place, self._members))
        else:
            if entry.prompt_logprobs:
                sequence.prompt([None])
            self._news.step((sequence.nothing(),))

    # -- a step begins ---------------------------------------------------------------------------

    def _begin_steps(self, lane: Track) -> None:
        """As many as may be under way: more than one only of prompts that nobody's tokens wait behind."""
        while lane.batch.may_begin(self._depth(lane)):
            self._roster.relieve()
            self._keep_prompts(lane.batch)  # before any of them gives way
            self._roster.insert_next(lane, self._pace)
            if lane.batch.idle:
                return
            self._begin_step(lane)

    def _depth(self, lane: Track) -> int:
        if not self._roster.streams:
            return self._stepper.depth
        return min(self._stepper.depth, 2 if lane.batch.decoding else 1)

    def _begin_step(self, lane: Track) -> None:
        batch = lane.batch
        granted = self._pace.slice(batch.position, self._roster.crowd, lane.joins_ahead)
        self._threads.for_step(prefills=batch.prefilling > 0)
        guess = None
        if not (batch.joining or batch.prefilling):
            may = not self._stepper.goes_ahead or (lane.guess is not None and not lane.guess.ahead)
            uids = batch.decoding_uids
            guess = self._guesser.guess(uids, may, [self._roster[uid].left for uid in uids])
        lane.begin(granted, guess)

    def _keep_prompts(self, batch: Batch) -> None:
        """Of those that stand where later prompts are likely to part from them."""
        for uid, entry, done in batch.standing():
            ends = done == len(entry.tokens) - 1
            if entry.answers and (ends or done in entry.marks):
                trail = self._roster[uid].job.trail if ends else ()
                self._keeper.keep(uid, entry.tokens[:done], trail, ends=True, runs=True)

    # -- a step is computed ----------------------------------------------------------------------

    def _finish_steps(self) -> None:
        for stepped in self._stepper.wait():
            lane = self._lanes[stepped.lane]
            guess = lane.guess
            outcome, self._pace = lane.finish(stepped, self._pace)
            if guess is not None and stepped.decoded:
                self._guesser.learn(guess, [part.uid for part in outcome.chosen], lane.took_s)
                self._guesser.forget([uid for uid in guess.uids if self._roster.get(uid) is None])
            for uid, likely in outcome.prompts:
                if member := self._roster.begun(uid):
                    member.prompt += likely
            deltas = [*self._deltas(outcome.chosen), *self._vectors(outcome)]
            prefilled = self._prefilled(outcome.progress)
            self._news.step((*deltas, *self._scored(outcome.progress)), prefilled)
            self._refuse(outcome.failed)
        if time.monotonic() - self._read_s > READING_S:
            self._roster.tell_line()
            self._read()

    def _deltas(self, chosen: Sequence[Chosen]) -> list[Delta]:
        deltas: list[Delta] = []
        for part in chosen:
            member = self._roster.get(part.uid)
            if member is None:
                continue  # it was cancelled while its token was computed, or has just ended
            self._tokens += 1
            try:
                delta = self._take_token(member, part)
            except Exception:
                logger.exception("a sequence's text could not be made")
                self._news.fault(member.job.sequence)
                self._roster.forget([part.uid])
                continue
            deltas.append(delta)
            if delta.finish is not None:
                self._keep_answer(part.uid, member)
                self._roster.forget([part.uid])
        return deltas

    def _take_token(self, member: Member, part: Chosen) -> Delta:
        if not member.made:
            if member.guessable:
                self._guesser.begin(part.uid, member.entry.tokens)
            if member.entry.prompt_logprobs:
                member.sequence.prompt(member.prompt)
        member.made.append(part.token)
        self._guesser.took(part.uid, part.token)
        return member.sequence.take(part.token, part.likely)

    def _keep_answer(self, uid: int, member: Member) -> None:
        """The next turn of its conversation begins with it."""
        computed, tokens = self._stepper.computed(uid), member.tokens
        # With guesses, what came after its end may have been computed with it.
        kept = tokens[:computed]
        self._keeper.keep(uid, kept, member.job.trail, ends=len(kept) == computed)

    def _vectors(self, outcome: Outcome) -> list[Delta]:
        deltas = []
        for uid, vector in outcome.vectors:
            if member := self._roster.get(uid):
                deltas.append(member.sequence.embedded(vector, member.sequence.cached))
                self._roster.forget([uid])
        return deltas

    def _scored(self, progress: Sequence[Progress]) -> list[Delta]:
        """Of prompts for which nothing but their log-probabilities was wanted."""
        deltas = []
        for part in progress:
            member = self._roster.get(part.uid)
            if member is None or member.entry.answers or member.entry.embed or part.done < part.total - 1:
                continue  # an embedding comes by itself
            member.sequence.prompt(member.prompt)
            deltas.append(member.sequence.nothing())
            self._roster.forget([part.uid])
        return deltas

    def _prefilled(self, progress: Sequence[Progress]) -> tuple[Prefilled, ...]:
        found = []
        for part in progress:
            if member := self._roster.get(part.uid):
                eta = self._pace.remaining_s(part.total - part.done, part.done, self._roster.crowd)
                total, cached = len(member.job.tokens), member.sequence.cached
                found.append(Prefilled(member.job.sequence, part.done, total, round(eta, 2), cached))
        return tuple(found)

    def _refuse(self, failed: Sequence[tuple[int, str]]) -> None:
        """End sequences whose own rules failed."""
        for uid, why in failed:
            if member := self._roster.get(uid):
                self._news.fault(member.job.sequence, why)
                self._roster.forget([uid])

    # -- gauges ----------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Nothing is left to do: give back memory."""
        self._roster.relieve()
        self._tidy()
        self._stepper.settle()
        for lane in self._lanes:
            lane.rest()
        self._roster.tell_line()
        self._read()

    def _read(self) -> None:
        self._read_s = time.monotonic()
        batches = [lane.batch for lane in self._lanes]
        self._gauges.reading = Reading(
            steps=self._news.steps,
            tokens=self._tokens,
            running=sum(batch.decoding + batch.joining for batch in batches),
            prefilling=sum(batch.prefilling for batch in batches),
            waiting=self._roster.waiting,
            kv_bytes=self._stepper.kv_bytes,
            active_bytes=active_bytes(),
            cached_bytes=cached_bytes(),
            kv_limit_bytes=self._keeper.limit_bytes,
            prefix_bytes=self._stepper.stored_bytes,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._roster.cached,
            drafted_tokens=self._guesser.drafted,
            accepted_tokens=self._guesser.accepted,
            preempted=self._roster.preempted,
            trails=self._keeper.trails,
        )
