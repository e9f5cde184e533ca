"""Which way packets would take, by the route tables alone: no packet moves."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.harness.addresses import Addresses
from appliance_sdk.harness.routes import GATEWAY, LOCAL
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.transit import TransitGateway
from appliance_sdk.harness.vpc import Step, Vpc

EDGE = "igw"
"""The place of the internet gateway's own table."""
DELIVERED = "delivered"


class Stop(NamedTuple):
    """A table that a packet meets."""

    vpc: str
    """"" at a transit gateway."""
    place: str
    """The subnet, `EDGE`, or the transit gateway."""
    step: Step
    zone: str = ""
    """At a transit gateway, the zone that the packet leaves in."""

    @property
    def key(self) -> str:
        """The key path of the table."""
        owner = f"vpcs.{self.vpc}" if self.vpc else f"transit_gateways.{self.place}"
        return f"{owner}.route_tables.{self.step.table}"

    @property
    def endpoint(self) -> tuple[str, str] | None:
        """The VPC and the name of the endpoint that it leads to."""
        return (self.vpc, self.step.name) if self.step.to == "endpoint" else None


class Path(NamedTuple):
    """A packet's way."""

    stops: tuple[Stop, ...]
    end: str
    """"delivered", or why it is dropped: "routing_loop", "no_route" …"""
    host: str = ""
    """To whom it is delivered."""
    circle: int = 0
    """In a loop, the number of the stop at which it comes out again."""

    @property
    def endpoints(self) -> list[tuple[str, str]]:
        """The endpoints that it passes, in order."""
        return [stop.endpoint for stop in self.stops if stop.endpoint]


class Paths:
    """Follows the tables of a topology as `Network` does, without load balancers."""

    def __init__(self, topology: Topology) -> None:
        self.vpcs = {name: Vpc(name, topology) for name in topology.vpcs}
        self.transit_gateways = {
            name: TransitGateway(name, topology) for name in topology.transit_gateways
        }
        self.turns = max(
            (
                len(a.subnets)
                for g in self.transit_gateways.values()
                for a in g.attachments.values()
            ),
            default=1,
        )
        """How many choices a transit gateway has at most."""
        self.addresses = Addresses(topology)
        self._homes = {name: (host.vpc, host.subnet) for name, host in topology.hosts.items()}

    def follow(
        self, host: str, source: bytes, destination: bytes, turn: int = 0, *, back: bool = False
    ) -> Path:
        """The way of a packet from a host.

        Where a transit gateway chooses a zone by the flow, it takes number `turn`; where it
        promises nothing, another one for the way back.
        """
        place = self._homes[host]
        stops: list[Stop] = []
        seen: dict[tuple[tuple[str, str], bytes], int] = {}
        while (place, destination) not in seen:
            seen[place, destination] = len(stops)
            if not place[0]:
                owner = self.addresses.owner("", destination)
                inside = self.addresses.inside(destination)
                if owner or inside is None:
                    return Path(tuple(stops), DELIVERED if owner else "no_host", owner)
                vpc, destination = inside
                step = self.vpcs[vpc].from_edge(destination) or Step("", "", LOCAL)
                place = vpc, EDGE
            else:
                step = self.vpcs[place[0]].from_subnet(place[1], destination)
            vpc, subnet = place
            stops.append(Stop(vpc, subnet, step))
            if step.to == "endpoint":
                place = vpc, self.vpcs[vpc].endpoints[step.name].subnet
            elif step.to == GATEWAY:
                public = self.addresses.outside(vpc, source)
                if public is None:
                    return Path(tuple(stops), "no_public_address")
                source, place = public, ("", "")
            elif step.to == "transit gateway":
                crossed = self._cross(step.name, place, destination, 2 * turn + back)
                if isinstance(crossed, str):
                    return Path(tuple(stops), crossed)
                stops.append(crossed[0])
                if crossed[0].step.to != "attachment":
                    return Path(tuple(stops), crossed[0].step.to)
                place = crossed[1]
            elif step.to == LOCAL:
                owner = self.addresses.owner(vpc, destination)
                return Path(tuple(stops), DELIVERED if owner else "no_host", owner)
            else:
                return Path(tuple(stops), step.to)
        return Path(tuple(stops), "routing_loop", circle=seen[place, destination])

    def _cross(
        self, name: str, place: tuple[str, str], destination: bytes, choice: int
    ) -> tuple[Stop, tuple[str, str]] | str:
        """Through a transit gateway: its table and the subnet behind it, or why not."""
        gateway = self.transit_gateways[name]
        vpc, subnet = place
        zone = self.vpcs[vpc].zones[subnet]
        entrance = gateway.entrance(vpc, zone)
        if entrance is None:
            return "zone_not_attached"
        step = gateway.step(entrance, destination)
        leaves = gateway.attachments.get(step.name)
        if leaves is None:
            return Stop("", name, step), place
        zones = gateway.zones(leaves, zone)
        zone = zones[(choice // 2 if leaves.appliance_mode else choice) % len(zones)]
        return Stop("", name, step, zone), (leaves.vpc, leaves.subnets[zone])
