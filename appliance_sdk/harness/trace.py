"""The way of every packet through the picture: hop by hop, with the route that sent it on."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire import parse_packet
from appliance_sdk.wire.packet import ICMP, ICMPV6, TCP, UDP

_FLAGS = ((0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK"))
_PROTOCOLS = {ICMP: "icmp", ICMPV6: "icmp6", TCP: "tcp", UDP: "udp"}


class Hop(NamedTuple):
    """One step of one packet."""

    time: float
    """In seconds of the harness's clock."""
    place: str
    """A host, "igw", a subnet, an endpoint, a load balancer or a target, by its name; a link with
    a fault is "to appliance-1" or "from appliance-1"."""
    event: str
    """"sent", "translated", "routed", "encapsulated", "returned", "delivered", "dropped" …"""
    detail: str


class Transit:
    """One packet on its way; `number` is the same from its sender to where it ends."""

    __slots__ = ("first", "hops", "number", "packet", "tables")

    def __init__(self, number: int, packet: bytes) -> None:
        self.number = number
        self.first = packet
        """As its sender made it."""
        self.packet = packet
        """As it is now: an internet gateway changes an address."""
        self.hops: list[Hop] = []
        self.tables = 0
        """Route tables that it has passed: too many are a loop."""

    @property
    def ended(self) -> Hop | None:
        """The last hop."""
        return self.hops[-1] if self.hops else None

    def lines(self, start: float = 0.0) -> Iterator[str]:
        """A line for the packet and one for each hop, times in milliseconds since `start`."""
        yield f"packet {self.number}  {describe(self.first)}"
        width = max((len(hop.place) for hop in self.hops), default=0)
        for hop in self.hops:
            at = f"{(hop.time - start) * 1000:.3f}"
            yield f"  {at:>11}  {hop.place:<{width}}  {hop.event:<12}  {hop.detail}".rstrip()


class Outer(NamedTuple):
    """A GENEVE datagram, with the IPv4 addresses and UDP ports that it goes from and to."""

    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes


class Sighting(NamedTuple):
    """A packet as it was when it came to a place."""

    hop: Hop
    """Not always one of `transit`'s: "received" stands for a datagram that GENEVE's other end
    got."""
    transit: Transit
    packet: bytes
    """Itself, or the GENEVE datagram that carried it."""
    outer: Outer | None
    """That datagram."""


class Trace:
    """The packets that were sent, at most the last `limit` of them."""

    def __init__(self, limit: int = 10_000) -> None:
        self._packets: deque[Transit] = deque(maxlen=limit)
        self._next = 1

    def __iter__(self) -> Iterator[Transit]:
        return iter(self._packets)

    def __len__(self) -> int:
        return len(self._packets)

    def begin(self, packet: bytes) -> Transit:
        """A new packet."""
        transit = Transit(self._next, packet)
        self._next += 1
        self._packets.append(transit)
        return transit

    def clear(self) -> None:
        """Forget every packet; numbers go on."""
        self._packets.clear()

    def text(self, start: float = 0.0) -> str:
        """Every packet with its hops, as lines."""
        return "".join(f"{line}\n" for packet in self for line in packet.lines(start))


def describe(packet: bytes) -> str:
    """A packet in a line: "tcp 10.0.0.5:40000 -> 10.0.1.10:80 SYN, 44 bytes"."""
    try:
        headers = parse_packet(packet, 0, len(packet))
    except MalformedPacket as error:
        return f"unreadable ({error.reason}), {len(packet)} bytes"
    protocol = _PROTOCOLS.get(headers.protocol, f"protocol {headers.protocol}")
    source = show_place(headers.source, headers.source_port)
    destination = show_place(headers.destination, headers.destination_port)
    more = ""
    if headers.protocol == TCP and not headers.fragment_offset:
        more = " " + "+".join(name for bit, name in _FLAGS if headers.flags & bit)
    elif headers.icmp_type >= 0:
        more = f" type {headers.icmp_type} code {headers.icmp_code}"
    if headers.is_fragment:
        more += f" fragment at {headers.fragment_offset}"
    return f"{protocol} {source} -> {destination}{more}, {len(packet)} bytes"


def show_place(address: bytes, port: int = 0) -> str:
    """An address, with its port if there is one."""
    text = str(ipaddress.ip_address(address))
    if not port:
        return text
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"
