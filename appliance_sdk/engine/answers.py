"""Packets that the appliance makes itself: RSTs, ICMP errors and answers, inside the flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance_sdk.flow.key import unpack_ends
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.packet import ACK, FIN, PSH, Headers
from appliance_sdk.wire.reject import build_tcp_rst, build_tcp_rst_to, build_unreachable

if TYPE_CHECKING:
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.wire.buffer import Buffer

_TCP, _UDP = 6, 17


class Answers:
    """Makes packets and hands them on, no more than so many a second.

    `send(flow, packet)` wraps one in the newest encapsulation of its flow.
    """

    def __init__(self, per_s: float, send: Callable[[Flow, bytes], None]) -> None:
        self._per_s = per_s
        self._tokens = per_s
        self._at = 0.0
        self._send = send
        self.suppressed = 0
        """Answers not made because there were too many."""

    def reject(
        self, flow: Flow, buffer: Buffer, start: int, headers: Headers, to_server: bool, now: float
    ) -> None:
        """Tell both ends that the flow is refused, in answer to a packet that is dropped.

        The sender gets a RST (RFC 9293 §3.10.7.1) or an ICMP error; the other end of a TCP flow a
        RST where it was sent something before, with the sequence number that it expects.
        """
        if headers.protocol == _TCP:
            answer = build_tcp_rst(buffer, start, headers)
        else:
            answer = build_unreachable(buffer, start, headers)
        if answer is None or not self._allowed(now):
            return
        self._send(flow, answer)
        if headers.protocol == _TCP:
            self._reset_end(flow, to_server, headers)

    def reset_both(self, flow: Flow, now: float) -> None:
        """End a TCP flow without a packet at hand, as far as its numbers are known."""
        if flow.tcp is not None and self._allowed(now):
            self._reset_end(flow, True)
            self._reset_end(flow, False)

    def reply(
        self,
        flow: Flow,
        headers: Headers,
        payload: bytes,
        to_server: bool,
        length: int,
        now: float,
    ) -> None:
        """Answer the sender of a dropped packet with `payload` as if the other end had.

        `length` is the packet's TCP payload length, which the answer acknowledges.
        """
        if not self._allowed(now):
            return
        ends = headers.destination, headers.source, headers.destination_port, headers.source_port
        if headers.protocol == _UDP:
            self._send(flow, build_udp(*ends, payload=payload))
        elif headers.protocol == _TCP and headers.flags & ACK:
            ack = (headers.seq + length) & 0xFFFFFFFF
            flags = PSH | ACK | FIN
            packet = build_tcp(*ends, seq=headers.ack, ack=ack, flags=flags, payload=payload)
            self._send(flow, packet)
            self._reset_end(flow, to_server, headers)

    def _reset_end(self, flow: Flow, server: bool, dropped: Headers | None = None) -> None:
        """A RST to one end, with the number it expects: it may have been sent something.

        Of a flow met in its middle nothing is known, but the packet that is being dropped was, in
        all likelihood, the next one its receiver expects.
        """
        tcp = flow.tcp
        if tcp is None:
            return
        if tcp.known(server):
            seq = tcp.next_seq(server)
            ack = tcp.next_seq(not server) if tcp.known(not server) else 0
        elif flow.midstream and dropped is not None:
            seq, ack = dropped.seq, dropped.ack
        else:
            return
        client, server_ip, client_port, server_port = unpack_ends(flow.ends)
        if server:
            ends = client, server_ip, client_port, server_port
        else:
            ends = server_ip, client, server_port, client_port
        self._send(flow, build_tcp_rst_to(*ends, seq=seq, ack=ack))

    def _allowed(self, now: float) -> bool:
        self._tokens = min(self._per_s, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            self.suppressed += 1
            return False
        self._tokens -= 1
        return True
