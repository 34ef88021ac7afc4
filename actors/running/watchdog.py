"""Notices an engine that makes no progress: every phase has a deadline that progress renews."""

from dataclasses import dataclass

from bus.messages.engine import Beat, Phase, PhaseChange


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds without progress after which an engine counts as stuck."""

    start_s: float = 15.0
    """From the start of its process to its first word, which it says before it imports MLX."""
    begin_s: float = 60.0
    """From there until it begins to load: MLX is imported, perhaps from a slow disk."""
    ranks_s: float = 60.0
    """For the other ranks of its instance to listen as well."""
    connect_s: float = 45.0
    """For the ranks to connect to each other."""
    load_s: float = 120.0
    """Between two bits of progress while it loads."""
    warm_s: float = 120.0
    beat_s: float = 4.0
    """Between two beats, which come twice a second."""
    step_s: float = 60.0
    """For one step while sequences are running."""


class Watchdog:
    """What an engine was last seen doing, and whether that was too long ago. Times are monotonic seconds."""

    def __init__(self, deadlines: Deadlines, now: float) -> None:
        self._deadlines = deadlines
        self._phase = Phase.CONNECTING
        self._progressed = now
        self._beat_at = now
        self._steps = -1
        self._until_loading = ("the engine process did not start", deadlines.start_s)
        self._awaited = ""

    def arrived(self, now: float) -> None:
        """The engine said its first word."""
        self._until_loading = ("the engine did not begin to load", self._deadlines.begin_s)
        self._progressed = now

    def awaits_ranks(self, now: float) -> None:
        """The engine listens, and waits until all others do."""
        self._until_loading = ("the other ranks did not come", self._deadlines.ranks_s)
        self._progressed = now

    def awaits_connections(self, now: float) -> None:
        """The engine was told where the others listen."""
        self._until_loading = ("the ranks did not connect", self._deadlines.connect_s)
        self._progressed = now

    def woke(self, now: float) -> None:
        """Who watches had stopped: whatever it waits for has its whole time again."""
        self._progressed = self._beat_at = now

    def phase_changed(self, change: PhaseChange, now: float) -> None:
        """The engine said where it is."""
        self._phase = change.phase
        self._progressed = self._beat_at = now

    def beaten(self, beat: Beat, now: float) -> None:
        """The engine's pulse: it makes progress if it steps on, or if it has nothing to do."""
        self._beat_at = now
        self._awaited = beat.waiting_for
        idle = beat.running == 0 and beat.prefilling == 0 and beat.waiting == 0
        if beat.steps != self._steps or (idle and self._phase is Phase.READY):
            self._steps = beat.steps
            if self._phase is Phase.READY:
                self._progressed = now

    def overdue(self, now: float) -> str | None:
        """Why the engine counts as stuck, for a person to read; None: it does not."""
        silent, still = now - self._beat_at, now - self._progressed
        limits = self._deadlines
        match self._phase:
            case Phase.CONNECTING | Phase.WAITING | Phase.DOWNLOADING:
                what, limit_s = self._until_loading
                return _late(what, still, limit_s)
            case Phase.LOADING:
                return _late("loading made no progress", still, limits.load_s)
            case Phase.WARMING:
                return _late("the first computation did not end", still, limits.warm_s)
            case Phase.READY | Phase.DRAINING:
                culprit = self._awaited or "the engine"
                return _late("the engine gave no sign of life", silent, limits.beat_s) or _late(
                    f"{culprit} made no step", still, limits.step_s
                )
            case Phase.STOPPED | Phase.FAILED:
                return None


def _late(what: str, waited_s: float, limit_s: float) -> str | None:
    return f"{what} for {waited_s:.0f} s" if waited_s > limit_s else None
