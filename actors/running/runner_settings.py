"""What a person may set about engines."""

from dataclasses import dataclass, field

from actors.running.watchdog import Deadlines


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """The same for all instances of a node."""

    pace_s: float
    """See Load."""
    max_running: int = 64
    max_sequences: int = 512
    """Running and waiting together; more are refused."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    patience_s: float = 5.0
    """For an engine that was asked to stop."""
