"""Whether MLX can use RDMA here, from what the system's own commands say.

Untested on hardware: what is read are outputs that others have published, of macOS 26.2 with Thunderbolt 5
and of Linux with InfiniBand.
"""

import platform
import re
from dataclasses import dataclass
from typing import Final

from host import commands

_DEVICE: Final = re.compile(r"^\s*hca_id:\s*(\S+)", re.MULTILINE)
_STATE: Final = re.compile(r"^\s*state:\s*PORT_(\w+)", re.MULTILINE)

ENABLE: Final = "start in Recovery, run `rdma_ctl enable` in its Terminal, and start again"


@dataclass(frozen=True, slots=True)
class Rdma:
    """What there is of RDMA."""

    devices: tuple[str, ...]
    """Those with a port that is connected, by the names that MLX takes; none: it can't be used."""
    problem: str = ""
    """Why it can't be used, and what to do; empty when it can."""


def read() -> Rdma:
    """RDMA on this machine. Blocks for some ten milliseconds: it asks the system's own commands."""
    devices = commands.output("ibv_devinfo")
    if platform.system() == "Darwin":
        return on_macos(commands.output("rdma_ctl", "status"), devices)
    return on_linux(devices)


def on_macos(status: str | None, devices: str | None) -> Rdma:
    """From `rdma_ctl status` and `ibv_devinfo`; None: there is no such command, or it failed."""
    if status is None:
        return Rdma((), "this macOS knows no RDMA: it takes macOS 26.2 or later, and Thunderbolt 5")
    if status.strip().lower() != "enabled":
        return Rdma((), f"RDMA is switched off: {ENABLE}")
    ports = parse_devinfo(devices or "")
    if not ports:
        return Rdma((), "RDMA is switched on, but there is no device: it takes Thunderbolt 5")
    active = tuple(name for name, states in ports.items() if "ACTIVE" in states)
    if not active:
        return Rdma((), f"no cable is connected to {', '.join(ports)}: connect Thunderbolt 5 ports directly")
    return Rdma(active)


def on_linux(devices: str | None) -> Rdma:
    """From `ibv_devinfo`: only to say what is there, since MLX for Linux is built without jaccl."""
    ports = parse_devinfo(devices or "")
    if not ports:
        return Rdma((), "there is no RDMA device")
    return Rdma((), f"{', '.join(ports)} is there, but MLX uses RDMA on macOS only")


def parse_devinfo(text: str) -> dict[str, tuple[str, ...]]:
    """The devices that `ibv_devinfo` lists, and the states of each one's ports, such as ACTIVE and DOWN."""
    names = list(_DEVICE.finditer(text))
    ends = [*(name.start() for name in names[1:]), len(text)]
    return {
        name[1]: tuple(_STATE.findall(text, name.end(), end)) for name, end in zip(names, ends, strict=False)
    }
