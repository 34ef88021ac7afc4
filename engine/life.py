"""The life of an engine process: wait for a Load, load, warm up, run, end."""

import logging
from pathlib import Path
from typing import Final, Protocol

from bus.keys import Keys
from bus.messages.engine import Bound, Connect, FromEngine, Load, Part, Phase, PhaseChange
from engine.batch import Batch
from engine.conductor import alone
from engine.crew import Crew, Unreachable
from engine.follower import Follower
from engine.gauges import Gauges
from engine.inbox import Inbox
from engine.intake import Intake
from engine.loader import Loaded, LoadFailed, load, load_stage
from engine.loop import StepLoop
from engine.pace import Pace
from engine.reply import Reply
from engine.sequence import Sequence
from engine.steps import Stepper
from engine.threads import Threads
from engine.warmup import LONG, SHORT, warm_up
from engine.work import End, Job

logger = logging.getLogger(__name__)

OK: Final = 0
FAILED: Final = 1


class Line(Protocol):
    """The link, as far as this needs it."""

    def post(self, message: FromEngine) -> None: ...
    def serve(self, intake: Intake) -> None: ...


class _Ended(Exception):
    """An End came before there was anything to run."""


def live(link: Line, inbox: Inbox, gauges: Gauges, threads: Threads, keys: Keys | None = None) -> int:
    """Returns the process's exit code. `keys`: what the ranks of an instance know each other by."""
    return _Life(link, inbox, gauges, threads, keys).live()


class _Life:
    def __init__(self, link: Line, inbox: Inbox, gauges: Gauges, threads: Threads, keys: Keys | None) -> None:
        self._link = link
        self._inbox = inbox
        self._gauges = gauges
        self._threads = threads
        self._keys = keys

    def live(self) -> int:
        try:
            order = self._wait_for_load()
            if order.part is None or order.part.ranks == 1:
                self._be_all(order)
            else:
                self._be_one(order, order.part)
        except _Ended:
            return OK
        except (LoadFailed, Unreachable) as failure:
            return self._fail(str(failure))
        except Exception as error:
            logger.exception("the engine failed")
            return self._fail(_why(error))
        return OK

    # -- alone -----------------------------------------------------------------------------------

    def _be_all(self, order: Load) -> None:
        loaded = load(Path(order.path), order.context, self._tell)
        self._schedule(order, loaded, alone(loaded.stage, self._gauges))

    def _schedule(self, order: Load, loaded: Loaded, stepper: Stepper) -> None:
        self._link.post(PhaseChange(Phase.WARMING, "first steps"))
        batches = [Batch(stepper, lane) for lane in range(stepper.lanes)]
        # The measure of a long prompt can wait where people wait already: the pace is learnt from theirs.
        longest = min(SHORT if order.hurry else LONG, loaded.context)
        tokens = len(loaded.tokenizer)
        warm = warm_up(stepper, batches[0], Pace(order.pace_s), longest, tokens, self._threads)
        self._link.serve(Intake(loaded.tokenizer, loaded.context, warm.vocabulary, loaded.habits))
        loop = StepLoop(
            stepper=stepper,
            batches=batches,
            sequence_of=lambda job: sequence_of(job, loaded),
            vocabulary=warm.vocabulary,
            inbox=self._inbox,
            post=self._link.post,
            gauges=self._gauges,
            pace=warm.pace,
            max_running=order.max_running,
            threads=self._threads,
        )
        self._link.post(PhaseChange(Phase.READY, "ready", context=loaded.context))
        loop.run()

    # -- one rank of several ---------------------------------------------------------------------

    def _be_one(self, order: Load, part: Part) -> None:
        crew = Crew(part, self._inbox, self._gauges, self._keys)
        try:
            self._link.post(Bound(crew.hop, crew.ring))
            self._link.post(PhaseChange(Phase.WAITING, "for the other ranks to listen"))
            others = self._wait_for_connect()
            self._link.post(PhaseChange(Phase.CONNECTING, f"to {part.ranks - 1} other ranks"))
            crew.connect(others)
            if part.rank:
                stage = load_stage(Path(order.path), crew.share, self._tell)
                follower: Follower = crew.follow(stage)
                self._link.post(PhaseChange(Phase.READY, "ready"))
                follower.run()
            else:
                loaded = load(Path(order.path), order.context, self._tell, crew.share)
                self._schedule(order, loaded, crew.lead(loaded.stage))
        finally:
            crew.close()

    # -- what comes in and goes out --------------------------------------------------------------

    def _wait_for_load(self) -> Load:
        while True:
            match self._inbox.get():
                case Load() as order:
                    return order
                case End():
                    raise _Ended
                case _:
                    continue

    def _wait_for_connect(self) -> Connect:
        while True:
            match self._inbox.get():
                case Connect() as order:
                    return order
                case End():
                    raise _Ended
                case _:
                    continue

    def _tell(self, doing: str, progress: float | None) -> None:
        self._link.post(PhaseChange(Phase.LOADING, doing, progress))

    def _fail(self, reason: str) -> int:
        self._link.post(PhaseChange(Phase.FAILED, reason))
        return FAILED


def _why(error: Exception) -> str:
    """Why a model that was loaded could not go on, and what to do, for a person to read."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, MemoryError) or "alloc" in text.lower():
        return f"out of memory while computing ({text}): free memory, or load with a smaller context"
    return f"the model failed while computing ({type(error).__name__}: {text}): see the engine's log"


def sequence_of(job: Job, loaded: Loaded) -> Sequence:
    """What turns a job's tokens into its answer, for this model."""
    tokenizer = loaded.tokenizer
    tools = tokenizer.tool_format(job.tools) if job.parsed and job.tools else None
    splitter = None
    if job.parsed and (tools is not None or tokenizer.has_markers):
        splitter = tokenizer.splitter(tools is not None, job.reasoning)
    detokenizer = loaded.speller.detokenizer(job.continues)
    return Sequence(job, tokenizer.eos, detokenizer, Reply(splitter, tools), loaded.speller)
