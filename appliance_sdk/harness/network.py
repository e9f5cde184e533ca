"""Moves packets between hosts, route tables, endpoints and load balancers, a hop at a time."""

from __future__ import annotations

import functools
import heapq
import ipaddress
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from appliance_sdk.errors import HarnessError, MalformedPacket
from appliance_sdk.harness.balancer import GatewayLoadBalancer
from appliance_sdk.harness.diagnosis import Diagnosis
from appliance_sdk.harness.faults import Direction, Faults
from appliance_sdk.harness.links import Arrive, Links
from appliance_sdk.harness.outcomes import Dropped, Place, ToEndpoint, ToTarget
from appliance_sdk.harness.router import EDGE, INTERNET, Location, Router
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.trace import Hop, Outer, Sighting, Trace, Transit, show_place
from appliance_sdk.harness.transit import Attachment, TransitGateway
from appliance_sdk.harness.translation import translate_destination, translate_source
from appliance_sdk.harness.vpc import TABLES_LIMIT, Endpoint
from appliance_sdk.harness.waiting import Waiting
from appliance_sdk.wire import parse_geneve, parse_packet
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.geneve import PORT
from appliance_sdk.wire.packet import Headers

INTERNET_S = 0.005
"""How long a packet takes between a host on the internet and an internet gateway."""
VPC_S = 0.0001
"""How long a packet takes from one place of a VPC to the next."""


class NetworkHost(Protocol):
    """What the network needs of a host."""

    outbox: list[bytes]

    def receive(self, packet: bytes, now: float) -> None:
        """A packet arrives."""

    def next_deadline(self) -> float:
        """When `advance` has something to do."""

    def advance(self, now: float) -> None:
        """Let time pass."""


class Network:
    """The picture in motion. `to_target` takes what a load balancer sends to an appliance;
    what the appliance sends goes to `from_target`."""

    def __init__(
        self,
        topology: Topology,
        hosts: Mapping[str, NetworkHost],
        gateways: Mapping[str, GatewayLoadBalancer],
        to_target: Callable[[ToTarget, float], None],
        trace: Trace,
        faults: Faults | None = None,
    ) -> None:
        self.trace = trace
        self.faults = faults if faults is not None else Faults()
        self.watchers: list[Callable[[Sighting], None]] = []
        """Called with every packet at every place that it comes to."""
        self._links = Links(self.faults, self)
        self.drops: Counter[str] = Counter()
        """Packets that no load balancer dropped: no route, nobody there, a loop."""
        self.hosts = dict(hosts)
        self.gateways = dict(gateways)
        self._to_target = to_target
        self._topology = topology
        self._router = Router(topology)
        self._endpoints: dict[str, tuple[str, Endpoint]] = {}
        for vpc_name, vpc in self._router.vpcs.items():
            for endpoint in vpc.endpoints.values():
                self._endpoints[endpoint.id] = vpc_name, endpoint
                self.gateways[endpoint.gateway].add_endpoint(endpoint.id, endpoint.zone)
        self._nodes = {
            node: (name, gateway)
            for name, gateway in self.gateways.items()
            for node in gateway.nodes.values()
        }
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._waiting = Waiting()

    @functools.cached_property
    def _diagnosis(self) -> Diagnosis:
        """Made when the first packet is dropped for its way."""
        return Diagnosis(self._topology)

    @property
    def in_flight(self) -> int:
        """Packets between two places, those at appliances not among them."""
        return len(self._queue)

    @property
    def at_appliances(self) -> int:
        """Packets that were sent to appliances and have not come back."""
        return len(self._waiting)

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing is pending."""
        moving = self._queue[0][0] if self._queue else math.inf
        hosts = min((host.next_deadline() for host in self.hosts.values()), default=math.inf)
        return min(moving, hosts)

    def advance(self, now: float) -> None:
        """Move everything that is due, hosts first."""
        for name, host in self.hosts.items():
            if host.next_deadline() <= now:
                host.advance(now)
            self._collect(name, now)
        while self._queue and self._queue[0][0] <= now:
            at, _, action, arguments = heapq.heappop(self._queue)
            action(at, *arguments)

    def add_node(self, gateway: str, address: str) -> None:
        """A load balancer is heard at another address; the former ones stay known."""
        self._nodes[address] = gateway, self.gateways[gateway]

    def from_target(self, source: Place, destination: Place, payload: bytes, now: float) -> None:
        """A datagram from an appliance to one of the nodes."""
        _, gateway = self._nodes.get(destination[0], ("", None))
        if gateway is None:
            raise HarnessError(f"{destination[0]} is no node's address")
        target = gateway.targets.at(source[0])
        place = target.name if target is not None else source[0]
        outer = Outer(source, destination, payload) if self.watchers else None
        returned = self._waiting.returned(source[0], payload)
        if returned is not None:
            transit, detail = returned
            self._hop(transit, now, place, "returned", detail, outer)
        else:
            transit = self.trace.begin(inner_packet(payload))
            self._hop(transit, now, place, "made", "or changed by the appliance", outer)

        def arrive(at: float, transit: Transit, payload: bytes) -> None:
            self._into_gateway(at, transit, source, destination, payload)

        self._cross(now, place, "from", transit, payload, arrive, geneve=True)

    def _into_gateway(
        self, now: float, transit: Transit, source: Place, destination: Place, payload: bytes
    ) -> None:
        name, gateway = self._nodes[destination[0]]
        outcome = gateway.from_target(source, destination, payload, now)
        outer = Outer(source, destination, payload) if self.watchers else None
        if isinstance(outcome, Dropped):
            self._gateway_drop(transit, now, name, outcome, outer=outer)
            return
        self._show(transit, Hop(now, name, "received", ""), outer)
        transit.packet = outcome.packet
        self._leave_endpoint(now, transit, outcome)

    def give_up(self, before: float, now: float) -> None:
        """Packets sent to appliances until `before` that have not come back were kept there."""
        for transit, target in self._waiting.kept(before):
            self._hop(transit, now, target, "kept", "by the appliance: not returned")

    def copy(self, transit: Transit) -> Transit:
        """Another packet with the same bytes, which goes the same way."""
        copy = self.trace.begin(transit.packet)
        copy.tables = transit.tables
        return copy

    def note(self, transit: Transit, now: float, place: str, event: str, detail: str) -> None:
        """One more hop of a packet."""
        self._hop(transit, now, place, event, detail)

    def later(self, now: float, delay_s: float, action: Callable[[float], None]) -> None:
        """Call something when its time has come."""
        self._later(now, delay_s, action)

    def _collect(self, name: str, now: float) -> None:
        host = self.hosts[name]
        while host.outbox:
            packets = host.outbox[:]
            host.outbox.clear()
            for packet in packets:
                transit = self.trace.begin(packet)
                self._hop(transit, now, name, "sent", "")
                arrive = functools.partial(self._leave_host, name)
                self._cross(now, name, "from", transit, packet, arrive)

    def _leave_host(self, name: str, now: float, transit: Transit, packet: bytes) -> None:
        home = self._router.homes[name]
        if packet is not transit.packet:
            transit.packet = packet
            damage = find_damage(packet)
            if damage:
                self._drop(transit, now, home.subnet or "internet", "malformed", damage)
                return
        self._route(now, transit, home)

    def _route(self, now: float, transit: Transit, place: Location) -> None:
        """A packet comes from a host, an endpoint or another place: where to now?"""
        try:
            headers = parse_packet(transit.packet, 0, len(transit.packet))
        except MalformedPacket as error:
            self._drop(transit, now, place.subnet or "internet", "malformed", error.reason)
            return
        choose = functools.partial(_zone, headers)
        move = self._router.move(place, headers.source, headers.destination, choose)
        if move.dropped:
            self._drop(transit, now, move.at, move.dropped, move.detail)
            return
        if move.step is not None:
            transit.tables += 1
            if transit.tables > TABLES_LIMIT:
                cause = self._diagnosis.cause(place.vpc, "", headers.source, headers.destination)
                detail = f"{move.step}, after {TABLES_LIMIT} tables"
                detail += f". It {cause}" if cause else ""
                self._drop(transit, now, move.at, "routing_loop", detail)
                return
            zone = f", zone {move.zone}" if move.zone else ""
            self._hop(transit, now, move.at, "routed", f"{move.step}{zone}")
        delay = VPC_S if place.vpc else INTERNET_S
        if move.endpoint is not None:
            self._later(now, delay, self._enter_endpoint, transit, move.endpoint)
        elif move.host is not None:
            self._later(now, delay, self._deliver, transit, move.host, place.vpc or "internet")
        elif not place.vpc:
            self._later(now, delay, self._come_in, transit, move.to, move.destination)
        elif move.to == INTERNET:
            self._translate(now, transit, "source", headers.source, move.source)
            self._route(now, transit, INTERNET)
        else:
            self._later(now, delay, self._route, transit, move.to)

    def _come_in(self, now: float, transit: Transit, place: Location, private: bytes) -> None:
        """In through an internet gateway, which knows the private address."""
        headers = parse_packet(transit.packet, 0, len(transit.packet))
        self._translate(now, transit, "destination", headers.destination, private)
        self._route(now, transit, place)

    def _translate(self, now: float, transit: Transit, which: str, old: bytes, new: bytes) -> None:
        """What an internet gateway does to an IPv4 address."""
        if old != new:
            change = translate_source if which == "source" else translate_destination
            transit.packet = change(transit.packet, new)
            detail = f"{which} {show_place(old)} to {show_place(new)}"
            self._hop(transit, now, EDGE, "translated", detail)

    def _enter_endpoint(self, now: float, transit: Transit, endpoint: Endpoint) -> None:
        gateway = self.gateways[endpoint.gateway]
        self._hop(transit, now, endpoint.name, "endpoint", endpoint.id)
        outcome = gateway.from_endpoint(endpoint.id, transit.packet, now)
        if isinstance(outcome, Dropped):
            self._gateway_drop(transit, now, endpoint.gateway, outcome, endpoint)
        elif isinstance(outcome, ToEndpoint):
            self._drop(transit, now, endpoint.gateway, "reset", "answered with a TCP reset")
            reset = self.trace.begin(outcome.packet)
            self._hop(reset, now, endpoint.gateway, "made", "a TCP reset to the sender")
            self._leave_endpoint(now, reset, outcome)
        else:
            detail = (
                f"{show_place(_packed(outcome.node), outcome.source_port)} -> "
                f"{outcome.target.address}:6081, cookie {outcome.cookie:08x}, "
                f"{len(outcome.payload) + 28} bytes to {outcome.target.name}"
            )
            outer = _outer(outcome) if self.watchers else None
            self._hop(transit, now, endpoint.gateway, "encapsulated", detail, outer)
            arrive = functools.partial(self._into_target, outcome)
            name = outcome.target.name
            self._cross(now, name, "to", transit, outcome.payload, arrive, geneve=True)

    def _into_target(
        self, datagram: ToTarget, now: float, transit: Transit, payload: bytes
    ) -> None:
        if payload is not datagram.payload:
            datagram = datagram._replace(payload=payload)
        target = datagram.target
        self._waiting.sent(target.address, payload, transit, target.name, now)
        if self.watchers:
            self._show(transit, Hop(now, datagram.target.name, "received", ""), _outer(datagram))
        self._to_target(datagram, now)

    def _leave_endpoint(self, now: float, transit: Transit, outcome: ToEndpoint) -> None:
        vpc_name, endpoint = self._endpoints[outcome.endpoint]
        self._hop(transit, now, endpoint.name, "decapsulated", f"in subnet {endpoint.subnet}")
        self._later(now, VPC_S, self._route, transit, Location(vpc_name, endpoint.subnet))

    def _deliver(self, now: float, transit: Transit, host: str, place: str) -> None:
        if not host:
            headers = parse_packet(transit.packet, 0, len(transit.packet))
            detail = f"nobody has {show_place(headers.destination)}"
            self._drop(transit, now, place, "no_host", detail)
            return
        arrive = functools.partial(self._into_host, host)
        self._cross(now, host, "to", transit, transit.packet, arrive)

    def _into_host(self, name: str, now: float, transit: Transit, packet: bytes) -> None:
        transit.packet = packet
        self._hop(transit, now, name, "delivered", "")
        self.hosts[name].receive(packet, now)
        self._collect(name, now)

    def _cross(
        self,
        now: float,
        name: str,
        direction: Direction,
        transit: Transit,
        packet: bytes,
        arrive: Arrive,
        *,
        geneve: bool = False,
    ) -> None:
        """Over the link to or from a target or host, which may have a fault."""
        if self.faults.touches(name, direction):
            self._links.cross(now, name, direction, transit, packet, arrive, geneve=geneve)
        else:
            arrive(now, transit, packet)

    def _gateway_drop(
        self,
        transit: Transit,
        now: float,
        name: str,
        outcome: Dropped,
        endpoint: Endpoint | None = None,
        outer: Outer | None = None,
    ) -> None:
        detail = f"{outcome.reason}: {outcome.detail}" if outcome.detail else outcome.reason
        detail += f". {outcome.explanation}"
        never = outcome.reason == "no_entry" and not outcome.detail  # no flow that ended
        if endpoint is not None and never:
            vpc_name = self._endpoints[endpoint.id][0]
            headers = parse_packet(transit.packet, 0, len(transit.packet))
            ends = headers.source, headers.destination
            cause = self._diagnosis.cause(vpc_name, endpoint.name, *ends)
            if cause:
                detail += f" Here the first packet went past {endpoint.name}: {cause}."
        self._hop(transit, now, name, "dropped", detail, outer)

    def _drop(self, transit: Transit, now: float, place: str, reason: str, detail: str) -> None:
        self.drops[reason] += 1
        self._hop(transit, now, place, "dropped", f"{reason}: {detail}")

    def _hop(
        self,
        transit: Transit,
        now: float,
        place: str,
        event: str,
        detail: str,
        outer: Outer | None = None,
    ) -> None:
        hop = Hop(now, place, event, detail)
        transit.hops.append(hop)
        self._show(transit, hop, outer)

    def _show(self, transit: Transit, hop: Hop, outer: Outer | None) -> None:
        for watch in self.watchers:
            watch(Sighting(hop, transit, outer.payload if outer else transit.packet, outer))

    def _later(self, now: float, delay: float, action: Callable[..., None], *args: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (now + delay, self._sequence, action, args))


def _zone(headers: Headers, gateway: TransitGateway, leaves: Attachment, zone: str) -> str:
    return gateway.zone(leaves, zone, headers)


def _outer(datagram: ToTarget) -> Outer:
    source = datagram.node, datagram.source_port
    return Outer(source, (datagram.target.address, PORT), datagram.payload)


def find_damage(packet: bytes) -> str:
    """Why a router does not forward a packet: its header, or the header's checksum, is wrong."""
    try:
        headers = parse_packet(packet, 0, len(packet))
    except MalformedPacket as error:
        return error.reason
    wrong = headers.version == 4 and checksum(packet[: (packet[0] & 0x0F) << 2])
    return "ip_checksum" if wrong else ""


def inner_packet(payload: bytes) -> bytes:
    """What a GENEVE datagram carries; all of it if it is none."""
    try:
        return payload[parse_geneve(payload, 0, len(payload)).length :]
    except MalformedPacket:
        return payload


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
