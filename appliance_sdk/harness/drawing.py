"""What a picture of a topology shows, before it is drawn: panels, and what leads where."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.harness.routes import GATEWAY
from appliance_sdk.harness.topology import Topology, VpcPart, service_label
from appliance_sdk.harness.vpc import endpoint_id


class Row(NamedTuple):
    """One line in a panel."""

    kind: str
    """"host", "endpoint", "route", "node" or "target"."""
    text: str
    gateway: str = ""
    """The load balancer that an endpoint leads to."""


class Panel(NamedTuple):
    """A box with a title."""

    title: str
    rows: tuple[Row, ...]


class VpcPicture(NamedTuple):
    """A VPC: its internet gateway's routes and its subnets."""

    title: str
    has_gateway: bool
    edge: tuple[Row, ...]
    subnets: tuple[Panel, ...]


class Picture(NamedTuple):
    """Everything that is drawn. `gateways` are by name, in the order of the file."""

    internet: Panel
    vpcs: tuple[VpcPicture, ...]
    gateways: dict[str, Panel]


def picture(topology: Topology) -> Picture:
    """What there is to draw."""
    hosts = tuple(
        Row("host", _words(name, ", ".join(host.addresses)))
        for name, host in topology.hosts.items()
        if not host.vpc
    )
    vpcs = tuple(_vpc(topology, name, vpc) for name, vpc in topology.vpcs.items())
    gateways = {name: _gateway(topology, name) for name in topology.gateways}
    return Picture(Panel("internet", hosts), vpcs, gateways)


def _vpc(topology: Topology, name: str, vpc: VpcPart) -> VpcPicture:
    edge = _routes(vpc.route_tables[vpc.edge_routes]) if vpc.edge_routes else ()
    subnets = tuple(_subnet(topology, name, vpc, subnet) for subnet in vpc.subnets)
    title = _words(f"vpc {name}", ", ".join(vpc.cidrs))
    return VpcPicture(title, vpc.internet_gateway, edge, subnets)


def _subnet(topology: Topology, vpc_name: str, vpc: VpcPart, subnet: str) -> Panel:
    part = vpc.subnets[subnet]
    rows = [
        Row("endpoint", _words(name, place.id or endpoint_id(vpc_name, name)), place.gateway)
        for name, place in vpc.endpoints.items()
        if place.subnet == subnet
    ]
    for name, host in topology.hosts.items():
        if (host.vpc, host.subnet) == (vpc_name, subnet):
            public = f"public {host.public}" if host.public else ""
            offers = ", ".join(service_label(service) for service in host.services)
            rows.append(Row("host", _words(name, ", ".join(host.addresses), public, offers)))
    rows += _routes(vpc.route_tables[part.routes])
    return Panel(_words(subnet, ", ".join(part.cidrs), f"zone {part.zone}"), tuple(rows))


def _gateway(topology: Topology, name: str) -> Panel:
    rows = [Row("node", _words(f"node {z}", a)) for z, a in topology.nodes(name).items()]
    rows += [
        Row("target", _words(target.name, target.address, f"zone {target.zone}"))
        for target in topology.targets(name)
    ]
    return Panel(f"load balancer {name}", tuple(rows))


def _routes(table: dict[str, str]) -> tuple[Row, ...]:
    return tuple(
        Row("route", f"{cidr} → {'internet gateway' if target == GATEWAY else target}")
        for cidr, target in table.items()
    )


def _words(*words: str) -> str:
    return "  ".join(word for word in words if word)
