"""Patterns over bytes, and the machine that walks them one byte at a time: what stands behind every grammar mask.

A pattern is built of four parts (`Bytes`, `Sequence`, `Choice`, `Repeat`). `Automaton` turns it into a nondeterministic machine
(Thompson, 1968) and makes the states of the deterministic one when they are first reached. Every state that it reaches has
a way to the end, so a text whose bytes were all allowed can always be completed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bytes:
    """One byte out of a set."""

    allowed: frozenset[int]


@dataclass(frozen=True)
class Sequence:
    """One part after the other; no parts: the empty text."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True)
class Choice:
    """Any one of the options."""

    options: tuple[Pattern, ...]


@dataclass(frozen=True)
class Repeat:
    """A part from `least` to `most` times; most=None: as often as you like."""

    part: Pattern
    least: int = 0
    most: int | None = None


Pattern = Bytes | Sequence | Choice | Repeat


def text(words: str) -> Sequence:
    """Exactly these characters, in UTF-8."""
    return Sequence(tuple(Bytes(frozenset([byte])) for byte in words.encode()))


def byte_range(first: int, last: int) -> Bytes:
    """One byte from `first` to `last`, both included."""
    return Bytes(frozenset(range(first, last + 1)))


class Automaton:
    """The machine of a pattern. `start` is its first state; states are whole numbers.

    - `step(state, byte)`: the state behind one more byte (0 … 255), or None where no text of the pattern goes on so;
    - `accepts(state)`: whether the bytes so far are a whole text of the pattern.
    """

    def __init__(self, pattern: Pattern) -> None:
        self._edges: list[list[tuple[frozenset[int], int]]] = []
        self._silent: list[list[int]] = []
        begin, self._end = self._node(), self._node()
        self._build(pattern, begin, self._end)
        self._numbers: dict[frozenset[int], int] = {}
        self._members: list[frozenset[int]] = []
        self._rows: list[dict[int, int] | None] = []
        self.start = self._number(self._closure([begin]))

    def step(self, state: int, byte: int) -> int | None:
        row = self._rows[state]
        if row is None:
            row = self._rows[state] = self._row(state)
        return row.get(byte)

    def accepts(self, state: int) -> bool:
        return self._end in self._members[state]

    def matches(self, whole: bytes) -> bool:
        """Whether this is a whole text of the pattern."""
        state: int | None = self.start
        for byte in whole:
            state = None if state is None else self.step(state, byte)
        return state is not None and self.accepts(state)

    def _node(self) -> int:
        self._edges.append([])
        self._silent.append([])
        return len(self._edges) - 1

    def _build(self, pattern: Pattern, begin: int, end: int) -> None:
        """Lay the ways of a pattern from one node to another."""
        if isinstance(pattern, Bytes):
            self._edges[begin].append((pattern.allowed, end))
        elif isinstance(pattern, Sequence):
            for part in pattern.parts:
                after = self._node()
                self._build(part, begin, after)
                begin = after
            self._silent[begin].append(end)
        elif isinstance(pattern, Choice):
            for option in pattern.options:
                self._build(option, begin, end)
        else:
            for _ in range(pattern.least):
                after = self._node()
                self._build(pattern.part, begin, after)
                begin = after
            if pattern.most is None:
                hub = self._node()
                self._silent[begin].append(hub)
                self._build(pattern.part, hub, hub)
                begin = hub
            else:
                for _ in range(pattern.most - pattern.least):
                    self._silent[begin].append(end)
                    after = self._node()
                    self._build(pattern.part, begin, after)
                    begin = after
            self._silent[begin].append(end)

    def _closure(self, nodes: list[int]) -> frozenset[int]:
        found, queue = set(nodes), list(nodes)
        while queue:
            for node in self._silent[queue.pop()]:
                if node not in found:
                    found.add(node)
                    queue.append(node)
        return frozenset(found)

    def _number(self, members: frozenset[int]) -> int:
        if members not in self._numbers:
            self._numbers[members] = len(self._members)
            self._members.append(members)
            self._rows.append(None)
        return self._numbers[members]

    def _row(self, state: int) -> dict[int, int]:
        """Byte → next state, for the bytes that may follow."""
        targets: dict[int, list[int]] = {}
        for node in self._members[state]:
            for allowed, target in self._edges[node]:
                for byte in allowed:
                    targets.setdefault(byte, []).append(target)
        return {byte: self._number(self._closure(nodes)) for byte, nodes in targets.items()}
