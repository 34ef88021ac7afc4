"""What a person reads about a choice and about what was ruled out."""

from collections.abc import Iterable, Sequence


def gib(size_bytes: int) -> str:
    """Such as "12.1 GiB"; small sizes in MiB.

    >>> gib(13_000_000_000), gib(3_000_000)
    ('12.1 GiB', '2.9 MiB')
    """
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 // 10 else f"{size_bytes / 2**20:.1f} MiB"


def listed(words: Iterable[str]) -> str:
    """A list as it is read.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def division(names: Sequence[Sequence[str]], layers: Sequence[int]) -> str:
    """Who takes what. `names`: those of each stage's nodes.

    >>> division([["studio"], ["mini"]], [20, 12])
    '2 stages on studio (20 layers) and mini (12)'
    """
    if len(names) == 1:
        return f"tensor over {listed(names[0])}" if len(names[0]) > 1 else f"{names[0][0]} alone"
    unit = [" layers" if layers[0] != 1 else " layer", *[""] * (len(layers) - 1)]
    parts = [
        f"{' + '.join(group)} ({count}{word})" for group, count, word in zip(names, layers, unit, strict=True)
    ]
    ranks = f" of {len(names[0])} tensor ranks" if len(names[0]) > 1 else ""
    return f"{len(names)} stages{ranks} on {listed(parts)}"


def speed(tokens_per_s: float) -> str:
    """What to expect, without pretending to know it exactly.

    >>> speed(31.4159), speed(3.14159)
    ('31 tokens/s expected', '3.1 tokens/s expected')
    """
    digits = 0 if tokens_per_s >= 10 else 1
    return f"{tokens_per_s:.{digits}f} tokens/s expected"


def shortage(needed: int, free: int) -> str:
    """Why something does not fit."""
    return f"{gib(needed)} of {gib(free).removesuffix(' GiB')} free"
