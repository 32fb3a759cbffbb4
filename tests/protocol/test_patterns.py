"""Every regular expression of the package: what it may be made of, and what it costs.

A pattern is deterministic when, whatever has been read, the next character can belong to
one part of it only, in one way. Matching such a pattern at one place takes time linear in
the text: an attempt to read it differently ends with its first character. That is decided
here with the automaton of Glushkov, as DTDs and XML Schema decide it for content models
(Brüggemann-Klein and Wood, "One-Unambiguous Regular Languages", 1998).
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import django_wsgiserve

# What `re` compiles a pattern from, op codes and their arguments. It has no public name.
_parse = importlib.import_module("re._parser").parse

PACKAGE = Path(django_wsgiserve.__file__).parent
CHARACTERS = frozenset(range(256))  # bytes, or text decoded as Latin-1
START = 0

# Applied to what `grammar._HEAD` has matched, and never in need of giving back; see there.
SPLIT = r"\r\n([^:]+):[\t ]*([^\r]*)"


def patterns_in(folder: Path) -> list[re.Pattern[Any]]:
    """Return what the calls of functions of `re` in the modules below `folder` compile."""
    patterns = []
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        assert not any(isinstance(node, ast.ImportFrom) and node.module == "re" for node in nodes)
        calls = [node for node in nodes if isinstance(node, ast.Call) and is_of_re(node)]
        if not calls:
            continue
        relative = path.relative_to(PACKAGE.parent).with_suffix("")
        names = vars(importlib.import_module(".".join(relative.parts)))
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            source = call if call.func.attr == "compile" else call.args[0]
            # It fails for a pattern that is made of local variables: none should be.
            made = eval(compile(ast.Expression(source), str(path), "eval"), dict(names))  # noqa: S307
            patterns.append(re.compile(made))
    return patterns


def is_of_re(call: ast.Call) -> bool:
    """Return whether `call` is one of `re.something(...)` that takes a pattern."""
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return False
    return function.value.id == "re" and function.attr != "escape"


def op_names(parsed: Any) -> set[str]:
    """Return the names of all op codes in what `_parse` returned."""
    if hasattr(parsed, "name"):
        return {parsed.name}
    if isinstance(parsed, list | tuple) or hasattr(parsed, "data"):
        return {name for part in parsed for name in op_names(part)}
    return set()


@dataclass
class Part:
    """Part of a pattern: may it be empty, and at which positions can it begin and end?"""

    nullable: bool
    first: frozenset[int]
    last: frozenset[int]


EMPTY = Part(True, frozenset(), frozenset())


class Automaton:
    """The positions of a pattern, and which can follow which."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self.ignore_case = bool(pattern.flags & re.IGNORECASE)
        self.characters = {START: frozenset[int]()}
        self.edges: set[tuple[int, int]] = set()
        self.ambiguous = False
        start = Part(False, frozenset({START}), frozenset({START}))
        self._then(start, self._sequence(_parse(pattern.pattern, pattern.flags)))

    @property
    def deterministic(self) -> bool:
        """No position is followed by two that share a character, nor by one in two ways."""
        return not self.ambiguous and not any(
            one[0] == other[0] and self.characters[one[1]] & self.characters[other[1]]
            for one, other in combinations(self.edges, 2)
        )

    def _link(self, lasts: frozenset[int], firsts: frozenset[int]) -> None:
        edges = {(last, first) for last in lasts for first in firsts}
        self.ambiguous |= bool(edges & self.edges)
        self.edges |= edges

    def _then(self, one: Part, other: Part) -> Part:
        self._link(one.last, other.first)
        return Part(
            one.nullable and other.nullable,
            one.first | other.first if one.nullable else one.first,
            one.last | other.last if other.nullable else other.last,
        )

    def _sequence(self, parsed: Any) -> Part:
        part = EMPTY
        for op, argument in parsed:
            part = self._then(part, self._part(op.name, argument))
        return part

    def _part(self, op: str, argument: Any) -> Part:
        match op:
            case "SUBPATTERN":
                _, flags_on, flags_off, body = argument
                assert not flags_on | flags_off, "flags are for the whole pattern"
                return self._sequence(body)
            case "BRANCH":
                parts = [self._sequence(branch) for branch in argument[1]]
                return Part(
                    any(part.nullable for part in parts),
                    frozenset().union(*(part.first for part in parts)),
                    frozenset().union(*(part.last for part in parts)),
                )
            case "MAX_REPEAT":
                return self._repeat(*argument)
            case "ASSERT_NOT":  # takes nothing; it can only refuse
                assert argument[0] < 0, "only a look behind has a fixed width"
                return EMPTY
        position = frozenset({len(self.characters)})
        self.characters[len(self.characters)] = self._read_class(op, argument)
        return Part(False, position, position)

    def _repeat(self, least: int, most: int, body: Any) -> Part:
        if least == most:
            part = EMPTY
            for _ in range(least):
                part = self._then(part, self._sequence(body))
            return part
        part = self._sequence(body)
        self.ambiguous |= part.nullable
        if most > 1:  # an upper limit is not counted: that can only find more to refuse
            self._link(part.last, part.first)
        return Part(not least, part.first, part.last)

    def _read_class(self, op: str, argument: Any) -> frozenset[int]:
        match op:
            case "LITERAL":
                found = {argument}
            case "NOT_LITERAL":
                return CHARACTERS - {argument}
            case "RANGE":
                found = set(range(argument[0], argument[1] + 1))
            case "ANY":
                return CHARACTERS - {ord("\n")}
            case "IN":
                items = [(item.name, value) for item, value in argument]
                sets = [self._read_class(*item) for item in items if item[0] != "NEGATE"]
                found = set().union(*sets)
                if items[0][0] == "NEGATE":
                    return CHARACTERS - found
            case _:
                raise AssertionError(f"{op} is not known to be linear")
        if self.ignore_case:
            found |= {ord(chr(code).swapcase()) for code in found if chr(code).isalpha()}
        return frozenset(found)


@pytest.mark.parametrize("pattern", patterns_in(PACKAGE), ids=lambda pattern: pattern.pattern)
def test_no_pattern_is_possessive_or_atomic(pattern: re.Pattern[Any]) -> None:
    # Up to CPython 3.11.4 `re` takes, with them, what it must refuse, and the reverse:
    # white space stayed in field values, broken chunk extensions were accepted.
    # python/cpython issues 101955 and 106052.
    names = op_names(_parse(pattern.pattern, pattern.flags))
    assert not names & {"POSSESSIVE_REPEAT", "ATOMIC_GROUP"}


@pytest.mark.parametrize("text", ["a*+", "[ab]++", "(?:x(y?+))", "a{1,2}+", "(?>a|b)"])
def test_possessive_and_atomic_parts_are_recognised(text: str) -> None:
    assert op_names(_parse(text)) & {"POSSESSIVE_REPEAT", "ATOMIC_GROUP"}


@pytest.mark.parametrize(
    "pattern",
    [pattern for pattern in patterns_in(PACKAGE / "protocol") if pattern.pattern != SPLIT],
    ids=lambda pattern: pattern.pattern,
)
def test_every_pattern_that_reads_a_peer_is_deterministic(pattern: re.Pattern[Any]) -> None:
    assert Automaton(pattern).deterministic


@pytest.mark.parametrize(
    "text",
    ["a*a*", "a*[ab]", "(?:a*)*", "(?:a+)+b", "(ab|ac)d|a", "(?:a,?,?)*", "[^b]*\t*b", "(?i)x*X"],
)
def test_a_pattern_that_can_be_read_in_two_ways_is_recognised(text: str) -> None:
    assert not Automaton(re.compile(text)).deterministic


@pytest.mark.parametrize("text", ["a*b", "(?:a+b)*c", "(?:a|b)+", "a{2}b{1,3}c?d", "[^b]*b.*"])
def test_a_pattern_that_can_be_read_in_one_way_is_recognised(text: str) -> None:
    assert Automaton(re.compile(text)).deterministic
