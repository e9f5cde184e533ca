"""A transit gateway: a router between VPCs that has a foot in one subnet of each zone."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from appliance_sdk.harness.flow_entry import flow_key, symmetric
from appliance_sdk.harness.routes import BLACKHOLE, RouteTable
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.vpc import NO_ROUTE, Step
from appliance_sdk.wire.packet import Headers


class Attachment(NamedTuple):
    """A VPC that is attached."""

    name: str
    vpc: str
    subnets: dict[str, str]
    """Its subnet in each attached zone."""
    table: RouteTable
    """What is asked about packets from this VPC."""
    appliance_mode: bool


class TransitGateway:
    """Routes of a transit gateway, from its description (AWS, "How transit gateways work")."""

    def __init__(self, name: str, topology: Topology) -> None:
        self.name = name
        part = topology.transit_gateways[name]
        tables = {table: RouteTable(table, (), r) for table, r in part.route_tables.items()}
        self.attachments = {
            attachment: Attachment(
                attachment,
                place.vpc,
                {topology.vpcs[place.vpc].subnets[s].zone: s for s in place.subnets},
                tables[place.routes],
                place.appliance_mode,
            )
            for attachment, place in part.attachments.items()
        }
        self._by_vpc = {place.vpc: place for place in self.attachments.values()}
        self._seed = str(topology.seed).encode()

    def entrance(self, vpc: str, zone: str) -> Attachment | None:
        """Where packets from a zone of a VPC come in; None if that zone is not attached, and so
        cannot reach the transit gateway, whatever its routes say (AWS, "VPC attachments")."""
        attachment = self._by_vpc[vpc]
        return attachment if zone in attachment.subnets else None

    def step(self, entrance: Attachment, destination: bytes) -> Step:
        """What the table of the attachment that a packet came by says of it."""
        route = entrance.table.look_up(destination)
        if route is None:
            return Step(entrance.table.name, "", NO_ROUTE)
        if route.target == BLACKHOLE:
            return Step(entrance.table.name, str(route), BLACKHOLE)
        return Step(entrance.table.name, str(route), "attachment", route.target)

    def zone(self, leaves: Attachment, zone: str, headers: Headers) -> str:
        """In which zone a packet leaves by an attachment that came in in `zone`."""
        zones = self.zones(leaves, zone)
        if leaves.appliance_mode:
            return zones[self._hash((symmetric(flow_key(headers)),)) % len(zones)]
        ends = headers.source, headers.destination, headers.source_port, headers.destination_port
        return zones[self._hash((headers.protocol, *ends)) % len(zones)]

    def zones(self, leaves: Attachment, zone: str) -> list[str]:
        """In which zones it may leave.

        In appliance mode a hash of the flow decides between all of them, the same for both
        directions. Otherwise the packet stays in its zone; if that is not attached there, AWS says
        only that it gets through: each direction is hashed by itself, since nothing promises more.
        """
        stays = zone in leaves.subnets and not leaves.appliance_mode
        return [zone] if stays else list(leaves.subnets)

    def _hash(self, what: tuple[object, ...]) -> int:
        digest = hashlib.blake2b(repr(what).encode(), digest_size=8, key=self._seed).digest()
        return int.from_bytes(digest, "big")
