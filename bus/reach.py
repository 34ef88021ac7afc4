"""At which of this machine's addresses others reach it, where it listens on all of them."""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import psutil

from bus.cluster import parse

_FAR_AWAY: Final = "198.51.100.1"
"""An address of nobody (RFC 5737), which the default route leads to."""
_ANY_PORT: Final = 9


def own_address(listen: str, peers: Iterable[str] = ()) -> str:
    """What to tell others to call, if this machine listens there.

    An address that is one stays as it is. Of a machine with several, it is the one at which the way to the
    first of `peers` begins (HOST:PORT; names are not looked up), else the way to the world, else the first.

    >>> own_address("192.168.1.20")
    '192.168.1.20'
    >>> own_address("0.0.0.0", ["127.0.0.1:52416"])
    '127.0.0.1'
    """
    if not is_wildcard(listen):
        return listen
    hosts = [host for peer in peers if _is_address(host := parse(peer).host)]
    ways = (_way_to(host) for host in [*hosts[:1], _FAR_AWAY])
    found = [way for way in ways if way is not None] + all_addresses()
    return found[0] if found else "127.0.0.1"


def all_addresses() -> list[str]:
    """Every IPv4 address of this machine, but for those that mean itself on each."""
    found = (each for interface in psutil.net_if_addrs().values() for each in interface)
    addresses = (each.address for each in found if each.family is socket.AF_INET)
    return [address for address in addresses if not ipaddress.ip_address(address).is_loopback]


def is_wildcard(listen: str) -> bool:
    """Whether it stands for all addresses of a machine, as 0.0.0.0 does."""
    return _is_address(listen) and ipaddress.ip_address(listen).is_unspecified


def is_local(host: str) -> bool:
    """Whether each machine means itself by it."""
    return host == "localhost" or host.startswith("127.")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _way_to(host: str) -> str | None:
    """This machine's address on the way there; None: there is no way. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _ANY_PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])
