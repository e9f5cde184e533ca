"""What a picture of a topology shows, before it is drawn: panels, and what leads where."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from appliance_sdk.harness.routes import GATEWAY
from appliance_sdk.harness.topology import Topology, VpcPart, service_label
from appliance_sdk.harness.vpc import endpoint_id


class Row(NamedTuple):
    """One line in a panel."""

    kind: str
    """"host", "endpoint", "attachment", "route", "table", "node" or "target"."""
    text: str
    to: str = ""
    """The load balancer that an endpoint leads to, or the transit gateway of an attachment."""
    name: str = ""
    """Of the attachment."""


MARKS: Mapping[str, str] = MappingProxyType(
    {
        "host": "▪ ",
        "endpoint": "◇ ",
        "attachment": "◈ ",
        "route": "    ",
        "table": "  ",
        "node": "○ ",
        "target": "● ",
    }
)
"""What stands before a row of each kind."""


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
    """Everything that is drawn; load balancers and transit gateways are by name, in the order of
    the file."""

    internet: Panel | None
    """None if there is no way to it, and nobody on it."""
    vpcs: tuple[VpcPicture, ...]
    gateways: dict[str, Panel]
    transit_gateways: dict[str, Panel]


def picture(topology: Topology) -> Picture:
    """What there is to draw."""
    hosts = tuple(
        Row("host", _words(name, ", ".join(host.addresses)))
        for name, host in topology.hosts.items()
        if not host.vpc
    )
    vpcs = tuple(_vpc(topology, name, vpc) for name, vpc in topology.vpcs.items())
    gateways = {name: _gateway(topology, name) for name in topology.gateways}
    transit_gateways = {n: _transit_gateway(topology, n) for n in topology.transit_gateways}
    online = hosts or any(vpc.has_gateway for vpc in vpcs)
    return Picture(Panel("internet", hosts) if online else None, vpcs, gateways, transit_gateways)


def _vpc(topology: Topology, name: str, vpc: VpcPart) -> VpcPicture:
    edge = _routes(vpc.route_tables[vpc.edge_routes]) if vpc.edge_routes else ()
    subnets = tuple(_subnet(topology, name, vpc, subnet) for subnet in vpc.subnets)
    title = _words(f"vpc {name}", ", ".join(vpc.cidrs))
    return VpcPicture(title, vpc.internet_gateway, edge, subnets)


def _subnet(topology: Topology, vpc_name: str, vpc: VpcPart, subnet: str) -> Panel:
    part = vpc.subnets[subnet]
    rows = [
        Row(
            "endpoint",
            _words(
                name,
                place.id or endpoint_id(vpc_name, name),
                f"service {place.service}" if place.service else "",
            ),
            topology.load_balancer(vpc_name, name),
        )
        for name, place in vpc.endpoints.items()
        if place.subnet == subnet
    ]
    rows += [
        Row("attachment", f"attachment {name} of {gateway}", gateway, name)
        for gateway, transit in topology.transit_gateways.items()
        for name, attached in transit.attachments.items()
        if attached.vpc == vpc_name and subnet in attached.subnets
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


def _transit_gateway(topology: Topology, name: str) -> Panel:
    part = topology.transit_gateways[name]
    order = list(topology.vpcs)  # so that lines need not cross
    rows = []
    for attachment, place in sorted(part.attachments.items(), key=lambda a: order.index(a[1].vpc)):
        subnets = topology.vpcs[place.vpc].subnets
        zones = [subnets[subnet].zone for subnet in place.subnets]
        mode = "appliance mode" if place.appliance_mode else ""
        where = f"zone{'s' * (len(zones) > 1)} {', '.join(zones)}"
        rows.append(Row("attachment", _words(attachment, where, mode), name=attachment))
    for table, routes in part.route_tables.items():
        asks = [a for a, place in part.attachments.items() if place.routes == table]
        rows.append(Row("table", _words(f"table {table}", f"of {', '.join(asks) or 'none'}")))
        rows += _routes(routes)
    return Panel(f"transit gateway {name}", tuple(rows))


def _routes(table: dict[str, str]) -> tuple[Row, ...]:
    return tuple(
        Row("route", f"{cidr} → {'internet gateway' if target == GATEWAY else target}")
        for cidr, target in table.items()
    )


def _words(*words: str) -> str:
    return "  ".join(word for word in words if word)
