"""What a person reads on the terminal when a node, or what looks at one, does not go on."""

import sys


def fail(message: str) -> None:
    """Why it does not go on: one line on standard error."""
    print(f"exo_actors: {' '.join(message.split())}", file=sys.stderr, flush=True)
