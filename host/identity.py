"""Who this node is: an id that is made once and kept, and a name for people."""

import platform
import re
import secrets
from pathlib import Path

from bus.messages.base import NodeId
from host.files import write_once

ID_FILE = "node.id"
NAME_LENGTH = 63


class IdentityError(Exception):
    """The node's id can't be read or made, and what to do about it."""


def node_id(data_dir: Path) -> NodeId:
    """The id in `data_dir`, made if there is none; two nodes that start at once there get the same one."""
    path = data_dir / ID_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_once(path, secrets.token_hex(8))
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise IdentityError(
            f"{path}: {error.strerror}; make {data_dir} writable or give --data-dir"
        ) from error
    if not re.fullmatch(r"[0-9a-f]{16}", text):
        raise IdentityError(f"{path} does not hold a node's id; remove it, and a new one will be made")
    return NodeId(text)


def node_name(wish: str | None = None) -> str:
    """What people call this node: what they wish, or the host's name without its domain."""
    return clean(wish if wish is not None else platform.node().partition(".")[0]) or "node"


def clean(name: str) -> str:
    """One line of visible text, at most 63 characters.

    >>> clean("  Anna's\\tMac \\n")
    "Anna's Mac"
    """
    visible = "".join(character if character.isprintable() else " " for character in name)
    return " ".join(visible.split())[:NAME_LENGTH].rstrip()
