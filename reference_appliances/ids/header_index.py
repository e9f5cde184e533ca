"""Rules without a fast pattern, found by their header: by address, by port, or one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from reference_appliances.ids.compiled import CompiledRule
from reference_appliances.ids.header import Ends
from reference_appliances.ids.rule import Rule, Ruleset

_MOST_ADDRESSES = 1 << 16
_MOST_PORTS = 1 << 10
"""A group of more is no help in telling rules apart."""

T = TypeVar("T", int, bytes)


class _Entry(NamedTuple, Generic[T]):
    low: T
    high: T
    rule: CompiledRule


class _Pieces(Generic[T]):
    """The line cut where any range begins or ends, and the rules of each piece."""

    def __init__(self, entries: Sequence[_Entry[T]]) -> None:
        begins: dict[T, list[CompiledRule]] = {}
        after: dict[T, list[CompiledRule]] = {}
        for entry in entries:
            begins.setdefault(entry.low, []).append(entry.rule)
            after.setdefault(entry.high, []).append(entry.rule)
        # A piece from each `low` on, and one behind each `high`: (value, 1) sorts behind (value, 0)
        starts: list[tuple[T, int]] = [(low, 0) for low in begins]
        starts += [(high, 1) for high in after]
        self._starts: list[tuple[T, int]] = sorted(starts)
        self._rules: list[tuple[CompiledRule, ...]] = []
        active: dict[CompiledRule, int] = {}
        for value, behind in self._starts:
            for rule in (after if behind else begins).get(value, ()):
                active[rule] = active.get(rule, 0) + (-1 if behind else 1)
                if not active[rule]:
                    del active[rule]
            self._rules.append(tuple(active))

    def at(self, value: T) -> tuple[CompiledRule, ...]:
        index = bisect_right(self._starts, (value, 0)) - 1
        return self._rules[index] if index >= 0 else ()


class HeaderIndex:
    """Which of many rules have a header that matches."""

    def __init__(self, rules: Iterable[CompiledRule], ruleset: Ruleset) -> None:
        sources: list[_Entry[bytes]] = []
        destinations: list[_Entry[bytes]] = []
        ports: list[_Entry[int]] = []
        self._others: list[CompiledRule] = []
        for rule in rules:
            text = rule.rule
            if not text.both_ways and _few_addresses(text.source, ruleset):
                group = ruleset.addresses[text.source]
                sources.extend(_Entry(low, high, rule) for low, high in group.v4 + group.v6)
            elif not text.both_ways and _few_addresses(text.destination, ruleset):
                group = ruleset.addresses[text.destination]
                destinations.extend(_Entry(low, high, rule) for low, high in group.v4 + group.v6)
            elif not text.both_ways and _few_ports(text, ruleset):
                ranges = ruleset.ports[text.destination_port].ranges
                ports.extend(_Entry(low, high, rule) for low, high in ranges)
            else:
                self._others.append(rule)
        self._sources = {size: _Pieces(_of_size(sources, size)) for size in (4, 16)}
        self._destinations = {size: _Pieces(_of_size(destinations, size)) for size in (4, 16)}
        self._ports = _Pieces(ports)
        self._empty = not (sources or destinations or ports or self._others)

    def __bool__(self) -> bool:
        return not self._empty

    def candidates(self, ends: Ends) -> list[CompiledRule]:
        """The rules whose header matches, in their order."""
        if self._empty:
            return []
        found = [
            rule
            for rules in (
                self._sources[len(ends.source)].at(ends.source),
                self._destinations[len(ends.destination)].at(ends.destination),
                self._ports.at(ends.destination_port),
                self._others,
            )
            for rule in rules
            if rule.header.matches(ends)
        ]
        found.sort(key=lambda rule: rule.order)
        return found


def _few_addresses(name: str, ruleset: Ruleset) -> bool:
    if not name:
        return False
    group = ruleset.addresses[name]
    number = int.from_bytes
    total = sum(number(high, "big") - number(low, "big") + 1 for low, high in group.v4 + group.v6)
    return total <= _MOST_ADDRESSES


def _few_ports(rule: Rule, ruleset: Ruleset) -> bool:
    if not rule.destination_port:
        return False
    ranges = ruleset.ports[rule.destination_port].ranges
    return sum(high - low + 1 for low, high in ranges) <= _MOST_PORTS


def _of_size(entries: Sequence[_Entry[bytes]], size: int) -> list[_Entry[bytes]]:
    return [entry for entry in entries if len(entry.low) == size]
