"""One flow of a load balancer, what it is known by, and what ends or begins it."""

from __future__ import annotations

from typing import TypeAlias

from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.states import Target
from appliance_sdk.harness.zones import Attachment
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, TCP, Headers

Key: TypeAlias = tuple[int, bytes, bytes, int, int]
"""Protocol, source, destination and their ports, as they stand in a packet. Ports are 0 where the
protocol has none, and for fragments."""

OTHER_IDLE_S = 120
"""UDP and everything that is not TCP: fixed (AWS guide, "Idle timeout")."""
ENDS = FIN | RST
_OPENING = SYN | ACK | RST | FIN
_MASK = 0xFFFFFFFF
_IPV6_NEXT_HEADER = 6
_PORTS_KEPT = 8


class FlowEntry:
    """One flow: from its first packet to its end; another flow of the same tuple is another one."""

    __slots__ = (
        "answered",
        "attachment",
        "closed",
        "cookie",
        "created",
        "ends",
        "failing_open",
        "fins",
        "fins_acked",
        "former_ports",
        "header",
        "idle_s",
        "is_tcp",
        "key",
        "moved",
        "reset_entered",
        "returned",
        "reverse",
        "source_port",
        "sticky",
        "syn",
        "target",
        "to_target",
        "version",
        "watched",
    )

    def __init__(
        self, attachment: Attachment, key: Key, target: Target, headers: Headers, now: float
    ) -> None:
        protocol, source, destination, source_port, destination_port = key
        self.attachment = attachment
        self.key = key
        """As the packet that opened it had it."""
        self.reverse: Key = (protocol, destination, source, destination_port, source_port)
        self.version = headers.version
        self.is_tcp = protocol == TCP
        """TCP flows have another idle timeout, and an end."""
        self.target = target
        self.sticky = b""
        """What decided on the target."""
        self.failing_open = False
        """It was opened while no target was healthy."""
        self.cookie = 0
        self.header = b""
        """The GENEVE header of its packets."""
        self.source_port = 0
        self.former_ports: tuple[int, ...] = ()
        self.created = now
        self.idle_s: float = OTHER_IDLE_S
        self.ends = now
        """When it is forgotten if nothing else happens."""
        self.to_target = 0
        """Packets sent to the target."""
        self.returned = 0
        """Packets that came back and were delivered."""
        self.moved = 0
        """How often it got another target."""
        self.watched = False
        """A switch wants a look at each of its packets."""
        self.answered = False
        """The other end has sent something; kept if `first_answer_from` says so."""
        self.reset_entered = False
        """One of the ends has sent RST; kept if `accept_resets` says so."""
        self.syn = (headers.source, headers.seq) if is_syn(headers) else None
        self.fins: dict[bytes, int] = {}
        """Who sent FIN, with the sequence number behind it."""
        self.fins_acked: set[bytes] = set()
        self.closed = False

    @property
    def endpoint(self) -> str:
        """The endpoint that it came through."""
        return self.attachment.endpoint

    def use_port(self, port: int) -> None:
        """From now on its packets leave from another UDP port; answers to the former ones count."""
        if port != self.source_port:
            self.former_ports = (self.source_port, *self.former_ports)[:_PORTS_KEPT]
            self.source_port = port

    def closes(self, headers: Headers) -> bool:
        """Whether this delivered segment ends the connection: RST, or the ACK of both FINs."""
        if headers.protocol != TCP or headers.fragment_offset:
            return False
        if headers.flags & RST:
            return True
        if headers.flags & FIN:
            length = headers.end - headers.payload
            self.fins[headers.source] = (headers.seq + length + 1) & _MASK
        acked = self.fins.get(headers.destination) == headers.ack and headers.flags & ACK
        if acked:
            self.fins_acked.add(headers.destination)
        return len(self.fins_acked) == 2

    def reused_by(self, headers: Headers) -> bool:
        """Whether a packet opens another connection on the same tuple (gwlbtun PR 15)."""
        if not is_syn(headers):
            return False
        if self.closed or self.syn is None:
            return True
        return (headers.source, headers.seq) != self.syn


def flow_key(headers: Headers) -> Key:
    """The key of a packet's flow."""
    if headers.is_fragment:
        return headers.protocol, headers.source, headers.destination, 0, 0
    return headers[1:6]


def outer_protocol_key(packet: bytes, headers: Headers) -> Key:
    """The same, without a look behind IPv6 extension headers."""
    first = packet[_IPV6_NEXT_HEADER]
    if headers.version == 4 or first == headers.protocol:
        return flow_key(headers)
    return first, headers.source, headers.destination, 0, 0


def symmetric(key: Key) -> bytes:
    """The key as bytes, the same for both directions."""
    protocol, source, destination, source_port, destination_port = key
    one = source + source_port.to_bytes(2, "big")
    other = destination + destination_port.to_bytes(2, "big")
    return bytes((protocol,)) + (one + other if one < other else other + one)


def sticky_key(attachment: Attachment, key: Key, settings: GatewaySettings) -> bytes:
    """What decides on the target: the flow, or less of it where stickiness says so."""
    group = settings.target_group
    if group.stickiness:
        protocol, source, destination, _, _ = key
        if group.stickiness_type == "source_ip_dest_ip":
            protocol = 0
        key = protocol, source, destination, 0, 0
    return attachment.packed + symmetric(key)


def is_syn(headers: Headers) -> bool:
    """Whether a packet opens a TCP connection."""
    opening = headers.flags & _OPENING == SYN
    return headers.protocol == TCP and opening and not headers.fragment_offset
