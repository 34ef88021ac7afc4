"""From the text of a setting to its value; each raises ValueError in words for a person."""

import ipaddress
import math
from pathlib import Path
from urllib.parse import urlsplit

TRUTHS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def text(given: str) -> str:
    """Any text that is not empty."""
    if not given.strip():
        raise ValueError("it is empty")
    return given.strip()


def path(given: str) -> Path:
    """A path, absolute from here on: the node may change its folder."""
    try:
        return Path(text(given)).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{given!r} is in nobody's home: there is no such user") from None


def port(given: str) -> int:
    """0 to 65535."""
    if not (given.isascii() and given.isdigit()) or int(given) > 65535:
        raise ValueError(f"{given!r} is not a port (0 to 65535)")
    return int(given)


def address(given: str) -> str:
    """One IPv4 address at which others can reach this machine."""
    try:
        parsed = ipaddress.IPv4Address(given.strip())
    except ValueError:
        raise ValueError(f"{given!r} is not an IPv4 address of this machine, such as 192.168.1.20") from None
    if parsed.is_unspecified:
        # It is told to other nodes and to engines, which connect to it.
        raise ValueError(f"{given!r} is no address that others can reach: give this machine's own")
    return str(parsed)


def peer(given: str) -> str:
    """HOST:PORT of another node's bus; an IPv6 address has no place there."""
    host, _, number = given.strip().rpartition(":")
    digits = number.isascii() and number.isdigit() and 0 < int(number) < 2**16
    if not digits or not host or any(each.isspace() or each in ":/[]@" for each in host):
        raise ValueError(f"{given!r} is no node's HOST:PORT, such as 192.168.1.20:52416")
    return f"{host}:{number}"


def count(given: str) -> int:
    """A whole number above 0."""
    if not (given.isascii() and given.isdigit()) or int(given) == 0:
        raise ValueError(f"{given!r} is not a whole number above 0")
    return int(given)


_UNITS = {
    "": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}

_LARGEST = 2**63 - 1
"""What the bus can tell."""


def size(given: str) -> int:
    """Bytes above 0, in the usual units: KB, MB, GB and TB of thousands, KiB to TiB of 1024.

    >>> size("512MB"), size("1.5 GiB"), size("4096")
    (512000000, 1610612736, 4096)
    """
    word = given.strip().lower()
    number = word.rstrip("bikmgt ")
    unit = word[len(number) :].strip()
    whole, _, fraction = number.partition(".")
    digits = len(number) < 20 and all(part.isascii() and part.isdigit() for part in (whole, fraction or "0"))
    if not digits or unit not in _UNITS or (count := int(float(number) * _UNITS[unit])) < 1:
        raise ValueError(f"{given!r} is not a size in bytes, such as 4GB or 512MB")
    if count > _LARGEST:
        raise ValueError(f"{given!r} is more than any machine has")
    return count


def positive(given: str) -> float:
    """A finite number above 0."""
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not (0 < number < math.inf):
        raise ValueError(f"{given!r} is not a number above 0")
    return number


def truth(given: str) -> bool:
    """Yes or no, in one of the usual words."""
    if given.lower() not in TRUTHS:
        raise ValueError(f"{given!r} is neither 1 nor 0")
    return TRUTHS[given.lower()]


def url(given: str) -> str:
    """A node's address without a path, such as http://127.0.0.1:52415."""
    parts = urlsplit(given if "://" in given else f"http://{given}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{given!r} is not a node's address, such as http://127.0.0.1:52415")
    return f"{parts.scheme}://{parts.netloc}"


def node_url(host: str, number: int) -> str:
    """Where a node that listens on `host` is found from this machine.

    >>> node_url("::1", 52415)
    'http://[::1]:52415'
    """
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{number}" if ":" in reachable else f"http://{reachable}:{number}"
