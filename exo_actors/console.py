"""What a person, or a program that started the node, reads on the terminal."""

import sys


def announce(url: str) -> None:
    """The node serves: its address is the first line on standard output, how to stop it the second."""
    print(url, flush=True)
    print(f"Open {url} in a browser. Ctrl-C stops the node.", flush=True)


def fail(message: str) -> None:
    """Why it does not go on: one line on standard error."""
    print(f"exo_actors: {' '.join(message.split())}", file=sys.stderr, flush=True)
