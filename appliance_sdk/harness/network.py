"""Moves packets between hosts, route tables, endpoints and load balancers, a hop at a time."""

from __future__ import annotations

import functools
import heapq
import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from appliance_sdk.errors import HarnessError, MalformedPacket
from appliance_sdk.harness.addresses import Addresses
from appliance_sdk.harness.balancer import GatewayLoadBalancer
from appliance_sdk.harness.diagnosis import Diagnosis
from appliance_sdk.harness.faults import Direction, Faults
from appliance_sdk.harness.links import Arrive, Links
from appliance_sdk.harness.outcomes import Dropped, Place, ToEndpoint, ToTarget
from appliance_sdk.harness.routes import BLACKHOLE, GATEWAY, LOCAL
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.trace import Hop, Outer, Sighting, Trace, Transit, show_place
from appliance_sdk.harness.transit import TransitGateway
from appliance_sdk.harness.translation import translate_destination, translate_source
from appliance_sdk.harness.vpc import (
    NO_ROUTE,
    TABLES_LIMIT,
    Endpoint,
    Step,
    Vpc,
)
from appliance_sdk.wire import parse_geneve, parse_packet
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.geneve import PORT

INTERNET_S = 0.005
"""How long a packet takes between a host on the internet and an internet gateway."""
VPC_S = 0.0001
"""How long a packet takes from one place of a VPC to the next."""
_PENDING_KEPT = 65_536
_LATE_KEPT = 1024
"""Packets that count as kept, but are known again if they do come back."""

_Pending: TypeAlias = tuple[float, Transit, str]


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
        self._vpcs = {name: Vpc(name, topology) for name in topology.vpcs}
        self._transit_gateways = {
            name: TransitGateway(name, topology) for name in topology.transit_gateways
        }
        self._addresses = Addresses(topology)
        self._homes = {name: (host.vpc, host.subnet) for name, host in topology.hosts.items()}
        self._endpoints: dict[str, tuple[str, Endpoint]] = {}
        for vpc_name, vpc in self._vpcs.items():
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
        self._pending: dict[tuple[str, bytes], list[_Pending]] = {}
        self._waiting: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._late: OrderedDict[tuple[str, bytes], Transit] = OrderedDict()

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
        event, detail = "returned", "unaltered"
        transit = self._returned(source[0], payload)
        if transit is None:
            detail = "unaltered, after all"
            transit = self._late.pop((source[0], payload), None)
        if transit is None:
            event, detail = "made", "or changed by the appliance"
            transit = self.trace.begin(inner_packet(payload))
        outer = Outer(source, destination, payload) if self.watchers else None
        self._hop(transit, now, place, event, detail, outer)

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
        while self._waiting:
            number, key = next(iter(self._waiting.items()))
            entries = self._pending[key]
            sent, transit, target = entries[0]
            if sent > before and len(self._waiting) <= _PENDING_KEPT:
                return
            self._forget(key, entries, number)
            self._hop(transit, now, target, "kept", "by the appliance: not returned")
            self._late[key] = transit
            if len(self._late) > _LATE_KEPT:
                self._late.popitem(last=False)

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
        vpc_name, subnet = self._homes[name]
        if packet is not transit.packet:
            transit.packet = packet
            damage = find_damage(packet)
            if damage:
                self._drop(transit, now, subnet or "internet", "malformed", damage)
                return
        if not vpc_name:
            self._internet(now, transit)
            return
        self._subnet(now, transit, vpc_name, subnet)

    def _subnet(self, now: float, transit: Transit, vpc_name: str, subnet: str) -> None:
        """A packet leaves a host or an endpoint in a subnet: its route table says where to."""
        destination = self._ends(transit)[1]
        step = self._vpcs[vpc_name].from_subnet(subnet, destination)
        self._step(now, transit, vpc_name, subnet, step)

    def _step(self, now: float, transit: Transit, vpc_name: str, place: str, step: Step) -> None:
        if not self._passes(now, transit, vpc_name, place, step):
            return
        if step.to == "endpoint":
            endpoint = self._vpcs[vpc_name].endpoints[step.name]
            self._later(now, VPC_S, self._enter_endpoint, transit, endpoint)
        elif step.to == "transit gateway":
            zone = self._vpcs[vpc_name].zones[place]
            self._later(now, VPC_S, self._transit, transit, step.name, vpc_name, zone)
        elif step.to == LOCAL:
            self._later(now, VPC_S, self._deliver, transit, vpc_name)
        elif step.to == GATEWAY:
            self._later(now, VPC_S, self._leave_vpc, transit, vpc_name)

    def _passes(
        self, now: float, transit: Transit, vpc_name: str, place: str, step: Step, zone: str = ""
    ) -> bool:
        """Whether a table leads a packet on, and it has not passed too many of them."""
        transit.tables += 1
        if step.to in (BLACKHOLE, NO_ROUTE):
            self._drop(transit, now, place, step.to, str(step))
        elif transit.tables > TABLES_LIMIT:
            cause = self._diagnosis.cause(vpc_name, "", *self._ends(transit))
            why = f". It {cause}" if cause else ""
            detail = f"{step}, after {TABLES_LIMIT} tables{why}"
            self._drop(transit, now, place, "routing_loop", detail)
        else:
            self._hop(transit, now, place, "routed", f"{step}, zone {zone}" if zone else str(step))
            return True
        return False

    def _transit(self, now: float, transit: Transit, name: str, vpc_name: str, zone: str) -> None:
        """A packet comes from a zone of a VPC to a transit gateway."""
        gateway = self._transit_gateways[name]
        entrance = gateway.entrance(vpc_name, zone)
        if entrance is None:
            detail = f"zone {zone} of {vpc_name} has no subnet that is attached"
            self._drop(transit, now, name, "zone_not_attached", detail)
            return
        headers = parse_packet(transit.packet, 0, len(transit.packet))
        step = gateway.step(entrance, headers.destination)
        leaves = gateway.attachments.get(step.name)
        zone = gateway.zone(leaves, zone, headers) if leaves is not None else ""
        if self._passes(now, transit, "", name, step, zone) and leaves is not None:
            self._later(now, VPC_S, self._subnet, transit, leaves.vpc, leaves.subnets[zone])

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
        key = datagram.target.address, payload
        self._pending.setdefault(key, []).append((now, transit, datagram.target.name))
        self._waiting[transit.number] = key
        if self.watchers:
            self._show(transit, Hop(now, datagram.target.name, "received", ""), _outer(datagram))
        self._to_target(datagram, now)

    def _leave_endpoint(self, now: float, transit: Transit, outcome: ToEndpoint) -> None:
        vpc_name, endpoint = self._endpoints[outcome.endpoint]
        self._hop(transit, now, endpoint.name, "decapsulated", f"in subnet {endpoint.subnet}")
        self._later(now, VPC_S, self._subnet, transit, vpc_name, endpoint.subnet)

    def _leave_vpc(self, now: float, transit: Transit, vpc_name: str) -> None:
        """Out through the internet gateway, under the public address."""
        source, _ = self._ends(transit)
        public = self._addresses.outside(vpc_name, source)
        if public is None:
            detail = f"{show_place(source)} has no public address"
            self._drop(transit, now, "igw", "no_public_address", detail)
            return
        if public != source:
            transit.packet = translate_source(transit.packet, public)
            detail = f"source {show_place(source)} to {show_place(public)}"
            self._hop(transit, now, "igw", "translated", detail)
        self._internet(now, transit)

    def _internet(self, now: float, transit: Transit) -> None:
        destination = self._ends(transit)[1]
        if self._addresses.owner("", destination):
            self._later(now, INTERNET_S, self._deliver, transit, "")
            return
        inside = self._addresses.inside(destination)
        if inside is None:
            detail = f"nobody has {show_place(destination)}"
            self._drop(transit, now, "internet", "no_host", detail)
            return
        self._later(now, INTERNET_S, self._enter_vpc, transit, *inside)

    def _enter_vpc(self, now: float, transit: Transit, vpc_name: str, private: bytes) -> None:
        """In through the internet gateway: the private address, then its edge route table."""
        destination = self._ends(transit)[1]
        if destination != private:
            transit.packet = translate_destination(transit.packet, private)
            detail = f"destination {show_place(destination)} to {show_place(private)}"
            self._hop(transit, now, "igw", "translated", detail)
        step = self._vpcs[vpc_name].from_edge(private)
        if step is None:
            self._hop(transit, now, "igw", "routed", "local (no edge route table)")
            self._later(now, VPC_S, self._deliver, transit, vpc_name)
        else:
            self._step(now, transit, vpc_name, "igw", step)

    def _deliver(self, now: float, transit: Transit, vpc_name: str) -> None:
        destination = self._ends(transit)[1]
        owner = self._addresses.owner(vpc_name, destination)
        if not owner:
            detail = f"nobody has {show_place(destination)}"
            self._drop(transit, now, vpc_name or "internet", "no_host", detail)
            return
        arrive = functools.partial(self._into_host, owner)
        self._cross(now, owner, "to", transit, transit.packet, arrive)

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

    def _returned(self, address: str, payload: bytes) -> Transit | None:
        """The packet that an appliance returned as it was, None if it is another one."""
        key = address, payload
        entries = self._pending.get(key)
        if not entries:
            return None
        transit = entries[0][1]
        self._forget(key, entries, transit.number)
        return transit

    def _forget(self, key: tuple[str, bytes], entries: list[_Pending], number: int) -> None:
        del entries[0]
        if not entries:
            del self._pending[key]
        del self._waiting[number]

    def _ends(self, transit: Transit) -> tuple[bytes, bytes]:
        """Source and destination address; hosts and appliances send packets that can be read."""
        packet = transit.packet
        try:
            headers = parse_packet(packet, 0, len(packet))
        except MalformedPacket:
            return b"\0\0\0\0", b"\0\0\0\0"
        return headers.source, headers.destination

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
        if endpoint is not None and outcome.reason == "no_entry":
            vpc_name = self._endpoints[endpoint.id][0]
            cause = self._diagnosis.cause(vpc_name, endpoint.name, *self._ends(transit))
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
