"""Whether AWS would take a topology: names lead somewhere, nothing overlaps within a VPC."""

from __future__ import annotations

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.route_check import check_transit_gateway, check_vpc_routes
from appliance_sdk.harness.router import EDGE, OUT
from appliance_sdk.harness.routes import KEYWORDS, Network, parse_network
from appliance_sdk.harness.topology import (
    AlbService,
    EndpointServicePart,
    HostPart,
    Topology,
    VpcPart,
)
from appliance_sdk.harness.topology_values import address_at, known, range_at, within
from appliance_sdk.harness.vpc import endpoint_id
from appliance_sdk.wire import parse_endpoint


def check_topology(topology: Topology) -> None:
    """Raise ConfigError naming file, key path and what to do."""
    try:
        _gateways(topology)
        for name, service in topology.endpoint_services.items():
            _service(topology, name, service)
        ids: dict[str, str] = {}
        for name, vpc in topology.vpcs.items():
            _vpc(topology, name, vpc)
            for endpoint in vpc.endpoints:
                _endpoint(topology, name, endpoint, ids)
        for name, gateway in topology.transit_gateways.items():
            check_transit_gateway(topology, name, gateway)
        for name in topology.vpcs:
            check_vpc_routes(topology, name)
        _hosts(topology)
        _faults(topology)
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
            known(zone, gateway.zones, f"{key}.nodes.{zone}", "zone")
            _ipv4(address, f"{key}.nodes.{zone}", addresses)
        for target, part in gateway.targets.items():
            known(part.zone, gateway.zones, f"{key}.targets.{target}.zone", "zone")
            if part.address:
                _ipv4(part.address, f"{key}.targets.{target}.address", addresses)
    names = [target for gateway in topology.gateways.values() for target in gateway.targets]
    for target in names:
        if names.count(target) > 1:
            raise ConfigError(f"two targets are called {target}", key="gateways")


def _vpc(topology: Topology, name: str, vpc: VpcPart) -> None:
    key = f"vpcs.{name}"
    ranges = [range_at(text, f"{key}.cidrs") for text in vpc.cidrs]
    if not ranges:
        raise ConfigError("is empty", key=f"{key}.cidrs", hint='try ["10.0.0.0/16"]')
    taken: list[tuple[str, Network]] = []
    for subnet, part in vpc.subnets.items():
        where = f"{key}.subnets.{subnet}"
        if subnet in (EDGE, OUT):
            raise ConfigError(f"{subnet} is the internet gateway", key=where)
        known(part.routes, vpc.route_tables, f"{where}.routes", "route table")
        for cidr in (range_at(text, f"{where}.cidrs") for text in part.cidrs):
            if not any(within(cidr, outer) for outer in ranges):
                raise ConfigError(f"{cidr} is not in the VPC", key=f"{where}.cidrs")
            for other, range_ in taken:
                if cidr.version == range_.version and cidr.overlaps(range_):
                    raise ConfigError(f"{cidr} overlaps {other}'s {range_}", key=f"{where}.cidrs")
            taken.append((subnet, cidr))


def _service(topology: Topology, name: str, part: EndpointServicePart) -> None:
    key = f"endpoint_services.{name}.gateways"
    if not part.gateways:
        raise ConfigError("is empty", key=key, hint="a service needs a load balancer")
    for gateway in part.gateways:
        known(gateway, topology.gateways, key, "load balancer")


def _endpoint(topology: Topology, vpc_name: str, endpoint: str, ids: dict[str, str]) -> None:
    vpc = topology.vpcs[vpc_name]
    place = vpc.endpoints[endpoint]
    where = f"vpcs.{vpc_name}.endpoints.{endpoint}"
    if endpoint in KEYWORDS:
        raise ConfigError(f"{endpoint} means something else in a route table", key=where)
    if endpoint in topology.transit_gateways:
        raise ConfigError("is the name of a transit gateway", key=where)
    known(place.subnet, vpc.subnets, f"{where}.subnet", "subnet")
    if bool(place.gateway) is bool(place.service):
        said = "has both a gateway and a service" if place.gateway else "leads nowhere"
        raise ConfigError(said, key=where, hint="gateway = a load balancer, or service = …")
    if place.gateway:
        known(place.gateway, topology.gateways, f"{where}.gateway", "load balancer")
    else:
        known(place.service, topology.endpoint_services, f"{where}.service", "endpoint service")
    if not topology.load_balancer(vpc_name, endpoint):
        names = topology.load_balancers(place)
        zones = dict.fromkeys(zone for name in names for zone in topology.gateways[name].zones)
        raise ConfigError(
            f"is in zone {vpc.subnets[place.subnet].zone}, "
            f"where {place.gateway or place.service} has no node",
            key=where,
            hint=f"its zones: {', '.join(zones)}",
        )
    if place.id:
        try:
            parse_endpoint(place.id)
        except ValueError as error:
            raise ConfigError(str(error), key=f"{where}.id") from None
    id_ = place.id or endpoint_id(vpc_name, endpoint)
    holder = ids.setdefault(id_, where)
    if holder != where:
        raise ConfigError(f"{id_} is the id of {holder}", key=f"{where}.id")


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
            ip = address_at(address, f"{key}.addresses")
            holder = owners.setdefault((host.vpc, address), name)
            if holder != name:
                raise ConfigError(f"{address} is {holder}'s", key=f"{key}.addresses")
            if host.vpc:
                known(host.vpc, topology.vpcs, f"{key}.vpc", "VPC")
                vpc = topology.vpcs[host.vpc]
                known(host.subnet, vpc.subnets, f"{key}.subnet", "subnet")
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
                    known(instance, topology.hosts, f"{key}.services.instances", "host")


def _public(host: HostPart, key: str, owners: dict[tuple[str, str], str], name: str) -> None:
    if not host.vpc:
        raise ConfigError("is for hosts in a VPC", key=f"{key}.public")
    if address_at(host.public, f"{key}.public").version != 4:
        raise ConfigError("is an IPv4 address", key=f"{key}.public", hint="IPv6 needs none")
    holder = owners.setdefault(("", host.public), name)
    if holder != name:
        raise ConfigError(f"{host.public} is {holder}'s", key=f"{key}.public")


def _faults(topology: Topology) -> None:
    targets = [target for gateway in topology.gateways.values() for target in gateway.targets]
    for number, fault in enumerate(topology.faults):
        fault.check(topology.hosts, targets, f"faults[{number}]")


def _ipv4(text: str, key: str, taken: dict[str, str]) -> None:
    if address_at(text, key).version != 4:
        raise ConfigError("GENEVE comes over IPv4", key=key)
    holder = taken.setdefault(text, key)
    if holder != key:
        raise ConfigError(f"{text} is the address of {holder}", key=key)
