"""Flows that cases send through an appliance: packets with right numbers, each encapsulated."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from appliance_sdk.conformance.encapsulation import (
    attachment_option,
    cookie_option,
    endpoint_option,
    header,
)
from appliance_sdk.wire import build_icmp, build_tcp, build_udp
from appliance_sdk.wire.geneve import ETHERTYPE_IPV4, ETHERTYPE_IPV6, parse_endpoint
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

ENDPOINT = "vpce-0a1b2c3d4e5f60718"
OTHER_ENDPOINT = "vpce-0ffeeddccbbaa9988"

_MASK = 0xFFFFFFFF


@lru_cache(1 << 12)
def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


class Datagram(NamedTuple):
    """What the load balancer sends to the appliance: GENEVE header and inner packet in UDP."""

    header: bytes
    inner: bytes
    source_port: int
    node: int = 0
    """Which of the load balancer's nodes sends it, from 0."""
    address: int = 0
    """Which of the appliance's addresses it goes to: 0, or 1 if it listens on every address."""

    @property
    def payload(self) -> bytes:
        """Header and inner packet."""
        return self.header + self.inner

    def changed(self, **changes: Any) -> Datagram:
        """The same with other fields: `flow.syn().changed(source_port=53)`."""
        return self._replace(**changes)


class Conversation:
    """Two ends behind one endpoint, with what their datagrams have in common.

    `cookie`, `source_port`, `node` and `endpoint` may be changed between two packets: that is how
    a load balancer that moves, or uses the tuple again, looks to an appliance.
    """

    def __init__(
        self,
        client: str,
        server: str,
        *,
        cookie: int,
        source_port: int,
        endpoint: str = ENDPOINT,
        node: int = 0,
    ) -> None:
        self.client = _packed(client)
        self.server = _packed(server)
        self.cookie = cookie
        self.source_port = source_port
        self.endpoint = endpoint
        self.node = node

    @property
    def ipv6(self) -> bool:
        """Whether the inner packets are IPv6."""
        return len(self.client) == 16

    @property
    def ethertype(self) -> int:
        """The protocol field of the GENEVE header."""
        return ETHERTYPE_IPV6 if self.ipv6 else ETHERTYPE_IPV4

    @property
    def options(self) -> list[bytes]:
        """GWLB's three options, in its order."""
        endpoint = endpoint_option(parse_endpoint(self.endpoint))
        return [endpoint, attachment_option(), cookie_option(self.cookie)]

    def header(self, options: Sequence[bytes] | None = None, **fields: Any) -> bytes:
        """The GENEVE header of this flow; `fields` as in `encapsulation.header`."""
        chosen = self.options if options is None else options
        return header(chosen, **{"ethertype": self.ethertype, **fields})

    def carry(self, inner: bytes) -> Datagram:
        """Any packet in this flow's encapsulation."""
        return Datagram(self.header(), inner, self.source_port, self.node)

    def ends(self, to_client: bool) -> tuple[bytes, bytes]:
        """Source and destination of a direction."""
        return (self.server, self.client) if to_client else (self.client, self.server)


class TcpConversation(Conversation):
    """A TCP connection; what it sends moves its sequence numbers on."""

    def __init__(
        self, client: str, server: str, client_port: int, server_port: int, **encapsulation: Any
    ) -> None:
        super().__init__(client, server, **encapsulation)
        self.client_port = client_port
        self.server_port = server_port
        self.client_next = 1000
        """The sequence number of the client's next byte."""
        self.server_next = 900_000

    def syn(self) -> Datagram:
        """The client opens; sent again, it is a retransmission."""
        self.client_next = (self.client_next + 1) & _MASK
        return self._segment(False, SYN, back=1, options=b"\x02\x04\x05\xb4")

    def syn_again(self) -> Datagram:
        """The SYN once more."""
        return self._segment(False, SYN, back=1, options=b"\x02\x04\x05\xb4")

    def syn_ack(self) -> Datagram:
        """The server accepts."""
        self.server_next = (self.server_next + 1) & _MASK
        return self._segment(True, SYN | ACK, back=1, options=b"\x02\x04\x05\xb4")

    def ack(self, *, to_client: bool = False) -> Datagram:
        """An acknowledgement without data."""
        return self._segment(to_client, ACK)

    def to_server(self, data: bytes) -> Datagram:
        """The client's next bytes."""
        return self._data(False, data)

    def to_client(self, data: bytes) -> Datagram:
        """The server's next bytes."""
        return self._data(True, data)

    def fin(self, *, to_client: bool = False) -> Datagram:
        """One end is done."""
        if to_client:
            self.server_next = (self.server_next + 1) & _MASK
        else:
            self.client_next = (self.client_next + 1) & _MASK
        return self._segment(to_client, FIN | ACK, back=1)

    def rst(self, *, to_client: bool = False) -> Datagram:
        """One end gives up."""
        return self._segment(to_client, RST | ACK)

    def handshake(self) -> list[Datagram]:
        """SYN, SYN+ACK, ACK."""
        return [self.syn(), self.syn_ack(), self.ack()]

    def closing(self) -> list[Datagram]:
        """FIN both ways and the last ACK."""
        return [self.fin(), self.fin(to_client=True), self.ack()]

    def segment(
        self, *, to_client: bool, seq: int, flags: int = ACK, data: bytes = b""
    ) -> Datagram:
        """A segment with a sequence number of one's own; nothing moves on."""
        return self._segment(to_client, flags, seq=seq, data=data)

    def _data(self, to_client: bool, data: bytes) -> Datagram:
        if to_client:
            self.server_next = (self.server_next + len(data)) & _MASK
        else:
            self.client_next = (self.client_next + len(data)) & _MASK
        return self._segment(to_client, ACK | PSH, back=len(data), data=data)

    def _segment(
        self,
        to_client: bool,
        flags: int,
        *,
        back: int = 0,
        seq: int | None = None,
        data: bytes = b"",
        options: bytes = b"",
    ) -> Datagram:
        own, other = self.client_next, self.server_next
        ports = self.client_port, self.server_port
        if to_client:
            own, other = other, own
            ports = ports[1], ports[0]
        return self.carry(
            build_tcp(
                *self.ends(to_client),
                *ports,
                seq=(own - back) & _MASK if seq is None else seq,
                ack=other if flags & ACK else 0,
                flags=flags,
                payload=data,
                options=options,
            )
        )


class UdpConversation(Conversation):
    """UDP datagrams between two ports."""

    def __init__(
        self, client: str, server: str, client_port: int, server_port: int, **encapsulation: Any
    ) -> None:
        super().__init__(client, server, **encapsulation)
        self.client_port = client_port
        self.server_port = server_port

    def to_server(self, data: bytes = b"") -> Datagram:
        """From the client."""
        ports = self.client_port, self.server_port
        return self.carry(build_udp(*self.ends(False), *ports, payload=data))

    def to_client(self, data: bytes = b"") -> Datagram:
        """From the server."""
        ports = self.server_port, self.client_port
        return self.carry(build_udp(*self.ends(True), *ports, payload=data))


class PingConversation(Conversation):
    """ICMP echo."""

    identifier = 77

    def request(self, sequence: int = 1, data: bytes = b"conformance") -> Datagram:
        """The client asks."""
        return self._echo(False, 128 if self.ipv6 else 8, sequence, data)

    def reply(self, sequence: int = 1, data: bytes = b"conformance") -> Datagram:
        """The server answers."""
        return self._echo(True, 129 if self.ipv6 else 0, sequence, data)

    def _echo(self, to_client: bool, kind: int, sequence: int, data: bytes) -> Datagram:
        body = self.identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big") + data
        return self.carry(build_icmp(*self.ends(to_client), kind, 0, body))
