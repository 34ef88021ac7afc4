"""`python -m exo_actors doctor`: checks this machine, one line each, and says what to do."""

import platform
from collections.abc import Iterator

from exo_actors.findings import Finding, Verdict
from exo_actors.settings import Settings


def report(settings: Settings) -> int:
    """Print each finding as it is made; returns the exit code: 0 unless something fails."""
    verdicts = []
    for finding in examine(settings):
        print(finding, flush=True)
        verdicts.append(finding.verdict)
    return 1 if Verdict.FAIL in verdicts else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings; what needs packages is looked at only where those are there."""
    yield _python()
    try:
        from exo_actors.checks import CHECKS
    except ImportError as error:
        yield Finding(
            Verdict.FAIL, f"packages: {error}", "start with scripts/run, which installs what is missing"
        )
        return
    for check in CHECKS:
        yield from check(settings)


def _python() -> Finding:
    return Finding(
        Verdict.OK, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
