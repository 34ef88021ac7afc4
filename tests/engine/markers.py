"""A model's markers, as mlx-lm describes them to itself."""

from dataclasses import dataclass, field

from mlx_lm.generate import make_text_state_machine

from engine.text.tokenizer import Machine


@dataclass
class Markers:
    """What mlx-lm asks a tokenizer for."""

    has_thinking: bool = True
    think_start: str = "<think>"
    think_end: str = "</think>"
    has_tool_calling: bool = True
    tool_call_start: str = "<tool_call>"
    tool_call_end: str = "</tool_call>"
    structural_markers: tuple[str, ...] = ()
    response_transitions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


THINKS_AND_CALLS = Markers()


def machine(markers: Markers) -> Machine:
    """What engine.text.tokenizer.MarkerSplitter walks through."""
    made: Machine = make_text_state_machine(markers)
    return made
