"""What the HTTP server is told when it is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


def no_counts() -> Mapping[str, int]:
    """The counts of a bus that is not there."""
    return {}


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """Where to listen, what to serve, and how long to wait for what."""

    host: str = "127.0.0.1"
    port: int = 52415
    """0 picks a free one."""
    page: bool = True
    """Serve the status page at `/`."""
    version: str = "0"
    facts_endpoint: str = ""
    """Where the node's facts can be subscribed to, for `/v1/cluster`."""
    bus_counts: Callable[[], Mapping[str, int]] = no_counts
    """What the bus dropped so far, by reason."""
    max_body_bytes: int = 16 * 2**20
    body_s: float = 60.0
    """The longest that a request's body may take to arrive."""
    hold_s: float = 3.0
    """A stream's headers wait this long for its admission, so that a refusal gets its real status."""
    keep_alive_s: float = 5.0
    """A stream that has nothing to say sends a comment this often."""
    stall_s: float = 300.0
    """A client that reads nothing for this long is taken for gone."""
    shutdown_s: float = 5.0
    """The longest that running answers may take to end when the server stops."""
