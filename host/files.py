"""Files that are made once and then only read, such as a node's id and a cluster's key."""

import os
import tempfile
from pathlib import Path


def write_once(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner only, and the first writer wins. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # fails where the name exists
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
