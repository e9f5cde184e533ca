"""What is to be done at which time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable


class Agenda:
    """Calls that wait for their time; those of one moment come in the order they were added."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._added = 0

    def add(self, at: float, action: Callable[[float], None]) -> None:
        """Call something at a time, with the time that it then is."""
        self._added += 1
        heapq.heappush(self._entries, (at, self._added, action))

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing waits."""
        return self._entries[0][0] if self._entries else math.inf

    def advance(self, now: float) -> None:
        """Call what is due."""
        while self._entries and self._entries[0][0] <= now:
            heapq.heappop(self._entries)[2](now)
