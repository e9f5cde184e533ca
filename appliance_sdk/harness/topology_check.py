"""Whether a topology can work: names lead somewhere, nothing overlaps, no route in circles."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.routes import BLACKHOLE, GATEWAY, LOCAL, Network, parse_network
from appliance_sdk.harness.topology import AlbService, HostPart, Topology, VpcPart
from appliance_sdk.harness.vpc import Vpc, edge_steps, subnet_steps
from appliance_sdk.plugin.config import near_miss
from appliance_sdk.wire import parse_endpoint


def check_topology(topology: Topology) -> None:
    """Raise ConfigError naming file, key path and what to do."""
    try:
        _gateways(topology)
        for name, vpc in topology.vpcs.items():
            _vpc(topology, name, vpc)
        _hosts(topology)
        for name, vpc in topology.vpcs.items():
            _loops(topology, name, vpc)
    except ConfigError as error:
        raise ConfigError(
            error.message, path=topology.path, key=error.key, hint=error.hint
        ) from None


def _gateways(topology: Topology) -> None:
    addresses: dict[str, str] = {}
    for name, gateway in topology.gateways.items():
        key = f"gateways.{name}"
        gateway.check(key=key)
        if not gateway.zones:
            raise ConfigError("is empty", key=f"{key}.zones", hint='try ["a"]')
        for zone, address in gateway.nodes.items():
            _known(zone, gateway.zones, f"{key}.nodes.{zone}", "zone")
            _ipv4(address, f"{key}.nodes.{zone}", addresses)
        for target, part in gateway.targets.items():
            _known(part.zone, gateway.zones, f"{key}.targets.{target}.zone", "zone")
            if part.address:
                _ipv4(part.address, f"{key}.targets.{target}.address", addresses)
    names = [target for gateway in topology.gateways.values() for target in gateway.targets]
    for target in names:
        if names.count(target) > 1:
            raise ConfigError(f"two targets are called {target}", key="gateways")


def _vpc(topology: Topology, name: str, vpc: VpcPart) -> None:
    key = f"vpcs.{name}"
    ranges = [_network(text, f"{key}.cidrs") for text in vpc.cidrs]
    if not ranges:
        raise ConfigError("is empty", key=f"{key}.cidrs", hint='try ["10.0.0.0/16"]')
    taken: list[tuple[str, Network]] = []
    for subnet, part in vpc.subnets.items():
        where = f"{key}.subnets.{subnet}"
        _known(part.routes, vpc.route_tables, f"{where}.routes", "route table")
        for cidr in (_network(text, f"{where}.cidrs") for text in part.cidrs):
            if not any(_within(cidr, outer) for outer in ranges):
                raise ConfigError(f"{cidr} is not in the VPC", key=f"{where}.cidrs")
            for other, range_ in taken:
                if cidr.version == range_.version and cidr.overlaps(range_):
                    raise ConfigError(f"{cidr} overlaps {other}'s {range_}", key=f"{where}.cidrs")
            taken.append((subnet, cidr))
    for endpoint, place in vpc.endpoints.items():
        where = f"{key}.endpoints.{endpoint}"
        if endpoint in (LOCAL, GATEWAY, BLACKHOLE):
            raise ConfigError(f"{endpoint} means something else in a route table", key=where)
        _known(place.subnet, vpc.subnets, f"{where}.subnet", "subnet")
        _known(place.gateway, topology.gateways, f"{where}.gateway", "load balancer")
        zone = vpc.subnets[place.subnet].zone
        zones = topology.gateways[place.gateway].zones
        if zone not in zones:
            raise ConfigError(
                f"is in zone {zone}, where {place.gateway} has no node",
                key=where,
                hint=f"its zones: {', '.join(zones)}",
            )
        if place.id:
            try:
                parse_endpoint(place.id)
            except ValueError as error:
                raise ConfigError(str(error), key=f"{where}.id") from None
    _tables(key, vpc, ranges)


def _tables(key: str, vpc: VpcPart, ranges: Iterable[Network]) -> None:
    targets = [LOCAL, BLACKHOLE, *([GATEWAY] if vpc.internet_gateway else []), *vpc.endpoints]
    for table, routes in vpc.route_tables.items():
        for destination, target in routes.items():
            where = f"{key}.route_tables.{table}.{destination}"
            _network(destination, where)
            _known(target, targets, where, "route target")
    if not vpc.edge_routes:
        return
    _known(vpc.edge_routes, vpc.route_tables, f"{key}.edge_routes", "route table")
    for destination, target in vpc.route_tables[vpc.edge_routes].items():
        where = f"{key}.route_tables.{vpc.edge_routes}.{destination}"
        if target == GATEWAY:
            raise ConfigError("an edge route table leads into the VPC, not back out", key=where)
        if not any(_within(parse_network(destination), outer) for outer in ranges):
            raise ConfigError(
                "an edge route's destination must lie in the VPC", key=where, hint="AWS's rule"
            )


def _hosts(topology: Topology) -> None:
    owners: dict[tuple[str, str], str] = {}
    for name, host in topology.hosts.items():
        key = f"hosts.{name}"
        if not host.addresses:
            raise ConfigError("is empty", key=f"{key}.addresses")
        if bool(host.vpc) is not bool(host.subnet):
            missing = "subnet" if host.vpc else "vpc"
            raise ConfigError("is missing", key=f"{key}.{missing}", hint="both or neither")
        for address in host.addresses:
            ip = _address(address, f"{key}.addresses")
            holder = owners.setdefault((host.vpc, address), name)
            if holder != name:
                raise ConfigError(f"{address} is {holder}'s", key=f"{key}.addresses")
            if host.vpc:
                _known(host.vpc, topology.vpcs, f"{key}.vpc", "VPC")
                vpc = topology.vpcs[host.vpc]
                _known(host.subnet, vpc.subnets, f"{key}.subnet", "subnet")
                cidrs = vpc.subnets[host.subnet].cidrs
                if not any(ip in parse_network(cidr) for cidr in cidrs):
                    raise ConfigError(
                        f"{address} is not in subnet {host.subnet}",
                        key=f"{key}.addresses",
                        hint=f"it has {', '.join(cidrs)}",
                    )
        if host.public:
            _public(host, key, owners, name)
        for service in host.services:
            if isinstance(service, AlbService):
                for instance in service.instances:
                    _known(instance, topology.hosts, f"{key}.services.instances", "host")


def _public(host: HostPart, key: str, owners: dict[tuple[str, str], str], name: str) -> None:
    if not host.vpc:
        raise ConfigError("is for hosts in a VPC", key=f"{key}.public")
    if _address(host.public, f"{key}.public").version != 4:
        raise ConfigError("is an IPv4 address", key=f"{key}.public", hint="IPv6 needs none")
    holder = owners.setdefault(("", host.public), name)
    if holder != name:
        raise ConfigError(f"{host.public} is {holder}'s", key=f"{key}.public")


def _loops(topology: Topology, name: str, part: VpcPart) -> None:
    """Follow the route tables from every place to every host: none may pass an endpoint twice."""
    vpc = Vpc(name, part)
    addresses = [
        ipaddress.ip_address(text).packed
        for host in topology.hosts.values()
        for text in host.addresses
        if host.vpc in ("", name)
    ]
    for address in addresses:
        starts = [(f"subnet {s}", subnet_steps(vpc, s, address)) for s in part.subnets]
        if part.edge_routes:
            starts.append(("the internet gateway", edge_steps(vpc, address)))
        for start, steps in starts:
            passed: list[str] = []
            for step in steps:
                if step.endpoint in passed:
                    where = f"vpcs.{name}.route_tables.{step.table}"
                    to = ipaddress.ip_address(address)
                    raise ConfigError(
                        f"from {start} to {to}, {step.route} leads in a circle",
                        key=where,
                        hint=f"give {step.endpoint}'s subnet a table that leads past it",
                    )
                if step.endpoint:
                    passed.append(step.endpoint)


def _known(name: str, known: Iterable[str], key: str, what: str) -> None:
    names = list(known)
    if name not in names:
        raise ConfigError(f"no {what} {name!r}", key=key, hint=near_miss(name, names))


def _network(text: str, key: str) -> Network:
    try:
        return parse_network(text)
    except ConfigError as error:
        raise ConfigError(error.message, key=key) from None


def _address(text: str, key: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no IP address", key=key) from None


def _ipv4(text: str, key: str, taken: dict[str, str]) -> None:
    if _address(text, key).version != 4:
        raise ConfigError("GENEVE comes over IPv4", key=key)
    holder = taken.setdefault(text, key)
    if holder != key:
        raise ConfigError(f"{text} is the address of {holder}", key=key)


def _within(inner: Network, outer: Network) -> bool:
    if inner.version != outer.version:
        return False
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer
