"""Runs a small system command for its output, and takes its absence for an answer."""

import subprocess


def output(*command: str, timeout_s: float = 2.0) -> str | None:
    """What the command prints; None: it is not there, failed, or took longer than the deadline."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=True, encoding="utf-8")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
