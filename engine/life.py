"""The life of an engine process: wait for a Load, load, warm up, run, end."""

import logging
from pathlib import Path
from typing import Final, Protocol

from bus.keys import Keys
from bus.messages.engine import Bound, Budget, Connect, FromEngine, Load, Part, Phase, PhaseChange
from engine.border import limit_cache
from engine.constraints.grammars import Grammars
from engine.gauges import Gauges
from engine.inbox import Inbox
from engine.intake import Intake
from engine.loader import Loaded, LoadFailed, load, load_stage
from engine.outfit import equipment_of, guesser_of, keeper_of, prepare, shelf_of, tightest
from engine.ranks.conductor import Conductor, alone
from engine.ranks.crew import Crew, Unreachable
from engine.scheduling.batch import Batch
from engine.scheduling.loop import StepLoop
from engine.scheduling.pace import Pace
from engine.scheduling.rehearsal import rehearse
from engine.scheduling.warmup import LONG, SHORT, warm_up
from engine.text.reply import Reply
from engine.text.sequence import Sequence
from engine.threads import Threads
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
        self._budget: Budget | None = None
        """What came in since the order to load."""

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
        loaded = load(Path(order.path), order.context, self._tell, kv_bits=order.kv_bits)
        shelf = shelf_of(order, (0, loaded.stage.layers))
        grammars = Grammars(loaded.tokenizer)
        equipment = equipment_of(order, grammars, shelf)
        conductor = alone(loaded.stage, self._gauges, equipment)
        self._schedule(order, loaded, grammars, conductor, order.budget, shelf.kept if shelf else "")

    def _schedule(
        self,
        order: Load,
        loaded: Loaded,
        grammars: Grammars,
        conductor: Conductor,
        budget: Budget | None,
        kept: str,
    ) -> None:
        self._link.post(PhaseChange(Phase.WARMING, "first steps"))
        if budget is not None:
            limit_cache(budget.cache_bytes)
        batches = [Batch(conductor, lane) for lane in range(conductor.lanes)]
        # The measure of a long prompt can wait where people wait already: the pace is learnt from theirs.
        longest = min(SHORT if order.hurry else LONG, loaded.context)
        tokens = len(loaded.tokenizer)
        warm = warm_up(conductor, batches[0], Pace(order.pace_s), longest, tokens, self._threads)
        if not order.hurry:
            prepare(grammars)
        keeper = keeper_of(order, loaded, conductor, warm.footprint, budget, kept)
        intake = Intake(
            loaded.tokenizer,
            loaded.context,
            warm.vocabulary,
            loaded.habits,
            grammars=grammars,
            room=lambda: keeper.room,
            embeds=conductor.embeds,
        )
        rehearse(intake, lambda job: sequence_of(job, loaded))
        self._link.serve(intake)
        loop = StepLoop(
            stepper=conductor,
            batches=batches,
            sequence_of=lambda job: sequence_of(job, loaded),
            vocabulary=warm.vocabulary,
            inbox=self._inbox,
            post=self._link.post,
            gauges=self._gauges,
            pace=warm.pace,
            max_running=order.max_running,
            threads=self._threads,
            keeper=keeper,
            guesser=guesser_of(order, loaded),
        )
        self._link.post(PhaseChange(Phase.READY, "ready", context=loaded.context))
        loop.run()

    # -- one rank of several ---------------------------------------------------------------------

    def _be_one(self, order: Load, part: Part) -> None:
        shelf = shelf_of(order, part.layers[part.stage])
        crew = Crew(part, self._inbox, self._gauges, self._keys)
        try:
            self._link.post(Bound(crew.hop, crew.ring, shelf.kept if shelf else ""))
            self._link.post(PhaseChange(Phase.WAITING, "for the other ranks to listen"))
            others = self._wait_for_connect()
            self._link.post(PhaseChange(Phase.CONNECTING, f"to {part.ranks - 1} other ranks"))
            crew.connect(others)
            share = crew.share(order.kv_bits)
            if part.rank:
                stage, tokenizer = load_stage(Path(order.path), share, self._tell)
                grammars = Grammars(tokenizer) if tokenizer is not None else None
                if grammars is not None and not order.hurry:
                    prepare(grammars)
                follower = crew.follow(stage, equipment_of(order, grammars, shelf))
                if others.kept:
                    follower.restore(others.kept)
                if (budget := self._budget or order.budget) is not None:
                    limit_cache(budget.cache_bytes)
                self._link.post(PhaseChange(Phase.READY, "ready"))
                follower.run()
            else:
                loaded = load(Path(order.path), order.context, self._tell, share)
                grammars = Grammars(loaded.tokenizer)
                conductor = crew.lead(loaded.stage, equipment_of(order, grammars, shelf))
                budget = tightest(self._budget or order.budget, part, others.kv_bytes)
                self._schedule(order, loaded, grammars, conductor, budget, others.kept)
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
                case Budget() as budget:
                    self._budget = budget
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
    return Sequence(job, tokenizer.eos, detokenizer, Reply(splitter, tools, job.calls), loaded.speller)
