"""What stands where: VPCs, subnets, route tables, endpoints, load balancers and hosts, as data."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.targets import Target
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
    gateway: str
    id: str = ""
    """"vpce-" and 17 hex digits; empty: made from its name."""


class VpcPart(Part, frozen=True):
    """`[vpcs.NAME]`."""

    cidrs: tuple[str, ...]
    subnets: dict[str, SubnetPart]
    route_tables: dict[str, dict[str, str]]
    """By name: destination range to target. `local` routes need not be written."""
    endpoints: dict[str, EndpointPart] = {}
    edge_routes: str = ""
    """The route table of its internet gateway; empty: packets go straight to their subnet."""
    internet_gateway: bool = True


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

    def check(self) -> None:
        """Raise ConfigError if a name leads nowhere, ranges overlap or a route leads in circles."""
        from appliance_sdk.harness.topology_check import check_topology

        check_topology(self)


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
