"""Which segments a receiver takes: what it ignores is no part of the stream that it reads."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from appliance_sdk.wire.checksum import transport_checksum
from appliance_sdk.wire.packet import ACK, RST, SYN, TCP, Headers

if TYPE_CHECKING:
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.packet import Packet
    from appliance_sdk.wire.buffer import Buffer

_SERVERS_REMEMBERED = 65_536


def is_damaged(buffer: Buffer, headers: Headers) -> bool:
    """Whether a segment's checksum is wrong: its receiver ignores it, and so must who follows."""
    if headers.is_fragment:
        return False
    segment = bytes(buffer[headers.transport : headers.end])
    return transport_checksum(headers.source, headers.destination, TCP, segment) != 0


class Credibility:
    """What is known of who answers whom, over all flows of one engine."""

    def __init__(self) -> None:
        self._answering: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        """Servers that were heard, behind their endpoint; the first to come goes first."""

    def is_ignored(self, flow: Flow, packet: Packet) -> bool:
        """Whether no receiver takes anything from this segment (RFC 9293 §3.10.7).

        What it brings must not be shown: the bytes that the receiver takes in its place are others.
        An end that has never sent a right checksum was captured before its network card finished
        the packets; it is believed.
        """
        headers = packet.headers
        if headers.flags & RST:
            return False
        if not headers.flags & (ACK | SYN):
            return True
        bit = 1 + packet.to_server
        if not is_damaged(packet._buffer, headers):
            flow._inspection.sound |= bit
            return False
        return bool(flow._inspection.sound & bit)

    def hear(self, endpoint_id: int, address: bytes) -> None:
        """A server behind that endpoint has sent something."""
        server = endpoint_id, address
        if server not in self._answering:
            if len(self._answering) >= _SERVERS_REMEMBERED:
                self._answering.popitem(last=False)
            self._answering[server] = None

    def is_suspect(self, flow: Flow, to_server: bool) -> bool:
        """Whether bytes in this direction belong to another connection than the one we know.

        No client sends any before it is answered. Where the server's answers come this way, those
        bytes are of a connection that still lives at the server, although a RST and a SYN that it
        ignored have replaced it here. Of a server that was never heard the answers take another
        way, which GWLB supports.
        """
        tcp = flow.tcp
        if tcp is None or tcp.start(not to_server) is not None or tcp.start(to_server) is None:
            return False
        return not to_server or (flow.lane.endpoint_id, flow.server_ip) in self._answering
