"""Which routes AWS would not take: to what is not there, or past the rules of VPCs.

Routes that AWS takes and that do harm are not errors: `diagnosis` finds them.
"""

from __future__ import annotations

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.routes import BLACKHOLE, GATEWAY, KEYWORDS, LOCAL, Network, parse_network
from appliance_sdk.harness.topology import Topology, TransitGatewayPart, VpcPart
from appliance_sdk.harness.topology_values import known, range_at, within


def check_vpc_routes(topology: Topology, name: str) -> None:
    """Raise ConfigError for a VPC's route tables (AWS, "Subnet route tables", "Gateway route
    tables")."""
    vpc = topology.vpcs[name]
    targets = [*KEYWORDS, *vpc.endpoints, *topology.transit_gateways]
    if vpc.edge_routes:
        known(vpc.edge_routes, vpc.route_tables, f"vpcs.{name}.edge_routes", "route table")
    for table, routes in vpc.route_tables.items():
        for destination, target in routes.items():
            where = f"vpcs.{name}.route_tables.{table}.{destination}"
            range_ = range_at(destination, where)
            known(target, targets, where, "route target")
            _attached(topology, name, target, where)
            _inside(vpc, range_, target, where, edge=table == vpc.edge_routes)


def check_transit_gateway(topology: Topology, name: str, part: TransitGatewayPart) -> None:
    """Raise ConfigError for a transit gateway (EC2 API, `CreateTransitGatewayVpcAttachment`)."""
    key = f"transit_gateways.{name}"
    if name in KEYWORDS:
        raise ConfigError(f"{name} means something else in a route table", key=key)
    vpcs: dict[str, str] = {}
    for attachment, place in part.attachments.items():
        where = f"{key}.attachments.{attachment}"
        if attachment == BLACKHOLE:
            raise ConfigError(f"{attachment} means something else in a route table", key=where)
        known(place.vpc, topology.vpcs, f"{where}.vpc", "VPC")
        other = vpcs.setdefault(place.vpc, attachment)
        if other != attachment:
            raise ConfigError(f"{place.vpc} is attached already, as {other}", key=f"{where}.vpc")
        known(place.routes, part.route_tables, f"{where}.routes", "route table")
        if not place.subnets:
            raise ConfigError("is empty", key=f"{where}.subnets", hint="one subnet in each zone")
        zones: dict[str, str] = {}
        for subnet in place.subnets:
            known(subnet, topology.vpcs[place.vpc].subnets, f"{where}.subnets", "subnet")
            zone = topology.vpcs[place.vpc].subnets[subnet].zone
            if zones.setdefault(zone, subnet) != subnet:
                said = f"{zones[zone]} and {subnet} are both in zone {zone}"
                raise ConfigError(said, key=f"{where}.subnets", hint="one subnet in each zone")
    for table, routes in part.route_tables.items():
        for destination, target in routes.items():
            where = f"{key}.route_tables.{table}.{destination}"
            range_at(destination, where)
            known(target, [*part.attachments, BLACKHOLE], where, "attachment")


def _attached(topology: Topology, vpc: str, target: str, where: str) -> None:
    gateway = topology.transit_gateways.get(target)
    if gateway and vpc not in (place.vpc for place in gateway.attachments.values()):
        hint = f"see transit_gateways.{target}.attachments"
        raise ConfigError(f"{vpc} is not attached to {target}", key=where, hint=hint)


def _inside(vpc: VpcPart, destination: Network, target: str, where: str, *, edge: bool) -> None:
    """Within the VPC's ranges routes are for all of a range or all of a subnet, to an endpoint."""
    if target == GATEWAY and edge:
        raise ConfigError("an edge route table leads into the VPC, not back out", key=where)
    if target == GATEWAY and not vpc.internet_gateway:
        raise ConfigError("the VPC has no internet gateway", key=where)
    ranges = [parse_network(text) for text in vpc.cidrs]
    if not any(within(destination, range_) for range_ in ranges):
        if edge:
            said = "an edge route's destination must lie in the VPC"
            raise ConfigError(said, key=where, hint="AWS's rule")
        if target == LOCAL:
            raise ConfigError("local is for the VPC's own ranges only", key=where)
        return
    if target not in (LOCAL, BLACKHOLE, *vpc.endpoints):
        said = f"within the VPC a route leads to an endpoint, not to {target}"
        raise ConfigError(said, key=where, hint="AWS's rule")
    if destination in ranges:
        return
    subnets = [parse_network(text) for part in vpc.subnets.values() for text in part.cidrs]
    if destination not in subnets:
        said = f"{destination} is more specific than the VPC's range, but no subnet's"
        hint = f"all of a subnet: {', '.join(str(s) for s in subnets)}"
        raise ConfigError(said, key=where, hint=hint)
    if target == LOCAL:
        raise ConfigError("a subnet's range is local already", key=where, hint="leave it out")
