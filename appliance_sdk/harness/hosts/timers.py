"""When what on a host is due: one deadline a thing, and calls at a time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Timers(Generic[T]):
    """At most one deadline a key; setting it again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._at: dict[T, tuple[float, int]] = {}
        """The deadline of each key, and which entry of the heap it is."""
        self._order = itertools.count()

    def set(self, key: T, at: float) -> None:
        """Have `key` come up from `at` on; math.inf forgets it."""
        if at == math.inf:
            self._at.pop(key, None)
        elif key not in self._at or self._at[key][0] != at:
            self._at[key] = at, next(self._order)
            heapq.heappush(self._heap, (*self._at[key], key))
            if len(self._heap) > 64 and len(self._heap) > 4 * len(self._at):
                self._heap = [entry for entry in self._heap if self._is_current(entry)]
                heapq.heapify(self._heap)

    def next_deadline(self) -> float:
        """The earliest deadline, math.inf if there is none."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def take_due(self, now: float) -> T | None:
        """Take the key whose deadline passed first, None if none has."""
        if self.next_deadline() > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._at[key]
        return key

    def __len__(self) -> int:
        return len(self._at)

    def _is_current(self, entry: tuple[float, int, T]) -> bool:
        return self._at.get(entry[2]) == entry[:2]


class Timer:
    """A call that was asked for with `Host.call_at`."""

    def __init__(self, call: Callable[[float], None], cancelled: Callable[[Timer], None]) -> None:
        self._call = call
        self._cancelled = cancelled

    def run(self, now: float) -> None:
        """Make the call; the host does this when it is due."""
        self._call(now)

    def cancel(self) -> None:
        """Do not make the call; nothing happens if it was made already."""
        self._cancelled(self)
