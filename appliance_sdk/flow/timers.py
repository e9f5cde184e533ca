"""One pending call each for things that asked to be woken."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Generic, TypeVar

T = TypeVar("T")


class Timers(Generic[T]):
    """At most one deadline a target: setting it again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._current: dict[int, tuple[float, int]] = {}
        self._order = itertools.count()

    def set(self, target: T, deadline: float) -> None:
        """Have `target` come up in `due` from `deadline` on."""
        order = next(self._order)
        self._current[id(target)] = (deadline, order)
        heapq.heappush(self._heap, (deadline, order, target))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._current):
            self._compact()

    def cancel(self, target: T) -> None:
        """Forget the target's deadline, if it has one."""
        self._current.pop(id(target), None)

    def deadline(self, target: T) -> float | None:
        """When the target is due, None if it is not waiting."""
        entry = self._current.get(id(target))
        return entry[0] if entry else None

    def next_deadline(self) -> float:
        """The earliest deadline, math.inf if nobody waits."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> T | None:
        """Take one target whose deadline has passed, earliest first; None if there is none."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        target = heapq.heappop(self._heap)[2]
        del self._current[id(target)]
        return target

    def __len__(self) -> int:
        return len(self._current)

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and self._current.get(id(heap[0][2])) != heap[0][:2]:
            heapq.heappop(heap)

    def _compact(self) -> None:
        self._heap = [e for e in self._heap if self._current.get(id(e[2])) == e[:2]]
        heapq.heapify(self._heap)
