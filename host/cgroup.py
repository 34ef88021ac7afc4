"""The limits that Linux's control groups (version 2) put on this process, such as a container's."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


def folders(root: Path = ROOT, membership: Path = SELF) -> Iterator[Path]:
    """This process's group and each one above it: of their limits, the strictest counts.

    Nothing, where there are no control groups or only those of version 1.
    """
    try:
        group = parse_group(membership.read_text())
    except OSError:
        return
    if group is not None:
        yield from (root / folder.relative_to("/") for folder in (group, *group.parents))


def setting(folder: Path, name: str) -> str:
    """What a group's file says; empty where there is none: the root group has no limits, and a container
    can't see the groups above its own."""
    try:
        return (folder / name).read_text().strip()
    except OSError:
        return ""


def parse_group(text: str) -> PurePosixPath | None:
    """The group in `/proc/self/cgroup`: the one line of hierarchy 0; None: version 1 only.

    >>> parse_group("1:name=systemd:/\\n0::/system.slice/exo.service\\n")
    PurePosixPath('/system.slice/exo.service')
    """
    for line in text.splitlines():
        hierarchy, _, rest = line.partition("::")
        if hierarchy == "0" and rest.startswith("/"):
            return PurePosixPath(rest.removesuffix(" (deleted)"))
    return None
