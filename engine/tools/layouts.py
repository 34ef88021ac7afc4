"""How models write calls: for each parser of mlx-lm, where its calls' names and arguments stand.

Only where they stand. What they say is read by mlx-lm's own parser, from a call with that one argument in it,
so that names and types are what they would be in the whole call. The formats are described in the modules of
`mlx_lm.tool_parsers`; a parser that is not in the table reads calls whole.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from engine.tools.cutters import Cutter, Element, ElementCutter, NestedCutter

BLANK: Final = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """A call's arguments are one JSON object, which begins where `head` ends."""

    head: re.Pattern[str]
    """How a call begins; if it has a group `head`, that is, and what stands before it is filler."""
    probe: str
    """Completes a head to a call without arguments."""
    filler: re.Pattern[str]
    """What may stand between calls and after them and says nothing."""
    start: str = ""
    """What has to stand before a head to make a call of it."""
    exact: bool = False
    """The parser takes nothing that it does not read."""


@dataclass(frozen=True, slots=True)
class ArgumentLayout:
    """A call's arguments are written one by one."""

    head: re.Pattern[str]
    probe: str
    """Completes a head to a call, with whatever arguments."""
    end: str
    """Completes a head and an argument to a call."""
    cutter: Callable[[], Cutter]
    argument: re.Pattern[str]
    """What an argument looks like: the parser may pass over a part of what looks otherwise."""
    blocks: bool = False
    """One may hold several names and values, or none."""
    filler: re.Pattern[str] = BLANK
    start: str = ""
    exact: bool = False
    """As in ObjectLayout, and so are `head`, `filler` and `start`."""


Layout: TypeAlias = ObjectLayout | ArgumentLayout


def _pairs(key: str, value: str) -> ArgumentLayout:
    """`name<key>k</key><value>v</value>...`, up to the end of the text."""
    return ArgumentLayout(
        head=re.compile(rf"\A\s*(?!\{{)\S(?:(?!<{key}>).)*(?=<{key}>)", re.DOTALL),
        probe=f"<{key}>a</{key}><{value}>1</{value}>",
        end="",
        cutter=lambda: ElementCutter((Element(f"<{key}>", f"</{value}>"),), ""),
        argument=re.compile(".*", re.DOTALL),
        filler=re.compile(r"(?:\\n|\s)*"),
    )


def _elements(
    head: str,
    end: str,
    *elements: tuple[str, str],
    argument: str = ".*",
    blocks: bool = False,
    end_wins: bool = False,
) -> ArgumentLayout:
    """Arguments between tags, in a call between tags."""
    inside = tuple(Element(*each) for each in elements)
    return ArgumentLayout(
        head=re.compile(head, re.DOTALL),
        probe=end,
        end=end,
        cutter=lambda: ElementCutter(inside, end, end_wins=end_wins),
        argument=re.compile(argument, re.DOTALL),
        blocks=blocks,
    )


def _nested(
    head: str,
    argument: str,
    end: str,
    *quotes: str,
    escapes: bool = False,
    nests: bool = True,
    listed: bool = False,
) -> ArgumentLayout:
    """Arguments between brackets, divided by commas. `listed`: the calls are a list's elements."""
    whole = end + "]" if listed else end
    return ArgumentLayout(
        head=re.compile(head),
        probe=whole,
        end=whole,
        cutter=lambda: NestedCutter(end, quotes, escapes=escapes, nests=nests),
        argument=re.compile(argument, re.DOTALL),
        filler=re.compile(r"[\s\[\],]*") if listed else BLANK,
        start="[" if listed else "",
    )


LAYOUTS: Final[dict[str, Layout]] = {
    # {"name": "f", "arguments": {...}}, or a list of those
    "json_tools": ObjectLayout(
        head=re.compile(
            r'\A[\s,\[}]*(?P<head>\{\s*"name"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"arguments"\s*:\s*)(?=\{)',
            re.DOTALL,
        ),
        probe="{}}",
        filler=re.compile(r"[\s,\[\]}]*"),
        exact=True,
    ),
    # f[ARGS]{...}, several in a row, some with their marker between them
    "mistral": ObjectLayout(
        head=re.compile(r"[\w-]+\s*\[ARGS\]\s*(?=\{)"),
        probe="{}",
        filler=re.compile(r"(?:\s|\[TOOL_CALLS\])*"),
    ),
    # <|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}<|tool_call_end|>
    "kimi_k2": ObjectLayout(
        head=re.compile(
            r"<\|tool_call_begin\|>\s*(?:functions\.)?.+?:\d+\s*<\|tool_call_argument_begin\|>\s*(?=\{)",
            re.DOTALL,
        ),
        probe="{}<|tool_call_end|>",
        filler=re.compile(r"(?:\s|<\|tool_call_end\|>)*"),
    ),
    # f<arg_key>a</arg_key><arg_value>1</arg_value>
    "glm47": _pairs("arg_key", "arg_value"),
    "laguna": _pairs("arg_key", "arg_value"),
    "longcat": _pairs("longcat_arg_key", "longcat_arg_value"),
    # <function=f><parameter=a>1</parameter></function>
    "qwen3_coder": _elements(
        r"<function=\s*[^\s<>]+(?:>|(?=[\s<]))", "</function>", ("<parameter=", "</parameter>")
    ),
    # <invoke name="f"><parameter name="a">1</parameter></invoke>
    "minimax_m2": _elements(
        r"<invoke name=[^>]+>", "</invoke>", ("<parameter name=", "</parameter>"), end_wins=True
    ),
    # "f"><param name="a">1</param>, what stands around it being the markers
    "minicpm5": _elements(
        r"\A\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+)\s*>",
        "</function>",
        ("<param", "</param>"),
        argument=r"<param\s+name\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+)\s*>.*",
        end_wins=True,
    ),
    # <atem:invoke name="f"><atem:parameter name="a">1</atem:parameter></atem:invoke>
    "muse_spark": _elements(
        r"<atem:invoke\b[^>]*?\bname=\"[^\"]+\">",
        "</atem:invoke>",
        ("<atem:parameter", "</atem:parameter>"),
        argument=r"<atem:parameter(?:\s+\w+=\"[^\"]*\")*\s*>.*",
    ),
    # <|open|>call tool="f"<|sep|><|open|>argument key="a" type="number"<|sep|>1<|close|>argument<|sep|>...
    "kimi_k3": _elements(
        r"<\|open\|>call(?:(?!<\|sep\|>).)*<\|sep\|>",
        "<|close|>call<|sep|>",
        ("<|open|>argument", "<|close|>argument<|sep|>"),
        ("<|open|>json", "<|close|>json<|sep|>"),
        argument=r"<\|open\|>(?:argument|json)(?:\s+\w+=\"[^\"]*\")*\s*<\|sep\|>.*",
        blocks=True,
        end_wins=True,
    ),
    # call:f{a:<escape>x<escape>,b:1}
    "function_gemma": _nested(
        r"call:\w+\{",
        r"[^:]*:(?:<escape>(?:(?!<escape>).)*<escape>|(?:(?!<escape>).)*)",
        "}",
        "<escape>",
        nests=False,
    ),
    # call:f{a:<|"|>x<|"|>,b:{c:[1,2]}}
    "gemma4": _nested(r"call:[\w-]+\{", r"\w+:.*", "}", '<|"|>'),
    # Calls as in Python, in a list: [f(a="x", b={"c": [1, 2]}), g()]
    "pythonic": _nested(
        r"(?<=[\[,])\s*[\w.]+\(",
        r"\s*\w+\s*=(?:\s*[bBrRuU]{0,2}[\"'\[{(].*|[^,\"']*)",
        ")",
        '"""',
        "'''",
        '"',
        "'",
        escapes=True,
        listed=True,
    ),
}
