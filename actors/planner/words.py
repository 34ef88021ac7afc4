"""What a person reads about a choice, about what was ruled out, and when nothing is possible."""

from collections.abc import Iterable, Sequence
from typing import Final

from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Previews, Ruled, Wish

NOT_EXAMINED: Final = (
    "it is not known yet whether the model can be divided so: that is being found out, in some seconds"
)

CACHE_NOT_EXAMINED: Final = (
    "it is not known yet whether the model's KV cache can have fewer bits: that is being found out, in some"
    " seconds"
)

NO_COPY: Final = "no node has a copy of it"

SHORT_OF_MEMORY: Final = "critically short of memory"

_MOST: Final = 4
"""How many reasons are told; the previews have them all."""

_SOON_S: Final = 5.0
"""When to ask again, where the reason may pass by itself."""

_FIELDS: Final = frozenset(Wish.__struct_fields__) - {"model"}

WHAT_TO_DO: Final = "free some memory, ask for a shorter context, or use a smaller or quantised model"


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


def either(words: Iterable[str]) -> str:
    """Alternatives as they are read.

    >>> either(["a"]), either(["a", "b", "c"])
    ('a', 'a, b or c')
    """
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


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


def refusal(previews: Previews, wish: Wish) -> Refusal:
    """Why nothing is possible, with the numbers, and what to do. `previews` has no choices."""
    missing = next((ruled for ruled in previews.ruled_out if ruled.what == "model"), None)
    if missing is not None and missing.why == NO_COPY:
        return Refusal(RefusalCode.MODEL_NOT_FOUND, _not_here(wish), param="model")
    if missing is not None:
        return Refusal(RefusalCode.DOES_NOT_FIT, f"model '{wish.model}' {missing.why}")
    wrong = [ruled for ruled in previews.ruled_out if ruled.what in _FIELDS]
    if wrong:
        text = f"model '{wish.model}' can't be placed as asked: {_told(wrong)}"
        return Refusal(RefusalCode.INVALID, text, param=wrong[0].what)
    passing = any(ruled.why.startswith((NOT_EXAMINED, SHORT_OF_MEMORY)) for ruled in previews.ruled_out)
    text = f"model '{wish.model}' does not fit: {_told(list(previews.ruled_out))}. What to do: {WHAT_TO_DO}"
    return Refusal(RefusalCode.DOES_NOT_FIT, text, retry_after_s=_SOON_S if passing else None)


def _not_here(wish: Wish) -> str:
    return (
        f"model '{wish.model}' is not here: GET /v1/models lists what is;"
        " copy its folder into a models directory"
    )


def _told(reasons: list[Ruled]) -> str:
    told = "; ".join(f"{ruled.what}: {ruled.why}" for ruled in reasons[:_MOST])
    return f"{told}; and {len(reasons) - _MOST} more" if len(reasons) > _MOST else told
