"""One VPC: whose an address is, which table a packet meets where, and what it says."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from appliance_sdk.harness.routes import BLACKHOLE, GATEWAY, LOCAL, RouteTable, parse_network
from appliance_sdk.harness.topology import HostPart, VpcPart
from appliance_sdk.wire.geneve import format_endpoint

TABLES_LIMIT = 16
"""A packet that passed so many route tables goes in circles."""


class Step(NamedTuple):
    """What one route table said."""

    table: str
    route: str
    """"10.0.1.0/24 -> gwlbe-a", "" if there was none."""
    endpoint: str
    """The endpoint that it leads to, "" if it leads to none."""
    end: str
    """Where it leads instead: "local", "igw", "blackhole" or "no_route"; "" behind an endpoint."""


class Endpoint(NamedTuple):
    """A Gateway Load Balancer endpoint, in a subnet."""

    name: str
    id: str
    subnet: str
    gateway: str
    zone: str


class Vpc:
    """Routes of a VPC, from its description."""

    def __init__(self, name: str, part: VpcPart) -> None:
        self.name = name
        cidrs = [parse_network(text) for text in part.cidrs]
        self._tables = {
            table: RouteTable(table, cidrs, routes) for table, routes in part.route_tables.items()
        }
        self._subnet_tables = {
            subnet: self._tables[place.routes] for subnet, place in part.subnets.items()
        }
        self._edge = self._tables[part.edge_routes] if part.edge_routes else None
        self.endpoints = {
            endpoint: Endpoint(
                endpoint,
                place.id or endpoint_id(name, endpoint),
                place.subnet,
                place.gateway,
                part.subnets[place.subnet].zone,
            )
            for endpoint, place in part.endpoints.items()
        }

    def from_subnet(self, subnet: str, destination: bytes) -> Step:
        """What the subnet's table says of a packet that leaves a host or an endpoint there."""
        return self._step(self._subnet_tables[subnet], destination)

    def from_edge(self, destination: bytes) -> Step | None:
        """What the internet gateway's table says of a packet from outside; None without one."""
        return self._step(self._edge, destination) if self._edge is not None else None

    def _step(self, table: RouteTable, destination: bytes) -> Step:
        route = table.look_up(destination)
        if route is None:
            return Step(table.name, "", "", "no_route")
        if route.target in (LOCAL, GATEWAY, BLACKHOLE):
            return Step(table.name, str(route), "", route.target)
        return Step(table.name, str(route), route.target, "")


class PublicAddresses:
    """The internet gateway's one-to-one translation of elastic IP addresses."""

    def __init__(self, hosts: dict[str, HostPart]) -> None:
        self._private: dict[bytes, tuple[str, bytes]] = {}
        self._public: dict[tuple[str, bytes], bytes] = {}
        for host in hosts.values():
            first = next((a for a in host.addresses if ":" not in a), "")
            if host.public and first:
                public, private = _packed(host.public), _packed(first)
                self._private[public] = host.vpc, private
                self._public[host.vpc, private] = public

    def private(self, public: bytes) -> tuple[str, bytes] | None:
        """The VPC and the address there that a public address stands for."""
        return self._private.get(public)

    def public(self, vpc: str, private: bytes) -> bytes | None:
        """The public address of an address in a VPC."""
        return self._public.get((vpc, private))


def subnet_steps(vpc: Vpc, subnet: str, destination: bytes) -> Iterator[Step]:
    """The tables that a packet to `destination` meets on its way out of a subnet."""
    return _follow(vpc, vpc.from_subnet(subnet, destination), destination)


def edge_steps(vpc: Vpc, destination: bytes) -> Iterator[Step]:
    """The tables that a packet from outside meets on its way to `destination`."""
    step = vpc.from_edge(destination)
    return _follow(vpc, step, destination) if step is not None else iter(())


def endpoint_id(vpc: str, name: str) -> str:
    """An id for an endpoint that was given none: the same for the same names."""
    digest = hashlib.blake2b(f"{vpc}/{name}".encode(), digest_size=8).digest()
    return format_endpoint(int.from_bytes(digest, "big"))


def _follow(vpc: Vpc, step: Step, destination: bytes) -> Iterator[Step]:
    for _ in range(TABLES_LIMIT):
        yield step
        if not step.endpoint:
            return
        step = vpc.from_subnet(vpc.endpoints[step.endpoint].subnet, destination)


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed
