"""A load balancer with endpoints and targets, and packets for it: transcripts in virtual time."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from appliance_sdk.harness import (
    Change,
    Dropped,
    GatewayLoadBalancer,
    GatewaySettings,
    ToEndpoint,
    ToTarget,
)
from appliance_sdk.wire import build_tcp, build_udp
from appliance_sdk.wire.geneve import parse_geneve
from appliance_sdk.wire.packet import ACK, RST, SYN, parse_packet

ONE, OTHER = "vpce-0a1b2c3d4e5f60718", "vpce-0ffffffffffffffff"
CLIENT, SERVER = (ipaddress.ip_address(a).packed for a in ("203.0.113.10", "10.0.1.10"))


class Gateway:
    """Two targets in zone a, one in zone b; endpoint ONE in zone a, OTHER in zone b."""

    def __init__(self, settings: dict[str, Any] | None = None, *, seed: int = 0) -> None:
        self.now = 0.0
        self.changes: list[Change] = []
        self.lb = GatewayLoadBalancer(
            {"a": "10.9.0.11", "b": "10.9.1.11"},
            msgspec.convert(settings or {}, GatewaySettings),
            seed=seed,
            changed=self.changes.append,
        )
        self.lb.add_endpoint(ONE, "a")
        self.lb.add_endpoint(OTHER, "b")
        for name, address, zone in (
            ("a-1", "10.9.0.21", "a"),
            ("a-2", "10.9.0.22", "a"),
            ("b-1", "10.9.1.21", "b"),
        ):
            self.add(name, address, zone)

    def add(self, name: str, address: str, zone: str) -> None:
        """One more target, healthy."""
        self.lb.register(name, address, zone, self.now)
        self.probe(name, "", times=10)

    def probe(self, name: str, reason: str, times: int = 1) -> None:
        """Results of health checks, in every zone that asks."""
        for zone in self.lb.nodes:
            for _ in range(times):
                self.lb.probed(name, zone, reason, self.now)

    def state(self, name: str, zone: str = "") -> str:
        return str(self.lb.targets.state(name, zone))

    def enter(self, packet: bytes, endpoint: str = ONE) -> ToTarget | ToEndpoint | Dropped:
        """A packet comes to an endpoint."""
        return self.lb.from_endpoint(endpoint, packet, self.now)

    def sent(self, packet: bytes, endpoint: str = ONE) -> ToTarget:
        """The same, and it goes to a target."""
        outcome = self.enter(packet, endpoint)
        assert isinstance(outcome, ToTarget), outcome
        return outcome

    def reason(self, packet: bytes, endpoint: str = ONE) -> str:
        """The same, and it is dropped."""
        outcome = self.enter(packet, endpoint)
        assert isinstance(outcome, Dropped), outcome
        return outcome.reason

    def back(
        self, sent: ToTarget, payload: bytes | None = None, **place: Any
    ) -> ToEndpoint | Dropped:
        """The target gives a datagram back, as it should unless `place` says otherwise."""
        source = place.get("source", (sent.target.address, sent.source_port))
        destination = place.get("destination", (sent.node, 6081))
        body = sent.payload if payload is None else payload
        return self.lb.from_target(source, destination, body, self.now)

    def through(self, packet: bytes, endpoint: str = ONE) -> ToTarget:
        """There and back."""
        sent = self.sent(packet, endpoint)
        returned = self.back(sent)
        assert isinstance(returned, ToEndpoint), returned
        assert (returned.endpoint, returned.packet) == (endpoint, packet)
        return sent

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.lb.advance(self.now)


def tcp(
    flags: int = SYN,
    *,
    port: int = 40000,
    to_server: bool = True,
    seq: int = 100,
    ack: int = 0,
    payload: bytes = b"",
) -> bytes:
    """A segment between client and server."""
    if to_server:
        return build_tcp(CLIENT, SERVER, port, 443, seq=seq, ack=ack, flags=flags, payload=payload)
    return build_tcp(SERVER, CLIENT, 443, port, seq=seq, ack=ack, flags=flags, payload=payload)


def udp(*, port: int = 5000, to_server: bool = True) -> bytes:
    """A datagram between client and server."""
    if to_server:
        return build_udp(CLIENT, SERVER, port, 53, payload=b"question")
    return build_udp(SERVER, CLIENT, 53, port, payload=b"answer")


def handshake(gateway: Gateway, port: int = 40000) -> ToTarget:
    """A connection that is open."""
    gateway.through(tcp(port=port))
    gateway.through(tcp(SYN | ACK, port=port, to_server=False, seq=900, ack=101))
    return gateway.through(tcp(ACK, port=port, seq=101, ack=901))


def is_reset_to_sender(outcome: object, sender: bytes) -> bool:
    """Whether GWLB answered with a TCP reset of its own."""
    if not isinstance(outcome, ToEndpoint) or outcome.by:
        return False
    headers = parse_packet(outcome.packet, 0, len(outcome.packet))
    return bool(headers.flags & RST) and headers.destination == sender


REBALANCE = {
    "target_failover.on_unhealthy": "rebalance",
    "target_failover.on_deregistration": "rebalance",
}


def inner(sent: ToTarget) -> bytes:
    return sent.payload[parse_geneve(sent.payload, 0, len(sent.payload)).length :]
