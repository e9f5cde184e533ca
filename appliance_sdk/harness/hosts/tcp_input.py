"""The listening half of a TCP connection: what each arriving segment means (RFC 9293 §3.10.7)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

from appliance_sdk.harness.hosts.tcp_output import TcpOutput
from appliance_sdk.harness.hosts.tcp_streams import ReceiveStream
from appliance_sdk.harness.hosts.tcp_types import OPENING, Segment, TcpSettings, TcpState
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN

_DEFAULT_MSS = {4: 536, 16: 1220}  # RFC 9293 §3.7.1: what a peer without the option takes
_LARGEST_WINDOW = 65535


class TcpInput(TcpOutput):
    """What listens; `TcpConnection` adds the verbs and the app. Not for use on its own."""

    def __init__(
        self,
        addresses: tuple[bytes, bytes, int, int],
        first: int,
        settings: TcpSettings,
        transmit: Callable[[bytes], None],
    ) -> None:
        super().__init__(addresses, first, settings, transmit)
        self.refused = False
        """It never opened because a RST or an ICMP error said no."""
        self._closed_first = False

    @abstractmethod
    def _on_opened(self, now: float) -> None: ...

    @abstractmethod
    def _on_data(self, data: bytes, now: float) -> None: ...

    @abstractmethod
    def _on_end(self, how: str) -> None: ...

    def _take_syn(self, segment: Segment) -> None:
        self._receive = ReceiveStream(segment.seq, self._settings.max_out_of_order)
        self.limit_mss(segment.mss or _DEFAULT_MSS[len(self._addresses[0])])
        self._send.window = segment.window

    def _in_syn_sent(self, segment: Segment, now: float) -> None:  # RFC 9293 §3.10.7.3
        acked = bool(segment.flags & ACK)
        if acked and self._send.offset_of(segment.ack) != 1:
            if not segment.flags & RST:
                self._send_reset(segment.ack)
        elif segment.flags & RST:
            if acked:
                self.refused = True
                self._end("reset")
        elif segment.flags & SYN:
            self._take_syn(segment)
            if acked:
                self._established(segment, now)
                self._ack_due = True
            else:
                self._state = TcpState.SYN_RECEIVED
                self._send_syn(now)

    def _established(self, segment: Segment, now: float) -> None:
        self._send.acknowledge(1)
        self._state = TcpState.ESTABLISHED
        self._progressed(now, 0)
        self._heard(now)
        self._on_opened(now)

    def _in_others(self, segment: Segment, receive: ReceiveStream, now: float) -> None:
        """RFC 9293 §3.10.7.4 with the checks of RFC 5961."""
        offset = receive.offset_of(segment.seq)
        opening = self._state is TcpState.SYN_RECEIVED
        flags = segment.flags
        if opening and flags & SYN and not flags & RST and offset == 0:
            if not flags & ACK:
                self._send_syn(now)
                return
            self._ack_due = True  # both ends called at once: this completes it
        elif not receive.accepts(offset, segment.length, self._window):
            if flags & RST:
                return
            if segment.length:
                self._ack_due = True
                self._heard(now)
            else:
                self._challenge(now)
            return
        elif flags & RST:
            if offset == receive.nxt:
                self._reset()
            else:
                self._challenge(now)  # RFC 5961 §3.2
            return
        elif flags & SYN:
            self._challenge(now)  # RFC 5961 §4.2
            return
        if flags & ACK and self._take_ack(segment, offset, now):
            self._heard(now)
            self._take_data(segment, receive, offset, now)

    def _take_ack(self, segment: Segment, offset: int, now: float) -> bool:
        ack = self._send.offset_of(segment.ack)
        if self._state is TcpState.SYN_RECEIVED:
            if ack != 1:
                self._send_reset(segment.ack)
                return False
            self._send.update_window(offset, ack, segment.window)
            self._established(segment, now)
            return True
        if ack > self._send.nxt or ack < self._send.una - _LARGEST_WINDOW:
            self._challenge(now)  # RFC 5961 §5.2
            return False
        before = self._send.una
        same_window = segment.window == self._send.window
        if self._send.acknowledge(ack):
            self._progressed(now, before)
        elif ack == before and self._send.in_flight and not segment.length and same_window:
            self._repeated()
        if ack >= before:
            opened = self._send.update_window(offset, ack, segment.window)
            if self._send.window == 0:
                self._tries = 0  # a peer that answers may keep its window shut for ever
            elif opened:
                self._rto_s, self._rto_at = self._settings.rto_s, now + self._settings.rto_s
                if self._send.in_flight:
                    self._retransmit()
        return True

    def _take_data(self, segment: Segment, receive: ReceiveStream, offset: int, now: float) -> None:
        if not segment.length or segment.flags & SYN:
            return
        self._ack_due = True
        finished = receive.finished
        data = receive.take(offset, segment.payload, bool(segment.flags & FIN), self._window)
        if data:
            self._on_data(data, now)
        if receive.finished and not finished:
            self._closed_first = self._send.fin_sent
            self._on_data(b"", now)

    def _follow(self, now: float) -> None:
        """The state that the two FINs have led to (RFC 9293 figure 5)."""
        if self._state in (*OPENING, TcpState.CLOSED, TcpState.TIME_WAIT) or not self._receive:
            return
        sent, acked, finished = self._send.fin_sent, self._send.fin_acked, self._receive.finished
        if acked and finished:
            state = TcpState.TIME_WAIT if self._closed_first else TcpState.CLOSED
        elif finished and sent:
            state = TcpState.CLOSING if self._closed_first else TcpState.LAST_ACK
        elif finished:
            state = TcpState.CLOSE_WAIT
        elif sent:
            state = TcpState.FIN_WAIT_2 if acked else TcpState.FIN_WAIT_1
        else:
            state = TcpState.ESTABLISHED
        if state is self._state:
            return
        if state is TcpState.CLOSED:
            self._end("closed")
            return
        self._state = state
        self._heard(now)
        if state is TcpState.TIME_WAIT:
            self._on_end("closed")

    def _reset(self) -> None:
        if self._state is TcpState.SYN_RECEIVED:
            self.refused = True
        over = self._receive is not None and self._receive.finished and self._send.only_fin_left
        self._end("closed" if over else "reset")

    def _end(self, how: str) -> None:
        self._state = TcpState.CLOSED
        self._rto_at = self._quiet_at = math.inf
        self._on_end(how)
