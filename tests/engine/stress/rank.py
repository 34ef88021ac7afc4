"""A process that is one rank: rank 0 has the traffic, the others follow; what they print, `crew` reads."""

from __future__ import annotations

import sys

import msgspec

from host import blas


class Order(msgspec.Struct, frozen=True):
    """What a rank is told on its command line."""

    rank: int
    architecture: str
    division: str
    kv_bits: int | None
    guessed: str
    seeds: tuple[int, ...]
    requests: int
    root: str


class Listens(msgspec.Struct, frozen=True):
    """What it prints first."""

    hop: str
    ring: str


class Ran(msgspec.Struct, frozen=True):
    """What rank 0 prints after each seed's traffic."""

    seed: int
    tokens: int
    worst: float
    failed: str = ""


def main() -> None:
    blas.preload()  # before MLX is imported
    from tests.engine.stress.crew import be_one

    be_one(msgspec.json.decode(sys.argv[1], type=Order))


if __name__ == "__main__":
    main()
