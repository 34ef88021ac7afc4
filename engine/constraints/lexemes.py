"""Writes a grammar of characters for llguidance, which takes a text apart into lexemes before it parses.

Its lexer takes the longest it can, where a grammar of characters may need less: `[a-z]+ "z"` would never see
its end. Single characters are always right, but a parser that looks at a vocabulary character by character is
slow. So a run of characters becomes one lexeme exactly where nothing else could have been meant: where what
may follow it, or may follow anything that could stand in its place, is no character of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from engine.constraints.errors import GrammarError
from engine.constraints.gbnf import Chars, Either, Name, Node, Ranges, Series, Times, overlap, united

MOST_LEAVES: Final = 1_000
"""Characters and classes of a grammar."""
MOST_APART: Final = 8
"""Characters of a fixed number that are looked at one by one: four hexadecimal digits have an end."""
MOST_EFFORT: Final = 300_000
"""Pairs of leaves that are looked at, about a second's work; a grammar that needs more has no runs."""


class _Leaf:
    """A place of a grammar where characters stand: one, or a run of them."""

    def __init__(self, number: int, ranges: Ranges, least: int = 1, most: int | None = 1) -> None:
        """`least` is 1 or more."""
        self.bit = 1 << number
        self.ranges = ranges
        self.least, self.most = least, most
        self.whole = most != 1
        """It is one lexeme, and more than one character."""
        self.follow = 0
        self.beside = 0
        """Leaves that may stand where it stands."""
        self.clash = 0
        """Leaves that have characters in common with it."""

    @property
    def written(self) -> str:
        inside = "".join(f"\\x{{{first:X}}}-\\x{{{last:X}}}" for first, last in self.ranges)
        if self.whole:
            return f"/[{inside}]{_times(self.least, self.most)}/"
        return f"/[{inside}]/{_times(self.least, self.most)}"


_Tree: TypeAlias = "_Leaf | Name | _Series | _Either | _Times"


class _Series:
    def __init__(self, parts: Sequence[_Tree]) -> None:
        self.parts = parts


class _Either:
    def __init__(self, options: Sequence[_Tree]) -> None:
        self.options = options


class _Times:
    def __init__(self, what: _Tree, least: int, most: int | None) -> None:
        self.what, self.least, self.most = what, least, most


def lark_of(rules: Mapping[str, Node]) -> str:
    """The grammar in Lark's syntax. Raises GrammarError where it is too large to be looked at."""
    return _Grammar(rules).written()


class _Grammar:
    """Rules of trees with leaves, and what is known of them; sets of leaves are the bits of numbers."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._leaves: list[_Leaf] = []
        self._names = {name: f"r{number}" for number, name in enumerate(rules)}
        self._trees = {name: self._tree(node) for name, node in rules.items()}
        self._empty = dict.fromkeys(rules, False)
        self._first = dict.fromkeys(rules, 0)
        self._after = dict.fromkeys(rules, 0)
        self._known: dict[_Tree, tuple[bool, int]] = {}
        """What trees open with, once that is certain."""
        self._effort = 0
        self._begin()
        self._clash()
        while self._runs_into_others():
            pass

    def written(self) -> str:
        lines = [f"start: {self._names['root']}"]
        lines += [f"{self._names[name]}: {self._text(tree)}" for name, tree in self._trees.items()]
        return "\n".join(lines)

    # -- trees -----------------------------------------------------------------------------------

    def _tree(self, node: Node) -> _Tree:
        match node:
            case Chars(ranges):
                return self._leaf(ranges)
            case Name():
                return node
            case Series(parts):
                return _Series([self._tree(part) for part in parts])
            case Either(options):
                return self._either(options)
            case Times(what, least, most):
                return self._repeated(what, least, most)

    def _either(self, options: Sequence[Node]) -> _Tree:
        """Single characters among the options are one class."""
        chars, others = _apart(options)
        trees = [self._tree(other) for other in others]
        if chars:
            trees.insert(0, self._leaf(chars))
        return trees[0] if len(trees) == 1 else _Either(trees)

    def _repeated(self, what: Node, least: int, most: int | None) -> _Tree:
        if most == 0:
            return _Series([])
        chars, others = _apart(what.options if isinstance(what, Either) else (what,))
        if chars and not others and least == most and least <= MOST_APART:
            return _Series([self._leaf(chars) for _ in range(least)])
        if chars and not others:
            return _optional(self._leaf(chars, max(least, 1), most), least)
        if chars and most is None and least < 2:
            return self._with_runs(chars, Either(tuple(others)), least)
        return _Times(self._tree(what), least, most)

    def _with_runs(self, chars: Ranges, other: Node, least: int) -> _Tree:
        """Characters and other things in any order: the same texts, with all runs as long as they can be."""

        def run() -> _Tree:
            return _optional(self._leaf(chars, 1, None), 0)

        more = _Times(_Series([self._tree(other), run()]), 0, None)
        if not least:
            return _Series([run(), more])
        first = _Either([self._leaf(chars, 1, None), _Series([self._tree(other), run()])])
        return _Series([first, more])

    def _leaf(self, ranges: Ranges, least: int = 1, most: int | None = 1) -> _Leaf:
        if len(self._leaves) == MOST_LEAVES:
            raise GrammarError(f"the grammar has more than {MOST_LEAVES} characters and classes")
        leaf = _Leaf(len(self._leaves), ranges, least, most)
        self._leaves.append(leaf)
        return leaf

    # -- what is where ---------------------------------------------------------------------------

    def _begin(self) -> None:
        """Which rules may be empty, and which leaves they may begin with."""
        changed = True
        while changed:
            changed = False
            for name, tree in self._trees.items():
                empty, first = self._opens(tree)
                changed = changed or (empty, first) != (self._empty[name], self._first[name])
                self._empty[name], self._first[name] = empty, first

    def _clash(self) -> None:
        """Which leaves have characters in common."""
        same: dict[Ranges, int] = {}
        for leaf in self._leaves:
            same[leaf.ranges] = same.get(leaf.ranges, 0) | leaf.bit
        clashes = {
            ranges: _union(bits for other, bits in same.items() if overlap(ranges, other)) for ranges in same
        }
        for leaf in self._leaves:
            leaf.clash = clashes[leaf.ranges]

    def _opening(self, tree: _Tree) -> tuple[bool, int]:
        """As `_opens`, when all rules' are known."""
        if tree not in self._known:
            self._known[tree] = self._opens(tree)
        return self._known[tree]

    def _opens(self, tree: _Tree) -> tuple[bool, int]:
        """Whether it may be empty, and the leaves that it may begin with."""
        match tree:
            case _Leaf():
                return False, tree.bit
            case Name(name):
                return self._empty[name], self._first[name]
            case _Series():
                first = 0
                for part in tree.parts:
                    empty, begins = self._opens(part)
                    first |= begins
                    if not empty:
                        return False, first
                return True, first
            case _Either():
                found = [self._opens(option) for option in tree.options]
                return any(empty for empty, _ in found), _union(first for _, first in found)
            case _Times():
                empty, first = self._opens(tree.what)
                return empty or tree.least == 0, first

    def _runs_into_others(self) -> bool:
        """Whether there are runs that can't be lexemes; they are none any more."""
        self._follow()
        self._stand_beside()
        tired = self._effort > MOST_EFFORT
        found = [leaf for leaf in self._leaves if leaf.whole and (tired or self._is_ambiguous(leaf))]
        for leaf in found:
            leaf.whole = False
        return bool(found) and not tired

    def _is_ambiguous(self, run: _Leaf) -> bool:
        """Whether a character that goes on with the run could also come after it, or after what may have
        been meant in its place."""
        return bool(run.clash & self._after_rivals(run))

    def _after_rivals(self, leaf: _Leaf) -> int:
        """What may come after the leaf, or after another one that the same characters may have been."""
        rivals = (leaf.beside | leaf.bit) & leaf.clash
        self._effort += rivals.bit_count()
        return _union(each.follow for each in self._of(rivals))

    def _follow(self) -> None:
        """Which leaves may come after each."""
        changed = True
        while changed:
            before = [leaf.follow for leaf in self._leaves], dict(self._after)
            for name, tree in self._trees.items():
                self._push(tree, self._after[name])
            changed = before != ([leaf.follow for leaf in self._leaves], self._after)

    def _push(self, tree: _Tree, after: int) -> None:
        """`after`: leaves that may come after the tree."""
        match tree:
            case _Leaf():
                again = tree.bit if tree.most != 1 and not tree.whole else 0
                tree.follow |= after | again
            case Name(name):
                self._after[name] |= after
            case _Series():
                for part in reversed(tree.parts):
                    self._push(part, after)
                    empty, first = self._opening(part)
                    after = first | (after if empty else 0)
            case _Either():
                for option in tree.options:
                    self._push(option, after)
            case _Times():
                again = self._opening(tree.what)[1] if tree.most != 1 else 0
                self._push(tree.what, after | again)

    def _stand_beside(self) -> None:
        """Which leaves may be meant by the same characters' beginning: at first those of the root, then those
        that follow two which the same characters may have been."""
        first = self._first["root"]
        for leaf in self._of(first):
            leaf.beside |= first
        waiting = list(self._leaves)
        while waiting and self._effort <= MOST_EFFORT:
            leaf = waiting.pop()
            after = self._after_rivals(leaf)
            for each in self._of(leaf.follow):
                if each.beside | after != each.beside:
                    each.beside |= after
                    waiting.append(each)

    def _of(self, bits: int) -> Iterator[_Leaf]:
        while bits:
            low = bits & -bits
            yield self._leaves[low.bit_length() - 1]
            bits ^= low

    # -- its text --------------------------------------------------------------------------------

    def _text(self, tree: _Tree) -> str:
        match tree:
            case _Leaf():
                return tree.written
            case Name(name):
                return self._names[name]
            case _Series():
                return "(" + " ".join(self._text(part) for part in tree.parts) + ")" if tree.parts else '""'
            case _Either():
                return "(" + " | ".join(self._text(option) for option in tree.options) + ")"
            case _Times():
                return f"({self._text(tree.what)}){_times(tree.least, tree.most)}"


def _apart(options: Sequence[Node]) -> tuple[Ranges, list[Node]]:
    """The single characters among the options, and the others."""
    chars = [char for option in options if (char := _single(option)) is not None]
    return united(*chars), [option for option in options if _single(option) is None]


def _single(node: Node) -> Ranges | None:
    match node:
        case Chars(ranges) | Series((Chars(ranges),)):
            return ranges
        case _:
            return None


def _optional(leaf: _Leaf, least: int) -> _Tree:
    return leaf if least else _Times(leaf, 0, 1)


def _times(least: int, most: int | None) -> str:
    match least, most:
        case 1, 1:
            return ""
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case _:
            return f"{{{least},{'' if most is None else most}}}"


def _union(sets: Iterator[int]) -> int:
    found = 0
    for each in sets:
        found |= each
    return found
