"""What somebody is told whose wish can't be placed at all."""

from typing import Final

from actors.planner.machines import NOT_EXAMINED
from actors.planner.plan import NO_COPY
from bus.messages.generation import Refusal, RefusalCode
from bus.messages.placement import Previews, Ruled, Wish

_MOST: Final = 4
"""How many reasons are told; the previews have them all."""

_SOON_S: Final = 5.0

_FIELDS: Final = frozenset(Wish.__struct_fields__) - {"model"}

WHAT_TO_DO: Final = "free some memory, ask for a shorter context, or use a smaller or quantised model"


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
    waiting = any(ruled.why == NOT_EXAMINED for ruled in previews.ruled_out)
    text = f"model '{wish.model}' does not fit: {_told(list(previews.ruled_out))}. What to do: {WHAT_TO_DO}"
    return Refusal(RefusalCode.DOES_NOT_FIT, text, retry_after_s=_SOON_S if waiting else None)


def _not_here(wish: Wish) -> str:
    return (
        f"model '{wish.model}' is not here: GET /v1/models lists what is;"
        " copy its folder into a models directory"
    )


def _told(reasons: list[Ruled]) -> str:
    told = "; ".join(f"{ruled.what}: {ruled.why}" for ruled in reasons[:_MOST])
    return f"{told}; and {len(reasons) - _MOST} more" if len(reasons) > _MOST else told
