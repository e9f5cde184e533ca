"""Who has most, in bounded memory: the Space-Saving summary.

Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams
(2005), section 3; here with weights, and a heap that is put in order when something must go.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)


class Top(NamedTuple, Generic[K]):
    """One key. Its true weight is at most `weight` and at least `weight - over`."""

    key: K
    weight: int
    over: int
    times: int
    """How often it was added: exact if `over` is 0, else at least so often."""


class SpaceSaving(Generic[K]):
    """Sums weights by key and remembers the `capacity` heaviest keys.

    As long as no more keys come, everything is exact. Then the lightest key makes room, and the
    new one inherits its weight: no weight shown is too low, and none is too high by more than
    `bound`, which is at most `total / capacity`. A key heavier than `bound` is never missing.
    """

    __slots__ = ("_capacity", "_heap", "_kept", "bound", "total")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._kept: dict[K, list[int]] = {}
        self._heap: list[tuple[int, int, K]] = []
        self.total = 0
        """The weight of everything that was added; always exact."""
        self.bound = 0
        """The weight of the heaviest key that had to go: how much any number here can be wrong."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: K, weight: int) -> None:
        """Add `weight` (0 or more) to a key."""
        self.total += weight
        kept = self._kept.get(key)
        if kept is not None:
            kept[0] += weight
            kept[2] += 1
            return
        over = self._make_room() if len(self._kept) >= self._capacity else 0
        self._kept[key] = [over + weight, over, 1]
        heapq.heappush(self._heap, (over + weight, id(key), key))

    def top(self, n: int) -> list[Top[K]]:
        """The `n` heaviest keys, heaviest first."""
        heaviest = heapq.nlargest(n, self._kept.items(), key=lambda item: item[1][0])
        return [Top(key, *kept) for key, kept in heaviest]

    def _make_room(self) -> int:
        """Forget the lightest key; its weight. The heap's weights may be old, so never too high."""
        heap, kept = self._heap, self._kept
        while True:
            weight, tie, key = heap[0]
            now = kept[key][0]
            if now == weight:
                heapq.heappop(heap)
                del kept[key]
                self.bound = max(self.bound, weight)
                return weight
            heapq.heapreplace(heap, (now, tie, key))
