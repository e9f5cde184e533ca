"""The sending half of a TCP connection: segments out, retransmission, every timer."""

from __future__ import annotations

import math
from collections.abc import Callable

from appliance_sdk.harness.hosts.tcp_streams import Piece, ReceiveStream, SendStream
from appliance_sdk.harness.hosts.tcp_types import OPENING, SMALLEST_MSS, TcpSettings, TcpState
from appliance_sdk.wire import build_tcp
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

_CHALLENGE_INTERVAL_S = 0.5
_DUPLICATE_ACKS = 3  # RFC 5681 §3.2


class TcpOutput:
    """What sends and waits; `TcpConnection` adds what listens. Not for use on its own."""

    def __init__(
        self,
        addresses: tuple[bytes, bytes, int, int],
        first: int,
        settings: TcpSettings,
        transmit: Callable[[bytes], None],
    ) -> None:
        self._addresses = addresses
        self._settings = settings
        self._transmit = transmit
        self._send = SendStream(first, settings.mss, settings.send_buffer_bytes)
        self._receive: ReceiveStream | None = None
        self._state = TcpState.CLOSED
        self._window = settings.window
        self._now = 0.0
        self._ack_due = False
        self._rto_s = settings.rto_s
        self._rto_at = math.inf
        self._tries = 0
        self._duplicates = 0
        self._recover = 0
        self._quiet_at = math.inf
        self._probes = 0
        self._challenge_from = -math.inf
        self.retransmits = 0
        """Segments sent again, SYNs and window probes included."""

    def limit_mss(self, mss: int) -> None:
        """Send no larger segments from now on: the peer or a router on the way said so."""
        self._send.mss = max(SMALLEST_MSS, min(self._send.mss, mss))

    def _deadline(self) -> float:
        return min(self._rto_at, self._quiet_at)

    def _segment(self, flags: int, offset: int, payload: bytes = b"", options: bytes = b"") -> None:
        ack = 0
        if self._receive is not None:
            flags |= ACK
            ack = self._receive.first + self._receive.nxt
            self._ack_due = False
        seq = self._send.number(offset)
        packet = build_tcp(
            *self._addresses,
            seq=seq,
            ack=ack,
            flags=flags,
            window=self._window,
            payload=payload,
            options=options,
        )
        self._transmit(packet)

    def _send_syn(self, now: float) -> None:
        mss = self._settings.mss.to_bytes(2, "big")
        self._segment(SYN, 0, options=b"\x02\x04" + mss)
        self._send.nxt = 1
        if self._rto_at == math.inf:
            self._rto_at = now + self._rto_s

    def _send_piece(self, piece: Piece) -> None:
        flags = FIN if piece.fin else 0
        if piece.data and piece.last:
            flags |= PSH
        self._segment(flags, piece.offset, piece.data)

    def _send_reset(self, seq: int) -> None:
        """A RST alone, with the number that the peer will believe."""
        self._transmit(build_tcp(*self._addresses, seq=seq, flags=RST, window=0))

    def _challenge(self, now: float) -> None:
        """Acknowledge what was not acceptable, seldom: two ends must not chase each other's ACKs.

        RFC 5961 §10.
        """
        if now - self._challenge_from >= _CHALLENGE_INTERVAL_S:
            self._challenge_from = now
            self._segment(0, self._send.nxt)

    def _flush(self, now: float) -> None:
        """Send what may be sent, and an acknowledgement if none of it carried one."""
        if self._receive is None or self._state in OPENING or self._state is TcpState.CLOSED:
            return
        while (piece := self._send.next_piece()) is not None:
            self._send_piece(piece)
        if self._ack_due:
            self._segment(0, self._send.nxt)
        idle = not self._send.in_flight and not self._send.waiting
        if idle:
            self._rto_at = math.inf
        elif self._rto_at == math.inf:
            self._rto_at = now + self._rto_s

    def _progressed(self, now: float, before: int) -> None:
        """The peer acknowledged something new."""
        self._tries = self._duplicates = 0
        self._rto_s = self._settings.rto_s
        self._rto_at = now + self._rto_s if self._send.in_flight else math.inf
        if self._send.in_flight and before < self._send.una < self._recover:
            self._retransmit()  # RFC 6582 §3.2: a partial acknowledgement shows the next hole

    def _repeated(self) -> None:
        """The same acknowledgement again: three of them mean a loss."""
        self._duplicates += 1
        if self._duplicates == _DUPLICATE_ACKS and self._send.una >= self._recover:
            self._recover = self._send.nxt
            self._retransmit()

    def _retransmit(self) -> None:
        self.retransmits += 1
        self._send_piece(self._send.first_piece())

    def _on_timeout(self, now: float) -> bool:
        """The retransmission timer ran out; False when it has done so too often."""
        opening = self._state in OPENING
        self._tries += 1
        if self._tries > (self._settings.syn_retries if opening else self._settings.data_retries):
            return False
        self._rto_s = min(self._rto_s * 2, self._settings.max_rto_s)
        self._rto_at = now + self._rto_s
        self._duplicates = 0
        if opening:
            self.retransmits += 1
            self._send_syn(now)
        elif self._send.in_flight:
            self._recover = self._send.nxt
            self._retransmit()
        else:
            piece = self._send.next_piece(probe=True)  # RFC 9293 §3.8.6.1: the window is shut
            if piece is not None:
                self._send_piece(piece)
        return True

    def _heard(self, now: float) -> None:
        """Something came from the peer: its silence starts anew."""
        self._probes = 0
        if self._state is TcpState.FIN_WAIT_2:
            self._quiet_at = now + self._settings.fin_wait_s
        elif self._state is TcpState.TIME_WAIT:
            self._quiet_at = now + self._settings.time_wait_s
        elif self._settings.keep_alive_s and self._state not in OPENING:
            self._quiet_at = now + self._settings.keep_alive_s

    def _on_silence(self, now: float) -> bool:
        """The peer was silent for too long; False when that ends the connection."""
        if self._state in (TcpState.FIN_WAIT_2, TcpState.TIME_WAIT):
            return False
        if self._send.in_flight:
            self._quiet_at = now + self._settings.keep_alive_s
            return True  # retransmission finds out
        self._probes += 1
        if self._probes > self._settings.keep_alive_probes:
            return False
        self._quiet_at = now + self._settings.keep_alive_s
        self._segment(0, self._send.una - 1)  # RFC 9293 §3.8.4
        return True
