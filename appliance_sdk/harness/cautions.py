"""Settings and routes that AWS takes and that cannot work, whoever speaks to whom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from appliance_sdk.harness.findings import Finding
from appliance_sdk.harness.routes import BLACKHOLE, parse_network
from appliance_sdk.harness.topology import Topology
from appliance_sdk.wire.geneve import PORT


def cautions(topology: Topology) -> Iterator[Finding]:
    """Every one, in the order of the file."""
    for name in topology.gateways:
        yield from _load_balancer(topology, name)
    for name in topology.vpcs:
        yield from _vpc(topology, name)
    for name in topology.transit_gateways:
        yield from _overlaps(topology, name)


def _load_balancer(topology: Topology, name: str) -> Iterator[Finding]:
    part = topology.gateways[name]
    key = f"gateways.{name}"
    served = {
        endpoint: vpc.subnets[place.subnet].zone
        for vpc_name, vpc in topology.vpcs.items()
        for endpoint, place in vpc.endpoints.items()
        if topology.load_balancer(vpc_name, endpoint) == name
    }
    filled = {target.zone for target in part.targets.values()}
    if part.load_balancer.cross_zone and filled:
        filled = set(part.zones)
    for zone in part.zones:
        if zone not in filled:
            here = [endpoint for endpoint, at in served.items() if at == zone]
            what = f"none is in zone {zone}, and cross-zone load balancing is off: what "
            what += f"{' and '.join(here) or 'an endpoint there'} takes in is dropped as no_target"
            hint = f'a target in zone {zone}, or "load_balancing.cross_zone.enabled" = true'
            yield Finding("no_target_in_zone", f"{key}.targets", what, hint)
    if part.health_check.port == PORT:
        what = f"{PORT} is GENEVE's, over UDP: over TCP nobody answers, and targets stay unhealthy"
        hint = "the port where the appliance answers health checks"
        yield Finding("health_port", f"{key}.health_check.port", what, hint)
    modes = [
        f"transit_gateways.{gateway}.attachments.{attachment}"
        for gateway, place in topology.transit_gateways.items()
        for attachment, attached in place.attachments.items()
        if attached.appliance_mode and set(served) & set(topology.vpcs[attached.vpc].endpoints)
    ]
    if part.target_group.stickiness and modes:
        what = f"AWS does not support it with {modes[0]}.appliance_mode: flows of the same hosts "
        what += "come by different zones, to different targets"
        hint = '"stickiness.enabled" = false'
        yield Finding("stickiness", f"{key}.target_group.stickiness.enabled", what, hint)


def _vpc(topology: Topology, name: str) -> Iterator[Finding]:
    vpc = topology.vpcs[name]
    key = f"vpcs.{name}"
    used = {part.routes for part in vpc.subnets.values()} | {vpc.edge_routes} - {""}
    for table in vpc.route_tables:
        for destination, target in vpc.route_tables[table].items():
            if target == BLACKHOLE and table in used:
                what = f"its target is gone: packets to {destination} are dropped as {BLACKHOLE}"
                where = f"{key}.route_tables.{table}.{destination}"
                yield Finding("blackhole", where, what, "lead it to what is there, or leave it out")
    targets = {target for table in used for target in vpc.route_tables[table].values()}
    for endpoint in vpc.endpoints:
        if endpoint not in targets:
            what = "no route in use leads to it: nothing that it should see is inspected"
            hint = f'such as "0.0.0.0/0" = "{endpoint}" in the table of the hosts\' subnet'
            yield Finding("unused_endpoint", f"{key}.endpoints.{endpoint}", what, hint)


def _overlaps(topology: Topology, name: str) -> Iterator[Finding]:
    attachments = topology.transit_gateways[name].attachments
    for one, other in combinations(attachments, 2):
        for mine in topology.vpcs[attachments[one].vpc].cidrs:
            for theirs in topology.vpcs[attachments[other].vpc].cidrs:
                here, there = parse_network(mine), parse_network(theirs)
                if here.version == there.version and here.overlaps(there):
                    what = f"its {there} overlaps the {here} of {one}: to each other they are "
                    what += "local, and from elsewhere a route leads to one of them only"
                    key = f"transit_gateways.{name}.attachments.{other}"
                    hint = "a range of its own, or an endpoint in each VPC instead"
                    yield Finding("overlap", key, what, hint)
