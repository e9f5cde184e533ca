"""Which way packets would take, by the route tables alone: no packet moves."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.harness.router import Location, Router
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.transit import Attachment, TransitGateway
from appliance_sdk.harness.vpc import Step

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
        self.router = Router(topology)
        gateways = self.router.transit_gateways.values()
        self.turns = max(
            (len(a.subnets) for g in gateways for a in g.attachments.values()), default=1
        )
        """How many choices a transit gateway has at most."""

    def follow(
        self, host: str, source: bytes, destination: bytes, turn: int = 0, *, back: bool = False
    ) -> Path:
        """The way of a packet from a host.

        Where a transit gateway chooses a zone by the flow, it takes number `turn`; where it
        promises nothing, another one for the way back.
        """

        def choose(gateway: TransitGateway, leaves: Attachment, zone: str) -> str:
            zones = gateway.zones(leaves, zone)
            return zones[(turn if leaves.appliance_mode else 2 * turn + back) % len(zones)]

        place = self.router.homes[host]
        stops: list[Stop] = []
        seen: dict[tuple[Location, bytes], int] = {}
        while (place, destination) not in seen:
            seen[place, destination] = len(stops)
            move = self.router.move(place, source, destination, choose)
            if move.step is not None:
                vpc = "" if place.transit_gateway else place.vpc
                stops.append(Stop(vpc, move.at, move.step, move.zone))
            if move.dropped or move.host == "":
                return Path(tuple(stops), move.dropped or "no_host")
            if move.host is not None:
                return Path(tuple(stops), DELIVERED, move.host)
            place, source, destination = move.to, move.source, move.destination
        return Path(tuple(stops), "routing_loop", circle=seen[place, destination])
