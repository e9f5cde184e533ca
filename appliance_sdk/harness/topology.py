"""What stands where: VPCs, subnets, route tables, endpoints, load balancers and hosts, as data."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.faults import Fault
from appliance_sdk.harness.findings import Finding
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.states import Target
from appliance_sdk.plugin.config import decode_config, near_miss, read_toml


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table in a topology file."""


class TargetPart(Part, frozen=True):
    """`[gateways.NAME.targets.NAME]`: an appliance."""

    zone: str
    address: str = ""
    """IPv4; empty: one on loopback."""


class GatewayPart(GatewaySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateways.NAME]`: a Gateway Load Balancer with its settings."""

    zones: tuple[str, ...] = ("a",)
    nodes: dict[str, str] = {}
    """The IPv4 address of the node in each zone; those left out are on loopback."""
    targets: dict[str, TargetPart] = {}


class SubnetPart(Part, frozen=True):
    """`[vpcs.NAME.subnets.NAME]`."""

    cidrs: tuple[str, ...]
    zone: str
    routes: str
    """The name of its route table."""


class EndpointPart(Part, frozen=True):
    """`[vpcs.NAME.endpoints.NAME]`: a Gateway Load Balancer endpoint."""

    subnet: str
    gateway: str = ""
    """The load balancer behind it, or else:"""
    service: str = ""
    """The endpoint service, of which the load balancer in the endpoint's zone serves it."""
    id: str = ""
    """"vpce-" and 17 hex digits; empty: made from its name."""


class EndpointServicePart(Part, frozen=True):
    """`[endpoint_services.NAME]`: load balancers that are one service, in all of their zones.

    An endpoint is connected to one of them only (AWS, "Access an inspection system"): the first
    that has a node in its zone.
    """

    gateways: tuple[str, ...]


class VpcPart(Part, frozen=True):
    """`[vpcs.NAME]`."""

    cidrs: tuple[str, ...]
    subnets: dict[str, SubnetPart]
    route_tables: dict[str, dict[str, str]]
    """By name: destination range to `local`, `igw`, `blackhole`, or the name of an endpoint or a
    transit gateway. `local` routes need not be written."""
    endpoints: dict[str, EndpointPart] = {}
    edge_routes: str = ""
    """The route table of its internet gateway; empty: packets go straight to their subnet."""
    internet_gateway: bool = True


class AttachmentPart(Part, frozen=True):
    """`[transit_gateways.NAME.attachments.NAME]`: a VPC that is attached."""

    vpc: str
    subnets: tuple[str, ...]
    """One in each zone that is attached; their tables route what the transit gateway delivers."""
    routes: str
    """Which of its route tables the transit gateway asks about packets from this VPC."""
    appliance_mode: bool = False
    """AWS's `ApplianceModeSupport`: a flow keeps one zone of this VPC, in both directions and for
    its life. Without it a packet stays in the zone that it came from."""


class TransitGatewayPart(Part, frozen=True):
    """`[transit_gateways.NAME]`: a router between VPCs."""

    attachments: dict[str, AttachmentPart]
    route_tables: dict[str, dict[str, str]]
    """By name: destination range to the name of an attachment, or `blackhole`."""


class HttpService(Part, frozen=True, tag="http", tag_field="kind"):
    """A web server that answers every request."""

    port: int = 80
    body: str = "hello\n"
    status: int = 200


class AlbService(Part, frozen=True, tag="alb", tag_field="kind"):
    """An Application Load Balancer before other hosts; each new request goes to the least busy."""

    instances: tuple[str, ...]
    """Hosts of the same VPC."""
    port: int = 80
    instance_port: int = 80


class EchoService(Part, frozen=True, tag="echo", tag_field="kind"):
    """Sends everything back, on TCP and UDP."""

    port: int = 7


class BannerService(Part, frozen=True, tag="banner", tag_field="kind"):
    """Says one line on TCP and listens, as FTP, SMTP and SSH do."""

    port: int
    text: str


Service = HttpService | AlbService | EchoService | BannerService


class HostPart(Part, frozen=True):
    """`[hosts.NAME]`: in a subnet, or on the internet if it names none."""

    addresses: tuple[str, ...]
    vpc: str = ""
    subnet: str = ""
    public: str = ""
    """The elastic IPv4 address that its first IPv4 address has on the internet."""
    services: tuple[Service, ...] = ()
    mtu_bytes: int = 1500


class Topology(Part, frozen=True):
    """The whole picture. `Topology.read` takes it from a TOML file."""

    gateways: dict[str, GatewayPart]
    vpcs: dict[str, VpcPart]
    hosts: dict[str, HostPart]
    endpoint_services: dict[str, EndpointServicePart] = {}
    transit_gateways: dict[str, TransitGatewayPart] = {}
    faults: tuple[Fault, ...] = ()
    """What goes wrong, and when."""
    seed: int = 0
    """Everything that is random comes from it."""
    loopback: str = "127.90"
    """Where nodes and targets without an address have theirs: 127 and another number."""
    path: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Topology:
        """Read and check a file. Raises ConfigError naming file, key path and what to do."""
        data = read_toml(path)
        topology = decode_config(data, cls, path=path)
        topology = msgspec.structs.replace(topology, path=str(path))
        topology.check()
        return topology

    def nodes(self, gateway: str) -> dict[str, str]:
        """The address of a load balancer's node in each of its zones."""
        part = self.gateways[gateway]
        number = list(self.gateways).index(gateway)
        return {
            zone: part.nodes.get(zone, f"{self.loopback}.{number}.{index + 11}")
            for index, zone in enumerate(part.zones)
        }

    def targets(self, gateway: str) -> list[Target]:
        """The targets of a load balancer, with their addresses."""
        number = list(self.gateways).index(gateway)
        parts = self.gateways[gateway].targets
        return [
            Target(name, part.address or f"{self.loopback}.{number}.{index + 101}", part.zone)
            for index, (name, part) in enumerate(parts.items())
        ]

    def load_balancer(self, vpc: str, endpoint: str) -> str:
        """Which load balancer serves an endpoint, "" if none has a node in its zone."""
        place = self.vpcs[vpc].endpoints[endpoint]
        zone = self.vpcs[vpc].subnets[place.subnet].zone
        names = self.load_balancers(place)
        return next((name for name in names if zone in self.gateways[name].zones), "")

    def load_balancers(self, place: EndpointPart) -> tuple[str, ...]:
        """Those of the service that an endpoint is connected to."""
        if place.service:
            return self.endpoint_services[place.service].gateways
        return (place.gateway,)

    def check(self) -> None:
        """Raise ConfigError for what AWS would refuse: names that lead nowhere, ranges that
        overlap in a VPC, routes to where none may lead."""
        from appliance_sdk.harness.topology_check import check_topology

        check_topology(self)

    def warnings(self) -> list[Finding]:
        """What AWS would take and what will not work then, each with what to do."""
        from appliance_sdk.harness.diagnosis import Diagnosis

        return Diagnosis(self).findings


def service_label(service: Service) -> str:
    """What a service is in a word or two: "http :80", "alb :80 to web-1, web-2"."""
    kind = type(service).__name__.removesuffix("Service").lower()
    to = f" to {', '.join(service.instances)}" if isinstance(service, AlbService) else ""
    return f"{kind} :{service.port}{to}"


def shipped_topology(name: str) -> Topology:
    """A topology that comes with the SDK: "simple" and others. Raises ConfigError."""
    folder = resources.files("appliance_sdk.harness") / "topologies"
    names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir())
    if name not in names:
        hint = near_miss(name, names)
        raise ConfigError(f"no topology {name!r} comes with the SDK", hint=hint)
    with resources.as_file(folder / f"{name}.toml") as path:
        return Topology.read(path)
