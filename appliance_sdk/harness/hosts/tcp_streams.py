"""The two byte streams of a TCP connection: what is to be sent, and what has arrived.

Offsets count from the initial sequence number: the SYN is at 0, the first byte at 1, the FIN after
the last byte.
"""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.harness.hosts.tcp_types import unwrap, wrap


class Piece(NamedTuple):
    """Part of a stream that fits a segment."""

    offset: int
    data: bytes
    fin: bool
    """The FIN follows the data."""
    last: bool
    """Nothing that was written comes after it."""


class SendStream:
    """Bytes from when they are written until the peer acknowledges them."""

    def __init__(self, first: int, mss: int, limit: int) -> None:
        self.first = first
        self.mss = mss
        self.window = 0
        """What the peer advertised last."""
        self.una = 0
        """The first offset that is not acknowledged."""
        self.nxt = 0
        """The first offset that was never sent."""
        self.closed = False
        """Nothing more will be written."""
        self._data = bytearray()
        self._base = 1
        self._limit = limit
        self._window_from = (-1, -1)

    @property
    def _end(self) -> int:
        return self._base + len(self._data)

    @property
    def acked(self) -> int:
        """Bytes that the peer acknowledged."""
        return self._base - 1

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return self.nxt - self.una

    @property
    def waiting(self) -> bool:
        """Something was never sent."""
        return self.nxt < self._end + self.closed

    @property
    def fin_sent(self) -> bool:
        """The FIN is out, acknowledged or not."""
        return self.closed and self.nxt > self._end

    @property
    def fin_acked(self) -> bool:
        """The peer has everything, the FIN too."""
        return self.closed and self.una > self._end

    @property
    def only_fin_left(self) -> bool:
        """The peer has every byte."""
        return self.closed and self.una >= self._end

    def write(self, data: bytes) -> bool:
        """Queue bytes; False, and none is taken, when closed or when there is no room."""
        if self.closed or len(self._data) + len(data) > self._limit:
            return False
        self._data += data
        return True

    def acknowledge(self, ack: int) -> int:
        """Take an offset from 0 to `nxt` that the peer expects next; how far it got on."""
        progress = ack - self.una
        if progress <= 0:
            return 0
        self.una = ack
        done = min(ack, self._end) - self._base
        del self._data[:done]
        self._base += done
        return progress

    def offset_of(self, number: int) -> int:
        """The offset that an acknowledgement number means."""
        return unwrap(number, self.first, self.una)

    def update_window(self, seq: int, ack: int, window: int) -> bool:
        """Take the peer's window unless an older segment says it; whether it opened from 0."""
        if (seq, ack) < self._window_from:  # RFC 9293 §3.10.7.4, SND.WL1 and SND.WL2
            return False
        self._window_from = (seq, ack)
        opened = self.window == 0 and window > 0
        self.window = window
        return opened

    def next_piece(self, *, probe: bool = False) -> Piece | None:
        """What to send next as far as the window allows, None if nothing; a probe ignores it."""
        room = 1 if probe else self.una + self.window - self.nxt
        if not self.waiting or room <= 0:
            return None
        piece = self._cut(self.nxt, min(self._end + self.closed, self.nxt + room))
        self.nxt = piece.offset + len(piece.data) + piece.fin
        return piece

    def first_piece(self) -> Piece:
        """What to send again: the beginning of what is in flight, as far as the window allows."""
        return self._cut(self.una, min(self.nxt, self.una + max(1, self.window)))

    def number(self, offset: int) -> int:
        """The sequence number at an offset."""
        return wrap(self.first, offset)

    def _cut(self, start: int, stop: int) -> Piece:
        stop_data = min(stop, self._end, start + self.mss)
        data = bytes(self._data[start - self._base : stop_data - self._base])
        fin = self.closed and start + len(data) == self._end and stop > self._end
        return Piece(start, data, fin, start + len(data) == self._end)


class ReceiveStream:
    """Bytes put in order, with a bounded queue of those ahead of a gap."""

    def __init__(self, first: int, max_segments: int) -> None:
        self.first = first
        self.nxt = 1
        """The offset expected next."""
        self.finished = False
        """The peer's FIN was reached."""
        self._fin_at: int | None = None
        self._ahead: dict[int, bytes] = {}
        self._max_segments = max_segments

    def offset_of(self, number: int) -> int:
        """The offset that a sequence number means."""
        return unwrap(number, self.first, self.nxt)

    def accepts(self, offset: int, length: int, window: int) -> bool:
        """Whether a segment touches the window: the table of RFC 9293 §3.10.7.4."""
        if length == 0:
            return offset == self.nxt or self.nxt <= offset < self.nxt + window
        return offset < self.nxt + window and offset + length > self.nxt

    def take(self, offset: int, data: bytes, fin: bool, window: int) -> bytes:
        """Take a segment that was accepted; the bytes that are in order now."""
        if fin and self._fin_at is None and offset + len(data) < self.nxt + window:
            self._fin_at = offset + len(data)
        limit = self.nxt + window
        if self._fin_at is not None:
            limit = min(limit, self._fin_at)
        skip = max(0, self.nxt - offset)
        data, offset = data[skip : max(skip, limit - offset)], offset + skip
        ready = bytearray()
        if offset == self.nxt:
            self.nxt += len(data)
            ready += data
            ready += self._collect()
        elif data and self._has_room(offset, data, window):
            self._ahead[offset] = data
        if self.nxt == self._fin_at and not self.finished:
            self.finished = True
            self.nxt += 1
            self._ahead.clear()
        return bytes(ready)

    def _has_room(self, offset: int, data: bytes, window: int) -> bool:
        known = self._ahead.get(offset)
        if known is not None:
            return len(data) > len(known)
        kept = sum(map(len, self._ahead.values()))
        return len(self._ahead) < self._max_segments and kept + len(data) <= 2 * window

    def _collect(self) -> bytes:
        out = bytearray()
        for at in sorted(self._ahead):
            if at > self.nxt:
                break
            data = self._ahead.pop(at)[self.nxt - at :]
            if self._fin_at is not None:
                data = data[: max(0, self._fin_at - self.nxt)]
            self.nxt += len(data)
            out += data
        return bytes(out)
