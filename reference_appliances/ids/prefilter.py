"""Many patterns looked for at once: which rules are worth trying on a buffer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ahocorasick_rs import BytesAhoCorasick

from reference_appliances.ids.compiled import CompiledRule

Hits: TypeAlias = dict[CompiledRule, int]
"""The rules whose pattern was found, and where it began the last time."""


class Prefilter:
    """One automaton over the fast patterns of rules."""

    __slots__ = ("_automaton", "_rules", "longest")

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        by_pattern: dict[bytes, list[CompiledRule]] = {}
        for rule in rules:
            if rule.fast is not None:
                by_pattern.setdefault(rule.fast, []).append(rule)
        self._rules = list(by_pattern.values())
        self._automaton = BytesAhoCorasick(by_pattern) if by_pattern else None
        self.longest = max(map(len, by_pattern), default=0)
        """Bytes; a search that goes on must begin one less than this before what is new."""

    def __bool__(self) -> bool:
        return self._automaton is not None

    def scan(self, lower: bytes) -> Hits:
        """The rules whose pattern occurs in data that is in lower case."""
        hits: Hits = {}
        if self._automaton is not None and lower:
            found = self._automaton.find_matches_as_indexes(lower, overlapping=True)
            for index, start in {index: start for index, start, _ in found}.items():
                for rule in self._rules[index]:
                    hits[rule] = start
        return hits
