"""Counters over all workers: in memory that they share, where each writes in a part of its own.

A counter stands in one of a few slots that its key leads to, in every worker's part; its total is
the sum. With one writer a part needs no lock: a word is written in one go, and a slot that changes
hands is marked as nobody's meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance_sdk.wire.buffer import WritableBuffer

SLOT_BYTES = 24
_SLOT = struct.Struct("@QdQ")
_TAG = struct.Struct("@Q")
_COUNT = struct.Struct("@Q")
_COUNT_AT = 16
_PROBES = 8


class Counters:
    """One worker's view of the parts of all, each `slots` times 24 bytes, zeroed at first."""

    def __init__(self, parts: Sequence[WritableBuffer], own: int, slots: int) -> None:
        self._own = parts[own]
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
        part = self._own
        free = -1
        for place in places:
            found, until, count = _SLOT.unpack_from(part, place)
            if found == tag:
                if until != end:
                    count = 0
                    _COUNT.pack_into(part, place + _COUNT_AT, 0)
                    struct.pack_into("@d", part, place + 8, end)
                _COUNT.pack_into(part, place + _COUNT_AT, count + n)
                return int(count) + n
            if free < 0 and (not found or until <= now):
                free = place
        if free < 0:
            self.evicted += 1
            free = min(places, key=lambda place: _COUNT.unpack_from(part, place + _COUNT_AT)[0])
        _TAG.pack_into(part, free, 0)
        _SLOT.pack_into(part, free, 0, end, n)
        _TAG.pack_into(part, free, tag)
        return n
