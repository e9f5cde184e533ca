"""What the workers of one appliance share: the memory, cut into parts, and one worker's view."""

from __future__ import annotations

import math
import mmap

import msgspec

from appliance_sdk.engine.counters import SLOT_BYTES, Counters
from appliance_sdk.engine.values import Values
from appliance_sdk.wire.buffer import WritableBuffer

_TAG_MASK = (1 << 64) - 1


class SharedLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much can be shared; what is beyond it takes the place of what is there."""

    counters: int = 65_536
    """At a time, in each worker; 24 bytes each."""
    values_bytes: int = 4 * 1024 * 1024
    """Of what each worker has put last: a worker that was started anew finds so much of it."""


def shared_bytes(limits: SharedLimits, workers: int) -> int:
    """How much memory `workers` of them share."""
    return workers * (limits.counters * SLOT_BYTES + limits.values_bytes)


class SharedState:
    """One worker's view of zeroed memory of `shared_bytes`, its own if none is given."""

    def __init__(
        self,
        limits: SharedLimits,
        memory: WritableBuffer | None = None,
        own: int = 0,
        workers: int = 1,
    ) -> None:
        if memory is None:
            # Not a bytearray: a page of this takes memory when something is written to it.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            memory = mmap.mmap(-1, shared_bytes(limits, workers), flags=flags)
        whole = memoryview(memory)
        split = limits.counters * SLOT_BYTES
        size = split + limits.values_bytes
        parts = [whole[n * size : (n + 1) * size] for n in range(workers)]
        self.counters = Counters([part[:split] for part in parts], own, limits.counters)
        self.values = Values([part[split:] for part in parts], own, limits.values_bytes)

    def count(self, scope: str, key: bytes, window_s: float, n: int, now: float) -> int:
        """Add to a counter; its total, over all workers, in the window that `now` is in.

        Windows follow each other without gaps, from 0 on the clock that all workers have.
        """
        # The same in all workers: they were forked from one parent, and its hashes are secret.
        tag = hash((scope, key, window_s)) & _TAG_MASK or 1
        end = (math.floor(now / window_s) + 1) * window_s
        return self.counters.add(tag, end, n, now)
