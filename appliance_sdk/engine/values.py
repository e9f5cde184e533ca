"""Values that every worker can read: each writes what it puts into a ring that the others follow.

A ring has one writer. It moves `tail` on before it overwrites a record, and `head` when a record is
whole; a reader that finds `tail` beyond where it read has read what was being overwritten, and goes
on there. A record whose checksum is wrong is not there yet: some processors show `head` before it.
A worker that was started anew reads what the rings still hold.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgpack

from appliance_sdk.wire.buffer import WritableBuffer

HEADER_BYTES = 16
_MARKS = struct.Struct("@QQ")
"""Head and tail."""
_HEAD, _TAIL = 0, 1
_RECORD = struct.Struct("@II")
"""Length and checksum of what follows."""
MOST_VALUES = 65_536
"""Of one appliance; beyond it the oldest are forgotten."""

_Place: TypeAlias = tuple[str, bytes]
"""Whose value it is, and its key."""
_Value: TypeAlias = tuple[bytes, float, float]
"""The value, until when it lives, and when it was put."""


class Values:
    """One worker's view of the rings of all, each `size` bytes with its header, zeroed at first."""

    def __init__(self, rings: Sequence[WritableBuffer], own: int, size: int) -> None:
        self._rings = list(rings)
        self._own = own
        # Words that are written in one go, as `struct.pack_into` does not: it writes zeros first.
        self._marks = memoryview(rings[own])[:HEADER_BYTES].cast("Q")
        self._room = size - HEADER_BYTES
        self._read = [0] * len(rings)
        self._values: OrderedDict[_Place, _Value] = OrderedDict()
        self.missed = 0
        """Records, at least, of others that were overwritten before they were read."""
        self._follow(range(len(rings)))  # what a former worker put, too

    def __len__(self) -> int:
        return len(self._values)

    def put(self, place: _Place, value: bytes, until: float, now: float) -> bool:
        """Store a value for all; False if it is larger than the ring."""
        record = msgpack.packb((*place, value, until, now))
        if _RECORD.size + len(record) > self._room:
            return False
        self._append(_RECORD.pack(len(record), zlib.crc32(record)) + record)
        self._take(place, (value, until, now))
        return True

    def get(self, place: _Place, now: float) -> bytes | None:
        """The newest value that any worker has put, None if there is none or it is too old."""
        if len(self._rings) > 1:
            self._follow(n for n in range(len(self._rings)) if n != self._own)
        found = self._values.get(place)
        if found is None:
            return None
        value, until, _ = found
        if until <= now:
            del self._values[place]
            return None
        return value

    def _take(self, place: _Place, new: _Value) -> None:
        old = self._values.get(place)
        if old is not None and old[2] > new[2]:
            return
        self._values[place] = new
        self._values.move_to_end(place)
        if len(self._values) > MOST_VALUES:
            self._values.popitem(last=False)

    def _append(self, record: bytes) -> None:
        ring = self._rings[self._own]
        head, tail = self._marks
        end = head + len(record)
        while end - tail > self._room:
            tail += _RECORD.size + _RECORD.unpack(self._bytes(ring, tail, _RECORD.size))[0]
        self._marks[_TAIL] = tail
        at = head % self._room
        first = min(len(record), self._room - at)
        ring[HEADER_BYTES + at : HEADER_BYTES + at + first] = record[:first]
        ring[HEADER_BYTES : HEADER_BYTES + len(record) - first] = record[first:]
        self._marks[_HEAD] = end
        self._read[self._own] = end

    def _follow(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            ring = self._rings[number]
            head = _MARKS.unpack_from(ring)[_HEAD]
            if head != self._read[number]:
                self._catch_up(number, ring, head)

    def _catch_up(self, number: int, ring: WritableBuffer, head: int) -> None:
        at = self._read[number]
        while at < head:
            length, checksum = _RECORD.unpack(self._bytes(ring, at, _RECORD.size))
            record = self._bytes(ring, at + _RECORD.size, min(length, head - at))
            tail = _MARKS.unpack_from(ring)[_TAIL]
            if at < tail:
                self.missed += at > 0
                at = tail
                continue
            if zlib.crc32(record) != checksum:
                break
            scope, key, value, until, stamp = msgpack.unpackb(record)
            self._take((scope, key), (value, until, stamp))
            at += _RECORD.size + len(record)
        self._read[number] = at

    def _bytes(self, ring: WritableBuffer, at: int, count: int) -> bytes:
        start = at % self._room
        first = min(count, self._room - start)
        rest = HEADER_BYTES + count - first
        return bytes(ring[HEADER_BYTES + start : HEADER_BYTES + start + first]) + bytes(
            ring[HEADER_BYTES:rest]
        )
