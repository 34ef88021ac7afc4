"""A Runner's desk: takes sequences on for Requests, and tells each Request what becomes of its own."""

import time
from collections.abc import Callable
from typing import Never

from actors.kernel.reference import Ref
from actors.messages import Dispatch, RequestMessage
from actors.running.rate import Departures
from actors.running.roster import Roster
from bus import errors
from bus.messages.base import SequenceId
from bus.messages.engine import Refused, Step, Submit
from bus.messages.generation import Refusal, RefusalCode


def engine_lost(how: str) -> Refusal:
    """What a sequence is told that would go on if it had another engine."""
    return Refusal(RefusalCode.ENGINE_LOST, f"the request lost its engine: {how}", retry_after_s=1.0)


def untaken(error: errors.BusError) -> Refusal:
    """What a sequence is told that could not be handed to an engine, or to the node that has one."""
    match error:
        case errors.Refused(refusal=refusal):
            return refusal
        case errors.TooLarge():
            message = f"the prompt is too long to be handed to its model ({error}): shorten it"
            return Refusal(RefusalCode.INVALID, message, param="prompt")
        case _:
            return engine_lost(str(error))


def perhaps_taken(error: errors.BusError) -> bool:
    """Whether a sequence may be computed all the same: that its answer is missing says nothing."""
    return not isinstance(error, errors.Refused | errors.TooLarge)


class Desk:
    """Who waits for what. Sequences that the engine does not have yet are queued here.

    What is over the bound is told when to come back, by how fast sequences came to their end of late.
    """

    def __init__(self, bound: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._roster = Roster(bound)
        self._bound, self._clock = bound, clock
        self._departures = Departures()

    def __len__(self) -> int:
        return len(self._roster)

    def take(self, message: Dispatch, refusal: Refusal | None) -> bool:
        """Take sequences on; or refuse them, with the given reason or because there are too many."""
        refusal = refusal or self._too_many(len(message.submits))
        if refusal is None:
            self._roster.add(message.submits, message.request)
            self._left(0)
            return True
        for submit in message.submits:
            message.request.post(Refused(sequence=submit.sequence, refusal=refusal))
        return False

    def queued(self) -> list[Submit]:
        """What waits for the engine, which has it from now on."""
        return self._roster.drain()

    def waiting(self) -> set[Ref[RequestMessage]]:
        """The Requests that have something waiting for the engine."""
        return self._roster.waiting_owners()

    def sequences(self) -> tuple[SequenceId, ...]:
        """All that is not finished."""
        return self._roster.sequences()

    def owners(self) -> set[Ref[RequestMessage]]:
        """All Requests that have something here."""
        return self._roster.all_owners()

    def deliver(self, step: Step) -> None:
        """Each Request gets its part of a step."""
        before = len(self._roster)
        for prefilled in step.prefilled:
            self.tell(prefilled.sequence, prefilled)
        for delta in step.deltas:
            self.tell(delta.sequence, delta)
            if delta.finish is not None:
                self._roster.remove(delta.sequence)
        for queued in step.queued:
            self.tell(queued.sequence, queued)
        self._left(before - len(self._roster))

    def tell(self, sequence: SequenceId, message: RequestMessage) -> None:
        """One sequence's news."""
        request = self._roster.owner(sequence)
        if request is not None and not request.post(message) and request.is_alive():
            # Only a Request that no longer runs can fall so far behind; its tokens would have a hole.
            request.kill("it does not take its tokens")
        if isinstance(message, Refused):
            self._roster.remove(sequence)
            self._left(0)

    def forget(self, request: Ref[Never]) -> tuple[SequenceId, ...]:
        """A Request has ended: returns what the engine computes for nobody now."""
        before = len(self._roster)
        with_engine = self._roster.remove_owner(request)
        self._left(before - len(self._roster))
        return with_engine

    def abandon(self, sequences: tuple[SequenceId, ...]) -> tuple[SequenceId, ...]:
        """Nobody wants these any more: returns those that the engine has."""
        before = len(self._roster)
        with_engine = self._roster.abandon(sequences)
        self._left(before - len(self._roster))
        return with_engine

    def refuse(self, sequences: tuple[SequenceId, ...], refusal: Refusal) -> None:
        """These end here."""
        for sequence in sequences:
            self.tell(sequence, Refused(sequence=sequence, refusal=refusal))

    def refuse_queued(self, refusal: Refusal) -> None:
        """What the engine does not have yet is not taken after all."""
        for sequence, request in self._roster.take_queued():
            request.post(Refused(sequence=sequence, refusal=refusal))
        self._left(0)

    def refuse_lost(self, how: str) -> None:
        """The engine is gone, and with it what it computed; what waits for one goes on waiting."""
        for sequence, request in self._roster.lose_engine():
            request.post(Refused(sequence=sequence, refusal=engine_lost(how)))
        self._left(0)

    def refuse_all(self, refusal: Refusal) -> None:
        """Everything ends here."""
        for sequence, request in self._roster.clear():
            request.post(Refused(sequence=sequence, refusal=refusal))
        self._left(0)

    def _left(self, count: int) -> None:
        """So many have come to their end; what was lost or refused says nothing of the pace."""
        self._departures.note(self._clock(), count, len(self._roster))

    def _too_many(self, count: int) -> Refusal | None:
        if self._roster.takes(count):
            return None
        if count > self._bound:
            message = (
                f"an instance takes {self._bound} answers at once; {count} were asked for: ask for fewer"
            )
            return Refusal(RefusalCode.INVALID, message, param="n")
        over = len(self._roster) + count - self._bound
        wait_s = self._departures.wait_s(self._clock(), over)
        message = (
            f"too many requests: {len(self._roster)} answers are under way or wait, of {self._bound} at most;"
            f" there will be room for {count} more in about {wait_s:.0f} s"
        )
        return Refusal(RefusalCode.OVERLOADED, message, retry_after_s=wait_s)
