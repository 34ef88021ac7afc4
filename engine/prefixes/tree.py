"""A radix tree over token ids: each node stands for a run of tokens that all that passes it has in common."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Run: TypeAlias = "array[int]"
"""Token ids in four bytes each, which compare as fast as bytes do."""


def run_of(tokens: Sequence[int]) -> Run:
    """Raises OverflowError for what is no token id."""
    return array("I", tokens)


@dataclass(slots=True, eq=False)
class Node:
    """Equal to itself only: its number and its tokens change when it is split."""

    id: int
    parent: "Node | None"
    """None: it is the root."""
    tokens: Run
    children: "dict[int, Node]" = field(default_factory=dict)
    """By their first token."""
    state: bool = False
    """The state at its end, of layers that can't be cut, is kept."""
    trail: tuple[int, ...] = ()
    """How the conversation begins that was kept up to here."""


def walk(root: Node, tokens: Run) -> list[tuple[Node, int]]:
    """The nodes that `tokens` run through, and how many tokens of each; of all but the last it is all."""
    path: list[tuple[Node, int]] = []
    node, done = root, 0
    while done < len(tokens):
        child = node.children.get(tokens[done])
        if child is None:
            break
        common = _agreement(child.tokens, tokens[done : done + len(child.tokens)])
        path.append((child, common))
        if common < len(child.tokens):
            break
        node, done = child, done + common
    return path


def cut(lower: Node, at: int, rest: int) -> Node:
    """Put a new node over `lower`, with its number and its first `at` tokens; `lower` goes on as `rest`."""
    assert lower.parent is not None
    upper = Node(lower.id, lower.parent, lower.tokens[:at], {lower.tokens[at]: lower})
    lower.parent.children[upper.tokens[0]] = upper
    lower.id, lower.parent, lower.tokens = rest, upper, lower.tokens[at:]
    return upper


def below(root: Node) -> Iterator[Node]:
    """All but the root, each after its parent."""
    waiting = [root]
    while waiting:
        children = waiting.pop().children.values()
        yield from children
        waiting += children


def _agreement(mine: Run, theirs: Run) -> int:
    """How many tokens both begin with."""
    same, differs = 0, min(len(mine), len(theirs))
    if mine[:differs] == theirs[:differs]:
        return differs
    # Halving compares runs of bytes, not token by token.
    while differs - same > 1:
        middle = (same + differs) // 2
        if mine[same:middle] == theirs[same:middle]:
            same = middle
        else:
            differs = middle
    return same
