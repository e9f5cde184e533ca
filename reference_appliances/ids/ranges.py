"""Sets of numbers as sorted ranges: what port and address groups come down to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T", int, bytes)
Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Sorted, disjoint, both ends included."""


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, and joined where they touch."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def complement(ranges: Ranges, top: int) -> Ranges:
    """What is missing between 0 and `top`."""
    out = []
    start = 0
    for low, high in ranges:
        if low > start:
            out.append((start, low - 1))
        start = high + 1
    if start <= top:
        out.append((start, top))
    return tuple(out)


def without(ranges: Ranges, others: Ranges, top: int) -> Ranges:
    """What is in `ranges` and not in `others`."""
    out = []
    rest = complement(others, top)
    index = 0
    for low, high in ranges:
        while index < len(rest) and rest[index][1] < low:
            index += 1
        at = index
        while at < len(rest) and rest[at][0] <= high:
            out.append((max(low, rest[at][0]), min(high, rest[at][1])))
            at += 1
    return tuple(out)


class RangeSet(Generic[T]):
    """Membership by bisection, for numbers or for packed addresses, which sort alike."""

    __slots__ = ("_highs", "_lows")

    def __init__(self, ranges: Sequence[tuple[T, T]]) -> None:
        self._lows: list[T] = [low for low, _ in ranges]
        self._highs: list[T] = [high for _, high in ranges]

    def __contains__(self, value: T) -> bool:
        index = bisect_right(self._lows, value) - 1
        return index >= 0 and value <= self._highs[index]
