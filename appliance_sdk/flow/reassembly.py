"""One direction of a TCP stream, put in order for inspection without holding a packet back.

An out-of-order segment is copied and forwarded at once. Its bytes are shown when the segment that
was missing arrives, and blocking that one keeps the receiver's application from ever reading them.
Bytes that contradict what was shown or copied before are refused: what leaves is what was judged.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

from appliance_sdk.flow.copies import Copies

_MASK = 0xFFFFFFFF
_HALF = 0x80000000
_FAR = 1 << 30
"""The largest window that TCP can announce (RFC 7323 §2.3)."""
_GAPS_REMEMBERED = 32
"""Of more than these, the oldest are taken for one with all between them."""


class StreamLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one direction of one flow."""

    pending_bytes: int = 1024 * 1024
    """Copied out-of-order bytes: a large receive window with one segment missing."""
    pending_segments: int = 1024
    """Copied segments: bounds the work that tiny ones can make."""
    retained_bytes: int = 1024 * 1024
    """Shown bytes that are not acknowledged yet, kept to compare with what is sent again."""


class Budget:
    """Bytes that all streams together may keep."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, n: int) -> bool:
        """Claim `n` bytes; False if they are not to be had."""
        if self.used + n > self.total:
            return False
        self.used += n
        return True

    def give(self, n: int) -> None:
        """Return `n` bytes."""
        self.used -= n


class Status(IntEnum):
    """What became of a segment."""

    DELIVER = 0
    """It brought bytes that can be shown."""
    COPIED = 1
    """It lies beyond a missing one; forward it."""
    REPEAT = 2
    """It brought nothing new, and nothing else than before."""
    CONFLICT = 3
    """It contradicts what was shown or copied; drop it."""
    FULL = 4
    """There is no room to remember it; drop it, the sender repeats it."""
    OUT_OF_ORDER = 5
    """It lies beyond a missing one in a stream that is edited or not confirmed yet; drop it."""


class Push(NamedTuple):
    """The answer to a segment: `fresh` bytes to show, at `offset` in the stream, after `gap` lost.

    `overlap` is how many leading bytes of the segment had been shown before.
    """

    status: Status
    fresh: bytes = b""
    offset: int = 0
    overlap: int = 0
    gap: int = 0


class StreamBuffer:
    """One direction. Positions count from the byte whose sequence number is `next_seq`.

    `ordered`: refuse out-of-order segments, for handlers that edit. `lookback`: how many shown
    bytes `lookback()` may be asked for. `begun`: `next_seq` is the connection's first byte, so that
    nothing honest lies before it; until the receiver has confirmed it, segments must come in order.
    """

    __slots__ = (
        "_acked",
        "_base",
        "_begun",
        "_budget",
        "_claimed",
        "_fresh",
        "_gap",
        "_kept",
        "_limits",
        "_lookback",
        "_next",
        "_ordered",
        "_sent",
        "_taken",
        "_unseen",
        "copies",
    )

    def __init__(
        self,
        next_seq: int,
        limits: StreamLimits,
        budget: Budget,
        *,
        ordered: bool = False,
        lookback: int = 0,
        begun: bool = False,
    ) -> None:
        self._base = next_seq
        self._begun = begun
        self._limits = limits
        self._budget = budget
        self._ordered = ordered
        self._lookback = lookback
        self._next = 0
        self._acked = -1
        self._claimed = -1
        self._unseen: list[tuple[int, int]] = []
        self._gap = 0
        self._fresh = 0
        self._kept = bytearray()
        self._sent: bytearray | None = None
        self.copies: Copies | None = None
        """What was copied from beyond a hole, if anything was."""
        self._taken = 0

    def append(self, seq: int, payload: bytes) -> int:
        """The short way of `push` for a payload that is next, with nothing copied from beyond it.

        Returns the offset of its bytes, all of them fresh. -1 if it is not next, or if there is no
        room for it: then nothing was taken.
        """
        offset = self._next
        if self.copies is not None or self._gap or (seq - self._base - offset) & _MASK:
            return -1
        size = len(payload)
        if not self._make_room(size):
            return -1
        self._kept += payload
        if self._sent is not None:
            self._sent += payload
        self._next = offset + size
        self._fresh = size
        return offset

    def push(self, seq: int, payload: bytes) -> Push:
        """A segment's sequence number (of its first payload byte) and payload."""
        offset = self.append(seq, payload) if payload else -1
        if offset >= 0:
            return Push(Status.DELIVER, payload, offset)
        self._fresh = 0
        at = self._position(seq)
        overlap = min(max(self._next - at, 0), len(payload))
        if overlap and not self._repeats(at, payload[:overlap]):
            return Push(Status.CONFLICT)
        if overlap == len(payload):
            return Push(Status.REPEAT, overlap=overlap)
        fresh = payload[overlap:]
        if self.copies is not None and not self.copies.agree(max(at, self._next), fresh):
            return Push(Status.CONFLICT)
        if self._next < at <= self._claimed:
            self._skip(at)
        if at > self._next:
            if self._ordered or (self._begun and self._acked < 0):
                return Push(Status.OUT_OF_ORDER)
            return self._copy(at, payload)
        if not self._make_room(len(fresh)):
            return Push(Status.FULL)
        offset = self._next
        self._show(fresh)
        fresh += self._show_copies()
        self._fresh = len(fresh)
        gap, self._gap = self._gap, 0
        return Push(Status.DELIVER, fresh, offset, overlap, gap)

    def acknowledge(self, ack: int) -> int:
        """The receiver has everything before `ack`. Returns how many bytes were lost to inspection.

        If the receiver has bytes that never came by here, nothing can be done about them: the
        stream goes on behind them, and `take_pending` has what was copied from there. But it may
        be lying, to make its peer's bytes look old; so it is only believed once the sender, too,
        has gone on behind them. There may be another hole: call again after `take_pending`.
        """
        position = self._next
        delta = (ack - self._base - position) & _MASK
        if delta >= _HALF:
            position += delta - (1 << 32)
            if position > self._acked:
                self._acked = position
        elif delta > _FAR:
            return 0
        else:
            self._acked = position
            position += delta
        if position > self._claimed:
            self._claimed = position
        if self.copies is not None and self.copies.pieces[0][0] <= self._claimed:
            return self._skip(self.copies.pieces[0][0])
        return 0

    def take_pending(self) -> Push:
        """The copied bytes that are next now, after `acknowledge` has jumped a gap."""
        offset = self._next
        fresh = self._show_copies()
        self._fresh = len(fresh)
        if not fresh:
            return Push(Status.REPEAT, offset=offset)
        gap, self._gap = self._gap, 0
        return Push(Status.DELIVER, fresh, offset, 0, gap)

    def serve(self, *, ordered: bool, lookback: int) -> None:
        """Other handlers: refuse out-of-order segments or not, keep so many shown bytes."""
        self._ordered = ordered
        self._lookback = lookback

    def begins_at(self, seq: int) -> bool:
        """Whether the stream's first byte has this sequence number."""
        return (seq - self._base) & _MASK == 0

    def lookback(self, n: int) -> bytes:
        """The last `n` bytes, or as many as there are, that were shown before the fresh ones."""
        end = len(self._kept) - self._fresh
        return bytes(self._kept[max(0, end - n) : end])

    def edited(self, offset: int, data: bytes) -> None:
        """What was sent instead of the shown bytes from `offset` on: the same length."""
        if self._sent is None:
            # Also beyond the budget: without it a repeated segment would bring the bytes unedited.
            self._budget.used += len(self._kept)
            self._taken += len(self._kept)
            self._sent = bytearray(self._kept)
        at = offset - (self._next - len(self._kept))
        self._sent[at : at + len(data)] = data

    def replacement(self, seq: int, payload: bytes) -> bytes | None:
        """What to send for a segment that repeats edited bytes; None if it can go as it is."""
        if self._sent is None:
            return None
        at = self._position(seq)
        low = self._next - self._fresh - (len(self._kept) - self._fresh)
        start, end = max(at, low), min(at + len(payload), self._next - self._fresh)
        if start >= end:
            return None
        known = bytes(self._sent[start - low : end - low])
        new = payload[: start - at] + known + payload[end - at :]
        return None if new == payload else new

    def close(self) -> None:
        """Give the memory back."""
        self._budget.give(self._taken)
        self._taken = 0
        self._kept = bytearray()
        self._sent = None
        self.copies = None
        self._fresh = 0

    def _position(self, seq: int) -> int:
        """The stream position of a sequence number, near the next one (RFC 9293 §3.4)."""
        delta = (seq - self._base - self._next) & _MASK
        return self._next + (delta - (1 << 32) if delta >= _HALF else delta)

    def _skip(self, position: int) -> int:
        """Go on at a position that the receiver has acknowledged; how many bytes were lost."""
        lost = position - self._next
        self._unseen.append((self._next, position))
        if len(self._unseen) > _GAPS_REMEMBERED:
            first, _ = self._unseen.pop(0)
            self._unseen[0] = first, self._unseen[0][1]
        self._next = self._acked = position
        self._gap += lost
        self._forget_kept(len(self._kept))
        return lost

    def _repeats(self, at: int, old: bytes) -> bool:
        """Whether bytes that were shown before are the same now; those of a gap never were.

        What the receiver has acknowledged it ignores, whatever it is: keep-alives repeat one byte
        of rubbish (RFC 1122 §4.2.3.6). What is older than memory and not acknowledged can only be
        believed where acknowledgments do not come by here.
        """
        low = self._next - len(self._kept)
        start = max(at, self._acked)
        end = at + len(old)
        if any(at < high and end > low for low, high in self._unseen):
            return False
        if self._begun and self._acked < 0 and at < 0:
            return False
        if start >= end:
            return True
        if start < low:
            if self._acked >= 0:
                return False
            start = low
        return end <= start or self._kept[start - low : end - low] == old[start - at :]

    def _copy(self, at: int, payload: bytes) -> Push:
        """Remember the parts of an out-of-order segment that are not remembered yet."""
        limits, copies = self._limits, self.copies or Copies()
        if at + len(payload) > self._next + _FAR:
            return Push(Status.FULL)
        parts = copies.missing(at, payload, limits.pending_segments - len(copies.pieces))
        if parts is None:
            return Push(Status.FULL)
        size = sum(len(data) for _, data in parts)
        if copies.size + size > limits.pending_bytes or not self._budget.take(size):
            return Push(Status.FULL)
        self._taken += size
        copies.add(parts)
        self.copies = copies
        return Push(Status.COPIED)

    def _show(self, data: bytes) -> None:
        self._kept += data
        if self._sent is not None:
            self._sent += data
        self._next += len(data)

    def _show_copies(self) -> bytes:
        """Move what follows without a hole from the copies to the shown bytes."""
        copies = self.copies
        if copies is None:
            return b""
        shown, spare = copies.take(self._next)
        # What is edited is kept twice, also beyond the budget.
        more = (len(shown) if self._sent is not None else 0) - spare
        self._budget.used += more
        self._taken += more
        self._show(shown)
        if not copies.pieces:
            self.copies = None
        return shown

    def _make_room(self, size: int) -> bool:
        """Claim room for more shown bytes, and forget those that are neither look-back nor wait for
        an acknowledgment."""
        acked, most = self._acked, self._limits.retained_bytes
        needed = self._next - acked if acked >= 0 else most
        if acked >= 0 and needed + size > most:
            return False
        if needed < self._lookback:
            needed = self._lookback
        spare = len(self._kept) - needed
        if spare > 0:
            self._forget_kept(spare)
        if self._sent is not None:
            size *= 2
        budget = self._budget
        if budget.used + size > budget.total:
            return False
        budget.used += size
        self._taken += size
        return True

    def _forget_kept(self, n: int) -> None:
        del self._kept[:n]
        if self._sent is not None:
            del self._sent[:n]
            n *= 2
        self._budget.used -= n
        self._taken -= n
