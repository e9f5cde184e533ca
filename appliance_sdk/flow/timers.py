"""One pending call each for things that asked to be woken."""

from __future__ import annotations

import itertools
import math
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

_SHARDS = 61  # a prime: addresses are multiples of powers of two
"""A dictionary of all targets would stop everything for long when it grows."""


class Timer(msgspec.Struct, Generic[T], order=True):
    """When a target is due, and where in the heap it stands; the earlier one is the lesser."""

    deadline: float
    order: int
    place: int
    target: T


class Timers(Generic[T]):
    """At most one deadline a target: setting it again moves it.

    Those that are due at the same time come up in the order in which they were set. The heap knows
    where each one stands, so one that is cancelled leaves at once, from anywhere.
    """

    def __init__(self) -> None:
        self._heap: list[Timer[T]] = []
        self._shards: list[dict[int, Timer[T]]] = [{} for _ in range(_SHARDS)]
        self._order = itertools.count()

    def set(self, target: T, deadline: float) -> None:
        """Have `target` come up in `due` from `deadline` on."""
        number = id(target)
        shard = self._shards[number % _SHARDS]
        timer = shard.get(number)
        if timer is None:
            timer = Timer(deadline, next(self._order), len(self._heap), target)
            shard[number] = timer
            self._heap.append(timer)
        else:
            timer.deadline, timer.order = deadline, next(self._order)
        self._put(timer, timer.place)

    def cancel(self, target: T) -> None:
        """Forget the target's deadline, if it has one."""
        number = id(target)
        timer = self._shards[number % _SHARDS].pop(number, None)
        if timer is None:
            return
        last = self._heap.pop()
        if last is not timer:
            self._put(last, timer.place)

    def deadline(self, target: T) -> float | None:
        """When the target is due, None if it is not waiting."""
        number = id(target)
        timer = self._shards[number % _SHARDS].get(number)
        return timer.deadline if timer is not None else None

    def next_deadline(self) -> float:
        """The earliest deadline, math.inf if nobody waits."""
        return self._heap[0].deadline if self._heap else math.inf

    def due(self, now: float) -> T | None:
        """Take one target whose deadline has passed, earliest first; None if there is none."""
        if not self._heap or self._heap[0].deadline > now:
            return None
        target = self._heap[0].target
        self.cancel(target)
        return target

    def __len__(self) -> int:
        return len(self._heap)

    def _put(self, timer: Timer[T], place: int) -> None:
        """Let a timer stand at this place of the heap, or above or below it, where it belongs."""
        heap = self._heap
        while place > 0 and timer < (upper := heap[(place - 1) >> 1]):
            heap[place] = upper
            upper.place, place = place, (place - 1) >> 1
        size = len(heap)
        while (below := 2 * place + 1) < size:
            lower = heap[below]
            if below + 1 < size and heap[below + 1] < lower:
                below += 1
                lower = heap[below]
            if timer < lower:
                break
            heap[place] = lower
            lower.place, place = place, below
        heap[place] = timer
        timer.place = place
