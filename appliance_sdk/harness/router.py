"""Where a packet goes next from wherever it is: one step through the tables of a topology.

`Network` moves packets by it, and `Paths` follows it without any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from appliance_sdk.harness.addresses import Addresses
from appliance_sdk.harness.routes import BLACKHOLE, GATEWAY, LOCAL
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.trace import show_place
from appliance_sdk.harness.transit import Attachment, TransitGateway
from appliance_sdk.harness.vpc import NO_ROUTE, Endpoint, Step, Vpc

EDGE = "igw"
"""An internet gateway, on the way in: it asks its own table."""
OUT = "out of the VPC"
"""An internet gateway, on the way out: it asks nobody."""

Choose: TypeAlias = Callable[[TransitGateway, Attachment, str], str]
"""Given a transit gateway, the attachment that a packet leaves by and the zone that it came from:
the zone that it leaves in."""


class Location(NamedTuple):
    """Where a packet is."""

    vpc: str = ""
    """"" on the internet."""
    subnet: str = ""
    """A subnet, `EDGE` or `OUT`; at a transit gateway the subnet that it came from."""
    transit_gateway: str = ""


INTERNET = Location()


class Move(NamedTuple):
    """What becomes of it there: it is dropped, handed to an endpoint or a host, or goes on."""

    at: str
    """The name of the place."""
    source: bytes
    """Its addresses from here on: an internet gateway changes them."""
    destination: bytes
    step: Step | None = None
    """What a table said, None where none is asked."""
    zone: str = ""
    """The zone in which it leaves a transit gateway."""
    dropped: str = ""
    """Why it ends here."""
    detail: str = ""
    endpoint: Endpoint | None = None
    """To whose load balancer it is handed; what comes back goes on `to` its subnet."""
    host: str | None = None
    """To whom it is delivered, "" if nobody has its destination."""
    to: Location = INTERNET


class Router:
    """Every route table of a topology."""

    def __init__(self, topology: Topology) -> None:
        self.vpcs = {name: Vpc(name, topology) for name in topology.vpcs}
        self.transit_gateways = {
            name: TransitGateway(name, topology) for name in topology.transit_gateways
        }
        self.addresses = Addresses(topology)
        self.homes = {
            name: Location(host.vpc, host.subnet) for name, host in topology.hosts.items()
        }
        """Where each host is."""

    def move(self, place: Location, source: bytes, destination: bytes, choose: Choose) -> Move:
        """One step of a packet."""
        if place.transit_gateway:
            return self._transit(place, Move(place.transit_gateway, source, destination), choose)
        if not place.vpc:
            return self._internet(Move("internet", source, destination))
        if place.subnet == OUT:
            return self._outward(place, Move(EDGE, source, destination))
        vpc = self.vpcs[place.vpc]
        if place.subnet == EDGE:
            step = vpc.from_edge(destination) or Step("", "local (no edge route table)", LOCAL)
        else:
            step = vpc.from_subnet(place.subnet, destination)
        move = Move(place.subnet, source, destination, step)
        if step.to in (BLACKHOLE, NO_ROUTE):
            return move._replace(dropped=step.to, detail=str(step))
        if step.to == LOCAL:
            return move._replace(host=self.addresses.owner(place.vpc, destination))
        if step.to == GATEWAY:
            return move._replace(to=Location(place.vpc, OUT))
        if step.to == "endpoint":
            endpoint = vpc.endpoints[step.name]
            return move._replace(endpoint=endpoint, to=Location(place.vpc, endpoint.subnet))
        return move._replace(to=place._replace(transit_gateway=step.name))

    def _outward(self, place: Location, move: Move) -> Move:
        """Out through the internet gateway, under the public address."""
        public = self.addresses.outside(place.vpc, move.source)
        if public is None:
            detail = f"{show_place(move.source)} has no public address"
            return move._replace(dropped="no_public_address", detail=detail)
        return move._replace(source=public)

    def _internet(self, move: Move) -> Move:
        """To a host on the internet, or in through an internet gateway to a private address."""
        host = self.addresses.owner("", move.destination)
        if host:
            return move._replace(host=host)
        inside = self.addresses.inside(move.destination)
        if inside is None:
            detail = f"nobody has {show_place(move.destination)}"
            return move._replace(dropped="no_host", detail=detail)
        return move._replace(to=Location(inside[0], EDGE), destination=inside[1])

    def _transit(self, place: Location, move: Move, choose: Choose) -> Move:
        """From a zone of a VPC through a transit gateway."""
        gateway = self.transit_gateways[place.transit_gateway]
        zone = self.vpcs[place.vpc].zones[place.subnet]
        entrance = gateway.entrance(place.vpc, zone)
        if entrance is None:
            detail = f"zone {zone} of {place.vpc} has no subnet that is attached"
            return move._replace(dropped="zone_not_attached", detail=detail)
        step = gateway.step(entrance, move.destination)
        if step.to != "attachment":
            return move._replace(step=step, dropped=step.to, detail=str(step))
        leaves = gateway.attachments[step.name]
        zone = choose(gateway, leaves, zone)
        to = Location(leaves.vpc, leaves.subnets[zone])
        return move._replace(step=step, zone=zone, to=to)
