"""TCP as a bystander follows it: handshake, next numbers, and the end of a connection."""

from __future__ import annotations

from enum import IntEnum

from appliance_sdk.wire.packet import ACK, FIN, RST, SYN

_MASK = 0xFFFFFFFF
_HALF = 0x80000000
_MAX_WINDOW = 1 << 20
"""How far a number may lie from the expected one and still be plausible; covers scaled windows."""


class TcpState(IntEnum):
    """How far a connection is."""

    NEW = 0
    SYN_SENT = 1
    SYN_RECEIVED = 2
    ESTABLISHED = 3
    CLOSING = 4
    CLOSED = 5


class _Edges:
    """What counts only while a connection begins or ends, for each direction.

    `start`: the number of the first byte, after the SYN; `fin`: the number after the FIN; -1 where
    nothing is known. `doubt`: the end has sent SYNs with different numbers, so that only the
    answer of the other one tells which counts.
    """

    __slots__ = ("doubt_c", "doubt_s", "end_reason", "fin_c", "fin_s", "start_c", "start_s")

    def __init__(self) -> None:
        self.start_s = self.start_c = -1
        self.fin_s = self.fin_c = -1
        self.doubt_s = self.doubt_c = False
        self.end_reason = ""


class TcpTracker:
    """One connection, told of every packet that was forwarded.

    For each direction (`_s` to the server, `_c` to the client): `next`, the number after the
    highest byte forwarded; `acked`, the highest acknowledgment from the end that receives it. -1
    where nothing is known. Where they are equal they are one object: there are many connections.
    """

    __slots__ = ("_acked_c", "_acked_s", "_edges", "_next_c", "_next_s", "opening_seq", "state")

    def __init__(self, midstream: bool) -> None:
        self.state = TcpState.ESTABLISHED if midstream else TcpState.NEW
        self.opening_seq = -1
        """The number of the SYN that opened the connection, -1 if it was not seen."""
        self._next_s = self._next_c = -1
        self._acked_s = self._acked_c = -1
        self._edges: _Edges | None = None

    @property
    def end_reason(self) -> str:
        """ "fin" or "rst" once the connection is over."""
        return self._edges.end_reason if self._edges is not None else ""

    @property
    def established(self) -> bool:
        """The handshake is complete, or was taken for complete."""
        return self.state >= TcpState.ESTABLISHED

    @property
    def closed(self) -> bool:
        """Both FINs were acknowledged, or a RST ended the connection."""
        return self.state == TcpState.CLOSED

    @property
    def half_open(self) -> bool:
        """The handshake is not complete."""
        return self.state < TcpState.ESTABLISHED

    def known(self, to_server: bool) -> bool:
        """Whether `next_seq` of that direction means something."""
        return (self._next_s if to_server else self._next_c) >= 0

    def next_seq(self, to_server: bool) -> int:
        """The sequence number that the receiver of that direction expects next; 0 if not known."""
        return max(0, self._next_s if to_server else self._next_c)

    def acked(self, to_server: bool) -> int | None:
        """The highest acknowledgment that the receiver of that direction has sent."""
        value = self._acked_s if to_server else self._acked_c
        return value if value >= 0 else None

    def start(self, to_server: bool) -> int | None:
        """The sequence number of the first byte in that direction, None if no SYN was seen."""
        edges = self._edges
        if edges is None:
            return None
        value = edges.start_s if to_server else edges.start_c
        return value if value >= 0 else None

    def settled(self) -> None:
        """Established, and nobody will ask where its streams begin: keep less of it."""
        edges = self._edges
        if edges is not None and edges.start_s >= 0 and edges.start_c >= 0:
            self._edges = None

    def _edge(self) -> _Edges:
        edges = self._edges
        if edges is None:
            edges = self._edges = _Edges()
        return edges

    def starts_new_connection(self, flags: int, seq: int) -> bool:
        """A SYN alone with another number than the one that opened this connection."""
        return flags & (SYN | ACK | RST | FIN) == SYN and seq != self.opening_seq

    def advance(self, to_server: bool, flags: int, seq: int, ack: int, payload_length: int) -> None:
        """A packet was forwarded."""
        if flags & (SYN | FIN | RST) or self.state < TcpState.ESTABLISHED:
            self._control(to_server, flags, seq, ack, payload_length)
            return
        if flags & ACK:
            self.segment(to_server, seq, ack, payload_length)
        else:
            self._sent(to_server, seq + payload_length & _MASK)
        if self.state == TcpState.CLOSING:
            self._maybe_closed()

    def opened(self, seq: int, payload_length: int) -> None:
        """The SYN that opens the connection was forwarded: as `advance`, in less time."""
        self.state = TcpState.SYN_SENT
        self.opening_seq = seq
        start = seq + 1 & _MASK
        self._next_s = start + payload_length & _MASK if payload_length else start
        self._edge().start_s = start

    def segment(self, to_server: bool, seq: int, ack: int, payload_length: int) -> None:
        """A segment of an established connection was forwarded, with ACK, without SYN, FIN, RST."""
        end = seq + payload_length & _MASK
        if to_server:
            known = self._next_s
            if end != known and (known < 0 or (end - known & _MASK) <= _MAX_WINDOW):
                self._next_s = end
            known = self._acked_c
            if ack != known and (known < 0 or (ack - known & _MASK) <= _MAX_WINDOW):
                self._acked_c = self._next_c if ack == self._next_c else ack
            if self._next_c < 0:
                self._next_c = ack
        else:
            known = self._next_c
            if end != known and (known < 0 or (end - known & _MASK) <= _MAX_WINDOW):
                self._next_c = end
            known = self._acked_s
            if ack != known and (known < 0 or (ack - known & _MASK) <= _MAX_WINDOW):
                self._acked_s = self._next_s if ack == self._next_s else ack
            if self._next_s < 0:
                self._next_s = ack

    def _sent(self, to_server: bool, end: int) -> None:
        known = self._next_s if to_server else self._next_c
        if known < 0 or 0 < (end - known & _MASK) <= _MAX_WINDOW:
            self._set_next(to_server, end)

    def _control(self, to_server: bool, flags: int, seq: int, ack: int, length: int) -> None:
        if flags & RST:
            if self._plausible_reset(to_server, flags, seq, ack):
                self.state = TcpState.CLOSED
                self._edge().end_reason = "rst"
            return
        if self.state == TcpState.CLOSED:
            return
        end = seq + length + bool(flags & SYN) + bool(flags & FIN) & _MASK
        if flags & SYN:
            if self.state >= TcpState.ESTABLISHED and self.known(to_server):
                return  # RFC 5961 §4: a SYN changes nothing here, the end challenges it
            self._synchronize(to_server, flags, seq, ack, end)
            return
        next_seq = self._next_s if to_server else self._next_c
        if next_seq < 0 or (end - next_seq & _MASK) <= _MAX_WINDOW:
            self._set_next(to_server, end)
        if flags & ACK:
            self._set_acked(not to_server, ack)
            if self.state == TcpState.SYN_RECEIVED and self._handshake_complete():
                self.state = TcpState.ESTABLISHED
                edges = self._edge()
                if edges.doubt_c and to_server:
                    edges.start_c = self._next_c = ack
        if flags & FIN and (next_seq < 0 or (end - next_seq & _MASK) <= _MAX_WINDOW):
            if to_server:
                self._edge().fin_s = end
            else:
                self._edge().fin_c = end
            if self.state >= TcpState.ESTABLISHED:
                self.state = TcpState.CLOSING
        if self.state == TcpState.CLOSING:
            self._maybe_closed()

    def _synchronize(self, to_server: bool, flags: int, seq: int, ack: int, end: int) -> None:
        """A SYN of the handshake.

        An end may send several with different numbers, and all but one be refused: by a receiver
        that has answered one already, or for a bad checksum. To believe the wrong one would be to
        look for the stream where it is not.
        """
        start = seq + 1 & _MASK
        edges = self._edge()
        if (edges.start_s if to_server else edges.start_c) not in (-1, start):
            if to_server:
                edges.doubt_s = True
            else:
                edges.doubt_c = True
        answered = self.state == TcpState.SYN_RECEIVED and to_server
        if not answered:
            self._set_next(to_server, end)
            if to_server:
                edges.start_s = start
            else:
                edges.start_c = start
        if flags & ACK:
            self._set_acked(not to_server, ack)
            if edges.doubt_s and not to_server:
                edges.start_s = self._next_s = ack
                self.opening_seq = ack - 1 & _MASK
        if not flags & ACK and self.state in (TcpState.NEW, TcpState.SYN_SENT) and to_server:
            self.state = TcpState.SYN_SENT
            self.opening_seq = seq
        elif self.state < TcpState.SYN_RECEIVED:
            self.state = TcpState.SYN_RECEIVED

    def _set_next(self, to_server: bool, value: int) -> None:
        if to_server:
            if value != self._next_s:
                self._next_s = value
        elif value != self._next_c:
            self._next_c = value

    def _set_acked(self, to_server: bool, ack: int) -> None:
        """The end that receives direction `to_server` has acknowledged up to `ack`."""
        if to_server:
            if self._next_s < 0:
                self._next_s = ack
            self._acked_s = self._next_s if ack == self._next_s else ack
        else:
            if self._next_c < 0:
                self._next_c = ack
            self._acked_c = self._next_c if ack == self._next_c else ack

    def _handshake_complete(self) -> bool:
        return self._acked_s >= 0 and self._acked_c >= 0

    def _plausible_reset(self, to_server: bool, flags: int, seq: int, ack: int) -> bool:
        """Whether the receiver would believe it: it has the very number that it expects next.

        RFC 5961 §3.2: within the window but not exact, a RST is only questioned. What the receiver
        expects lies between what it has acknowledged and what was forwarded to it. Believing more
        would let a blind forgery end our record of a connection that lives on. In answer to a SYN
        a RST counts by what it acknowledges (RFC 9293 §3.10.7.3).
        """
        if self.state == TcpState.SYN_SENT and not to_server:
            return bool(flags & ACK) and ack == self._next_s
        expected = self._next_s if to_server else self._next_c
        if expected < 0:
            return True
        acked = self._acked_s if to_server else self._acked_c
        low = acked if acked >= 0 else expected
        return (seq - low & _MASK) <= (expected - low & _MASK)

    def _maybe_closed(self) -> None:
        """Both ends have sent a FIN and both were acknowledged (RFC 9293 §3.6)."""
        edges = self._edge()
        if edges.fin_s < 0 or edges.fin_c < 0:
            return
        if (self._acked_s - edges.fin_s & _MASK) < _HALF and (
            self._acked_c - edges.fin_c & _MASK
        ) < _HALF:
            self.state = TcpState.CLOSED
            edges.end_reason = "fin"
