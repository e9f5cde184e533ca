"""One VPC: which table a packet meets where, and what it says."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from appliance_sdk.harness.routes import KEYWORDS, LOCAL, RouteTable, parse_network
from appliance_sdk.harness.topology import Topology
from appliance_sdk.wire.geneve import format_endpoint

TABLES_LIMIT = 16
"""A packet that passed so many route tables goes in circles."""
NO_ROUTE = "no_route"
"""No route of a table leads to the destination."""


class Step(NamedTuple):
    """What one route table said."""

    table: str
    """"" if none was asked: within a subnet packets need no router."""
    route: str
    """"10.0.1.0/24 -> gwlbe-a", "" if there was none."""
    to: str
    """What it leads to: "endpoint", "transit gateway", "attachment", "local", "igw", "blackhole",
    or "no_route"."""
    name: str = ""
    """Of the endpoint, transit gateway or attachment."""

    @property
    def destination(self) -> str:
        """The range that the route is for."""
        return self.route.partition(" -> ")[0]

    def __str__(self) -> str:
        if not self.table:
            return self.route or "within the subnet"
        return f"{self.route or 'no route'} (route table {self.table})"


class Endpoint(NamedTuple):
    """A Gateway Load Balancer endpoint, in a subnet."""

    name: str
    id: str
    subnet: str
    gateway: str
    zone: str


class Vpc:
    """Routes of a VPC, from its description."""

    def __init__(self, name: str, topology: Topology) -> None:
        part = topology.vpcs[name]
        self.name = name
        cidrs = [parse_network(text) for text in part.cidrs]
        self._tables = {
            table: RouteTable(table, cidrs, routes) for table, routes in part.route_tables.items()
        }
        self._subnet_tables = {
            subnet: self._tables[place.routes] for subnet, place in part.subnets.items()
        }
        self._within = {
            subnet: RouteTable(subnet, map(parse_network, place.cidrs), {})
            for subnet, place in part.subnets.items()
        }
        self._edge = self._tables[part.edge_routes] if part.edge_routes else None
        self.zones = {subnet: place.zone for subnet, place in part.subnets.items()}
        """The zone of each subnet."""
        self.endpoints = {
            endpoint: Endpoint(
                endpoint,
                place.id or endpoint_id(name, endpoint),
                place.subnet,
                topology.load_balancer(name, endpoint),
                part.subnets[place.subnet].zone,
            )
            for endpoint, place in part.endpoints.items()
        }

    def from_subnet(self, subnet: str, destination: bytes) -> Step:
        """What the subnet's table says of a packet that leaves a host or an endpoint there.

        Packets to another interface of the same subnet do not ask it (AWS, "Gateway route tables").
        """
        if self._within[subnet].look_up(destination) is not None:
            return Step("", "", LOCAL)
        return self._step(self._subnet_tables[subnet], destination)

    def from_edge(self, destination: bytes) -> Step | None:
        """What the internet gateway's table says of a packet from outside; None without one."""
        return self._step(self._edge, destination) if self._edge is not None else None

    def _step(self, table: RouteTable, destination: bytes) -> Step:
        route = table.look_up(destination)
        if route is None:
            return Step(table.name, "", NO_ROUTE)
        if route.target in KEYWORDS:
            return Step(table.name, str(route), route.target)
        to = "endpoint" if route.target in self.endpoints else "transit gateway"
        return Step(table.name, str(route), to, route.target)


def endpoint_id(vpc: str, name: str) -> str:
    """An id for an endpoint that was given none: the same for the same names."""
    digest = hashlib.blake2b(f"{vpc}/{name}".encode(), digest_size=8).digest()
    return format_endpoint(int.from_bytes(digest, "big"))
