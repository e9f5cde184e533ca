"""The two ends of a conversation on a bench, as far as an appliance can tell."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.geneve import parse_endpoint
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN, Headers, parse_packet

if TYPE_CHECKING:
    from appliance_sdk.flow.key import FlowKey
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.testing.bench import Bench

_MSS = 1400
_MASK = 0xFFFFFFFF


class Peers:
    """What UDP and TCP peers share: who they are, what reached them, what was decided."""

    protocol = 0

    def __init__(
        self, bench: Bench, client: str, server: str, client_port: int, port: int, endpoint: str
    ) -> None:
        self._bench = bench
        self._endpoint = endpoint
        self.client = ipaddress.ip_address(client).packed
        self.server = ipaddress.ip_address(server).packed
        self.client_port = client_port
        self.server_port = port
        self.client_received = b""
        """Application bytes that reached the client, in order."""
        self.server_received = b""
        """Application bytes that reached the server, in order."""
        self.client_reset = False
        """The client got a RST, or an ICMP error about this flow."""
        self.server_reset = False
        """The same for the server."""
        self._flow: Flow | None = None
        self._dropped = False

    @property
    def flow(self) -> Flow | None:
        """The flow in the appliance, also after its end; None if none was kept."""
        key: FlowKey = (
            parse_endpoint(self._endpoint),
            self.protocol,
            self.client,
            self.server,
            self.client_port,
            self.server_port,
        )
        self._flow = self._bench.flow_of(key) or self._flow
        return self._flow

    @property
    def verdict(self) -> Verdict:
        """What was decided about the flow; DROP if none was kept and the packet was dropped."""
        flow = self.flow
        if flow is None:
            return Verdict.DROP if self._dropped else Verdict.CONTINUE
        return flow.verdict

    def _transmit(self, packet: bytes) -> bytes | None:
        """Send one packet: what reached the other end in its place, None if nothing did."""
        mine = parse_packet(packet, 0, len(packet))
        arrived: bytes | None = None
        for out in self._bench.send(packet, self._endpoint):
            theirs = parse_packet(out, 0, len(out))
            same_way = (theirs.source, theirs.source_port) == (mine.source, mine.source_port)
            same_kind = theirs.protocol == mine.protocol and theirs.seq == mine.seq
            if arrived is None and same_way and same_kind and not theirs.flags & RST & ~mine.flags:
                arrived = out
            else:
                self._bench.injected.append(out)
                self._injected(theirs, out)
        self._dropped = arrived is None
        _ = self.flow
        return arrived

    def late(self, packet: bytes) -> None:
        """For the bench: a packet of theirs that came out later than it was sent."""
        headers = parse_packet(packet, 0, len(packet))
        if headers.flags & RST or headers.icmp_type >= 0:
            self._injected(headers, packet)
            return
        self._arrived_late(headers, _payload(packet))

    def _arrived_late(self, headers: Headers, payload: bytes) -> None:
        if headers.destination == self.server and headers.source == self.client:
            self.server_received += payload
        else:
            self.client_received += payload

    def is_of(self, headers: Headers, endpoint: str) -> bool:
        """For the bench: whether a packet is of this conversation, or an error about it."""
        ends = {(self.client, self.client_port), (self.server, self.server_port)}
        if headers.icmp_type >= 0:
            return endpoint == self._endpoint and headers.destination in {a for a, _ in ends}
        return endpoint == self._endpoint and ends == {
            (headers.source, headers.source_port),
            (headers.destination, headers.destination_port),
        }

    def _injected(self, headers: Headers, packet: bytes) -> None:
        to_client = headers.destination == self.client
        if headers.flags & RST or headers.icmp_type >= 0:
            if to_client:
                self.client_reset = True
            else:
                self.server_reset = True
        elif to_client:
            self.client_received += packet[headers.payload : headers.end]
        else:
            self.server_received += packet[headers.payload : headers.end]


class UdpPeers(Peers):
    """Two ends that exchange datagrams."""

    protocol = 17

    def client_sends(self, data: bytes) -> bool:
        """One datagram to the server; whether it arrived."""
        packet = build_udp(
            self.client, self.server, self.client_port, self.server_port, payload=data
        )
        arrived = self._transmit(packet)
        self.server_received += _payload(arrived)
        return arrived is not None

    def server_sends(self, data: bytes) -> bool:
        """One datagram to the client; whether it arrived."""
        packet = build_udp(
            self.server, self.client, self.server_port, self.client_port, payload=data
        )
        arrived = self._transmit(packet)
        self.client_received += _payload(arrived)
        return arrived is not None


class TcpPeers(Peers):
    """Two ends of a TCP connection that send in order and acknowledge what arrives."""

    protocol = 6

    def __init__(
        self, bench: Bench, client: str, server: str, client_port: int, port: int, endpoint: str
    ) -> None:
        super().__init__(bench, client, server, client_port, port, endpoint)
        self._client_seq = 1000
        self._server_seq = 500_000

    def handshake(self) -> bool:
        """SYN, SYN+ACK, ACK; whether all three arrived.

        When the SYN waits for a verdict they did not: call it again, as a client would.
        """
        syn = self._segment(True, SYN)
        if self._transmit(syn) is None:
            return False
        self._client_seq += 1
        if self._transmit(self._segment(False, SYN | ACK)) is None:
            return False
        self._server_seq += 1
        return self._transmit(self._segment(True, ACK)) is not None

    def pretend_established(self) -> None:
        """As if the handshake had gone another way: the next packet comes from nowhere."""
        self._client_seq += 1
        self._server_seq += 1

    def client_sends(self, data: bytes) -> bool:
        """Stream bytes to the server; whether all of them arrived. Nothing is sent twice."""
        return self._send(True, data)

    def server_sends(self, data: bytes) -> bool:
        """Stream bytes to the client; whether all of them arrived."""
        return self._send(False, data)

    def _arrived_late(self, headers: Headers, payload: bytes) -> None:
        super()._arrived_late(headers, payload)
        if headers.seq == self._client_seq and headers.source == self.client:
            self._client_seq = (self._client_seq + len(payload)) & _MASK
        elif headers.seq == self._server_seq and headers.source == self.server:
            self._server_seq = (self._server_seq + len(payload)) & _MASK

    def close(self) -> bool:
        """FIN both ways, client first; whether all of it arrived."""
        done = self._transmit(self._segment(True, FIN | ACK)) is not None
        self._client_seq += 1
        done &= self._transmit(self._segment(False, FIN | ACK)) is not None
        self._server_seq += 1
        return done and self._transmit(self._segment(True, ACK)) is not None

    def reset(self) -> bool:
        """A RST from the client; whether it arrived."""
        return self._transmit(self._segment(True, RST | ACK)) is not None

    def _send(self, to_server: bool, data: bytes) -> bool:
        size = self._bench.segment or _MSS
        for at in range(0, len(data), size):
            part = data[at : at + size]
            arrived = self._transmit(self._segment(to_server, PSH | ACK, part))
            if arrived is None:
                return False
            if to_server:
                self.server_received += _payload(arrived)
                self._client_seq = (self._client_seq + len(part)) & _MASK
            else:
                self.client_received += _payload(arrived)
                self._server_seq = (self._server_seq + len(part)) & _MASK
            self._transmit(self._segment(not to_server, ACK))
        return True

    def _segment(self, to_server: bool, flags: int, payload: bytes = b"") -> bytes:
        if to_server:
            ends = self.client, self.server, self.client_port, self.server_port
            seq, ack = self._client_seq, self._server_seq
        else:
            ends = self.server, self.client, self.server_port, self.client_port
            seq, ack = self._server_seq, self._client_seq
        options = b"\x02\x04\x05\xb4" if flags & SYN else b""
        ack = ack if flags & ACK else 0
        return build_tcp(*ends, seq=seq, ack=ack, flags=flags, payload=payload, options=options)


def _payload(packet: bytes | None) -> bytes:
    if packet is None:
        return b""
    headers = parse_packet(packet, 0, len(packet))
    return packet[headers.payload : headers.end]
