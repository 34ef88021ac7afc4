"""The life of an engine process: wait for a Load, load, warm up, run, end."""

import logging
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol

from bus.messages.engine import FromEngine, Load, Phase, PhaseChange
from engine.batch import Batch
from engine.border import Generator
from engine.gauges import Gauges
from engine.intake import Intake
from engine.loader import Loaded, LoadFailed, load
from engine.loop import StepLoop
from engine.pace import Pace
from engine.reply import Reply
from engine.sampling import BatchSampler
from engine.sequence import Sequence
from engine.threads import Threads
from engine.warmup import warm_up
from engine.work import End, Job, Work

logger = logging.getLogger(__name__)

OK: Final = 0
FAILED: Final = 1


class Line(Protocol):
    """The link, as far as this needs it."""

    def post(self, message: FromEngine) -> None: ...
    def serve(self, intake: Intake) -> None: ...


def live(link: Line, inbox: "SimpleQueue[Work]", gauges: Gauges, threads: Threads) -> int:
    """Returns the process's exit code."""
    order = _wait_for_load(inbox)
    if order is None:
        return OK
    try:
        loaded = _load(order, link)
        loop = _make_loop(order, loaded, link, inbox, gauges, threads)
        link.post(PhaseChange(Phase.READY, "ready", context=loaded.context))
        loop.run()
    except LoadFailed as failure:
        return _fail(link, str(failure))
    except Exception as error:
        logger.exception("the engine failed")
        return _fail(link, _why(error))
    return OK


def _why(error: Exception) -> str:
    """Why a model that was loaded could not go on, and what to do, for a person to read."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, MemoryError) or "alloc" in text.lower():
        return f"out of memory while computing ({text}): free memory, or load with a smaller context"
    return f"the model failed while computing ({type(error).__name__}: {text}): see the engine's log"


def _wait_for_load(inbox: "SimpleQueue[Work]") -> Load | None:
    while True:
        match inbox.get():
            case Load() as order:
                return order
            case End():
                return None
            case _:
                continue


def _load(order: Load, link: Line) -> Loaded:
    def tell(doing: str, progress: float | None) -> None:
        link.post(PhaseChange(Phase.LOADING, doing, progress))

    return load(Path(order.path), order.context, tell)


def _make_loop(
    order: Load,
    loaded: Loaded,
    link: Line,
    inbox: "SimpleQueue[Work]",
    gauges: Gauges,
    threads: Threads,
) -> StepLoop:
    link.post(PhaseChange(Phase.WARMING, "first steps"))
    sampler = BatchSampler()
    batch = Batch(Generator(loaded.network, sampler, order.max_running), sampler)
    warm = warm_up(batch, Pace(order.pace_s), loaded.context, len(loaded.tokenizer), threads)
    link.serve(Intake(loaded.tokenizer, loaded.context, warm.vocabulary, loaded.habits))
    return StepLoop(
        batch=batch,
        sequence_of=lambda job: sequence_of(job, loaded),
        vocabulary=warm.vocabulary,
        inbox=inbox,
        post=link.post,
        gauges=gauges,
        pace=warm.pace,
        max_running=order.max_running,
        threads=threads,
    )


def sequence_of(job: Job, loaded: Loaded) -> Sequence:
    """What turns a job's tokens into its answer, for this model."""
    tokenizer = loaded.tokenizer
    tools = tokenizer.tool_format(job.tools) if job.parsed and job.tools else None
    splitter = None
    if job.parsed and (tools is not None or tokenizer.has_markers):
        splitter = tokenizer.splitter(tools is not None, job.reasoning)
    detokenizer = loaded.speller.detokenizer(job.continues)
    return Sequence(job, tokenizer.eos, detokenizer, Reply(splitter, tools), loaded.speller)


def _fail(link: Line, reason: str) -> int:
    link.post(PhaseChange(Phase.FAILED, reason))
    return FAILED
