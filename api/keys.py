"""The keys that clients may show, what each of them may use, and the file that they are read from."""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

_SHA256_BYTES: Final = 32
_OTHERS: Final = "others"


@dataclass(frozen=True)
class Grant:
    """What some clients may use, together. None is no limit."""

    name: str
    priority: int = 0
    """Who has more of it is served first."""
    running: int | None = None
    """Requests at once."""
    requests_per_minute: int | None = None


EVERYBODY: Final = Grant("everybody")


@dataclass(frozen=True)
class Keys:
    """Whom which key stands for. Of the keys only SHA-256 digests are kept, and those are never shown."""

    grants: tuple[tuple[bytes, Grant], ...] = field(default=(), repr=False)
    others: Grant | None = EVERYBODY
    """For who shows no key, or one that is not among them; None: they are not let in."""

    def grant(self, key: str) -> Grant | None:
        """What who shows this key may use; None: nothing.

        Every key is compared to its end, so that the time that it takes tells nothing about them.
        """
        shown = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = self.others
        for digest, grant in self.grants:
            if hmac.compare_digest(digest, shown):
                found = grant
        return found


class KeysError(Exception):
    """A file of keys can't be used; says why, without any key."""


def read_keys(path: Path) -> Keys:
    """The keys of a JSON file. Raises KeysError.

    ```
    {
      "keys": [
        {"key": "sk-alice", "name": "alice", "priority": 1, "running": 4, "requests_per_minute": 60},
        {"sha256": "9f86d0…", "name": "batch jobs", "priority": -1}
      ],
      "others": {"running": 8}
    }
    ```

    Of each key either itself or its SHA-256 digest, in hexadecimal, is given. Without `others`, or where
    that is null, nobody is let in who shows none of these keys.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise KeysError(f"the API keys can't be read from {path}: {error.strerror}") from None
    try:
        body = msgspec.json.decode(text, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} is no file of API keys: {error}") from None
    try:
        return Keys(tuple(_grants(body.keys)), body.others.grant(_OTHERS) if body.others else None)
    except ValueError as error:
        raise KeysError(f"{path}: {error}") from None


_Limit = Annotated[int, Meta(ge=1, le=1_000_000)]


class _Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    running: _Limit | None = None
    requests_per_minute: _Limit | None = None

    def grant(self, name: str) -> Grant:
        return Grant(name, self.priority, self.running, self.requests_per_minute)


class _Key(_Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str | None = None
    sha256: str | None = None
    name: str | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[_Key, ...] = ()
    others: _Limits | None = None


def _grants(keys: Sequence[_Key]) -> Iterator[tuple[bytes, Grant]]:
    """Each key's digest and grant. Raises ValueError."""
    known: dict[bytes, str] = {}
    for number, key in enumerate(keys, 1):
        name = key.name or f"key {number}"
        digest = _digest(key, f"key {number}" + (f" ({key.name})" if key.name else ""))
        if digest in known:
            raise ValueError(f"{name} and {known[digest]} are the same key")
        if name in (_OTHERS, *known.values()):
            raise ValueError(f"two keys are called '{name}': give them names that tell them apart")
        known[digest] = name
        yield digest, key.grant(name)


def _digest(key: _Key, which: str) -> bytes:
    match key.key, key.sha256:
        case str(text), None if text.strip() == text != "":
            return hashlib.sha256(text.encode()).digest()
        case str(), None:
            raise ValueError(f"{which} is empty, or has spaces around it")
        case None, str(text):
            try:
                digest = bytes.fromhex(text)
            except ValueError:
                digest = b""
            if len(digest) != _SHA256_BYTES:
                raise ValueError(f"the `sha256` of {which} is not a digest of 64 hexadecimal digits")
            return digest
        case _:
            raise ValueError(f"{which} needs either `key` or `sha256`")
