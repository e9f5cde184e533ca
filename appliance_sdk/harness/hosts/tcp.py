"""One end of a TCP connection: opens, transfers, retransmits and closes, in virtual time."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable

from appliance_sdk.harness.hosts.apps import App
from appliance_sdk.harness.hosts.tcp_input import TcpInput
from appliance_sdk.harness.hosts.tcp_types import OPENING, Segment, TcpSettings, TcpState, unwrap


class TcpConnection(TcpInput):
    """One end of a TCP connection; `Host.connect` and `Host.listen` make them.

    `send`, `close` and `abort` only note what is wanted: it happens when the host is given a packet
    or `advance`d next, and the host's `next_deadline` is then now. There is no congestion control,
    no window scaling and no selective acknowledgement.
    """

    def __init__(
        self,
        addresses: tuple[bytes, bytes, int, int],
        *,
        first: int,
        settings: TcpSettings,
        transmit: Callable[[bytes], None],
        wake: Callable[[TcpConnection], None],
        app: App | None = None,
    ) -> None:
        super().__init__(addresses, first, settings, transmit)
        source, destination, source_port, destination_port = addresses
        self.key = addresses
        """Both packed addresses and both ports, this end first."""
        self.local = (str(ipaddress.ip_address(source)), source_port)
        """This end: address and port."""
        self.remote = (str(ipaddress.ip_address(destination)), destination_port)
        """The other end: address and port."""
        self.app = app
        """What runs on it, if anything."""
        self.ended = ""
        """How it ended: "closed", "reset", "timeout" or "unreachable"; "" while it goes on."""
        self.icmp_error: tuple[int, int] | None = None
        """Type and code of the last ICMP error about it; after the opening it is only noted."""
        self.keep_bytes = settings.keep_bytes
        """How many bytes `received` keeps at most."""
        self._kept = bytearray()
        self._received_bytes = 0
        self._wake = wake
        self._abort = self._dirty = False

    @property
    def state(self) -> TcpState:
        """Where it stands (RFC 9293 §3.3.2); CLOSED when nothing is left of it."""
        return self._state

    @property
    def received(self) -> bytes:
        """The bytes that arrived, in order, as far as `keep_bytes` allows."""
        return bytes(self._kept)

    @property
    def received_bytes(self) -> int:
        """How many bytes arrived in order, kept or not."""
        return self._received_bytes

    @property
    def acked(self) -> int:
        """How many of the bytes sent the peer acknowledged."""
        return self._send.acked

    @property
    def waiting(self) -> bool:
        """Something that was sent is neither acknowledged nor given up."""
        return self._dirty or self._rto_at < math.inf

    @property
    def peer_closed(self) -> bool:
        """The peer has finished sending, and all of it arrived."""
        return self._receive is not None and self._receive.finished

    @property
    def window(self) -> int:
        """Bytes of receive window advertised; set it to 0 to stall the peer, and back."""
        return self._window

    @window.setter
    def window(self, size: int) -> None:
        if not 0 <= size <= 65535:
            raise ValueError(f"window is {size}: use 0 to 65,535 bytes")
        self._window = size
        self._ack_due = self._receive is not None and self._state not in OPENING
        self._changed()

    def send(self, data: bytes) -> bool:
        """Queue bytes for the peer. False, and none is taken, after `close` or the end, or when
        more than `TcpSettings.send_buffer_bytes` would wait."""
        taken = not self.ended and self._send.write(data)
        self._changed()
        return taken

    def close(self) -> None:
        """Send what is queued and then no more; the peer's bytes still arrive until it closes."""
        self._send.closed = True
        self._changed()

    def abort(self) -> None:
        """Drop everything and tell the peer with a RST; `ended` becomes "reset"."""
        self._abort = True
        self._changed()

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if never."""
        return self._now if self._dirty else self._deadline()

    def open(self, now: float) -> None:
        """Begin: send the SYN."""
        self._now, self._state = now, TcpState.SYN_SENT
        self._send_syn(now)

    def accept(self, syn: Segment, now: float) -> None:
        """Begin as the one that is called: answer the SYN."""
        self._now, self._state = now, TcpState.SYN_RECEIVED
        self._take_syn(syn)
        self._send_syn(now)

    def advance(self, now: float) -> None:
        """Run what is due and send what was queued."""
        self._now = now
        if self._state is TcpState.CLOSED:
            return
        if self._rto_at <= now and not self._on_timeout(now):
            self._end("timeout")
        elif self._quiet_at <= now:
            self._quiet_at = math.inf
            if not self._on_silence(now):
                self._end("timeout")
        self._settle(now)

    def concerns(self, seq: int) -> bool:
        """Whether an ICMP error that quotes this number can be about a segment that is under way;
        others are forged or late (RFC 5927 §4.1)."""
        offset = self._send.offset_of(seq)
        return self._state is not TcpState.CLOSED and self._send.una <= offset <= self._send.nxt

    def unreachable(self, kind: int, code: int) -> None:
        """Take an ICMP error: while opening it ends the connection, later it is only noted
        (RFC 5927 §5.2)."""
        self.icmp_error = (kind, code)
        if self._state in OPENING:
            self.refused = True
            self._end("unreachable")

    def replaceable_by(self, segment: Segment) -> bool:
        """Whether a SYN may begin a new connection in this one's place (RFC 9293 §3.6.1)."""
        receive = self._receive
        if self._state is not TcpState.TIME_WAIT or receive is None:
            return False
        return unwrap(segment.seq, receive.first, receive.nxt) >= receive.nxt

    def forget(self) -> None:
        """Give up TIME-WAIT early: a new connection takes its place."""
        self._end("closed")

    def receive(self, segment: Segment, now: float) -> None:
        """Take a segment of this connection; never raises, whatever its numbers say."""
        self._now = now
        if self._state is TcpState.CLOSED:
            return
        if self._state is TcpState.SYN_SENT:
            self._in_syn_sent(segment, now)
        elif self._receive is not None:
            self._in_others(segment, self._receive, now)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """What follows from everything that happened before."""
        if self._abort and self._state is not TcpState.CLOSED:
            if self._receive is not None:
                self._send_reset(self._send.number(self._send.nxt))
            self._end("reset")
        self._flush(now)
        self._follow(now)
        self._dirty = False

    def _changed(self) -> None:
        if self._state is not TcpState.CLOSED:
            self._dirty = True
            self._wake(self)

    def _on_opened(self, now: float) -> None:
        if self.app is not None:
            self.app.opened(self, now)

    def _on_data(self, data: bytes, now: float) -> None:
        self._received_bytes += len(data)
        self._kept += data[: max(0, self.keep_bytes - len(self._kept))]
        if self.app is not None:
            self.app.data(self, data, now)

    def _on_end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            if self.app is not None:
                self.app.ended(self, self._now)
