"""What a person may set about engines."""

from dataclasses import dataclass, field
from pathlib import Path

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
    prefixes: bool = True
    """See Load, and so for the next three."""
    prefixes_dir: Path | None = None
    """Where each model has a folder for its prefixes; None: they are kept in memory only."""
    prefixes_disk_bytes: int = 8 * 2**30
    speculate: bool = True
    kv_memory: int | None = None
    """Bytes of KV cache on this node, all engines together, at most; None: what its memory allows."""
