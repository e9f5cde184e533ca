"""Counters over all workers: in memory that they share, where each writes in a part of its own.

A counter stands in one of a few slots that its key leads to, in every worker's part; its total is
the sum. With one writer a part needs no lock: a word is written in one go (as `struct.pack_into`
does not: it writes zeros first), and a slot that changes hands is marked as nobody's meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance_sdk.wire.buffer import WritableBuffer

SLOT_BYTES = 24
_SLOT = struct.Struct("@QdQ")
"""Tag, end of the window, count."""
_TAG = struct.Struct("@Q")
_WORD_BYTES = 8
_PROBES = 8


class Counters:
    """One worker's view of the parts of all, each `slots` times 24 bytes, zeroed at first."""

    def __init__(self, parts: Sequence[WritableBuffer], own: int, slots: int) -> None:
        self._own = parts[own]
        self._words = memoryview(parts[own]).cast("Q")
        self._ends = memoryview(parts[own]).cast("d")
        self._others = [part for number, part in enumerate(parts) if number != own]
        self._slots = slots
        self.evicted = 0
        """Counters that gave way to others before their window was over."""

    def add(self, tag: int, end: float, n: int, now: float) -> int:
        """Count `n` for a key's tag (not 0) in the window that ends at `end`; the new total."""
        places = [(tag + probe) % self._slots * SLOT_BYTES for probe in range(_PROBES)]
        total = self._add_own(tag, end, n, now, places)
        for part in self._others:
            for place in places:
                found, until, count = _SLOT.unpack_from(part, place)
                if found == tag:
                    if until == end and _TAG.unpack_from(part, place)[0] == tag:
                        total += count
                    break
        return total

    def _add_own(self, tag: int, end: float, n: int, now: float, places: Sequence[int]) -> int:
        part, words, ends = self._own, self._words, self._ends
        free = -1
        for place in places:
            found, until, count = _SLOT.unpack_from(part, place)
            if found == tag:
                at = place // _WORD_BYTES
                if until != end:
                    count = 0
                    words[at + 2] = 0
                    ends[at + 1] = end
                words[at + 2] = count + n
                return int(count) + n
            if free < 0 and (not found or until <= now):
                free = place // _WORD_BYTES
        if free < 0:
            self.evicted += 1
            free = min((place // _WORD_BYTES for place in places), key=lambda at: words[at + 2])
        words[free] = 0
        ends[free + 1] = end
        words[free + 2] = n
        words[free] = tag
        return n
