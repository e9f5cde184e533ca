"""Route tables: the longest prefix wins, and within a VPC there is always `local`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from appliance_sdk.errors import ConfigError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCAL = "local"
"""The target of the route to the VPC's own ranges."""
GATEWAY = "igw"
"""The target that means the VPC's internet gateway."""
BLACKHOLE = "blackhole"


class Route(NamedTuple):
    """One line of a route table."""

    destination: Network
    target: str
    """`local`, `igw`, `blackhole` or the name of an endpoint."""

    def __str__(self) -> str:
        return f"{self.destination} -> {self.target}"


class RouteTable:
    """A named table; `cidrs` are the VPC's, each of which has its `local` route."""

    def __init__(self, name: str, cidrs: Iterable[Network], routes: Mapping[str, str]) -> None:
        self.name = name
        self.routes = [Route(cidr, LOCAL) for cidr in cidrs]
        self.routes += [Route(parse_network(text), target) for text, target in routes.items()]
        self._by_length = sorted(self.routes, key=lambda route: -route.destination.prefixlen)

    def look_up(self, address: bytes) -> Route | None:
        """The route to an address, None if there is none."""
        ip = ipaddress.ip_address(address)
        for route in self._by_length:
            if ip in route.destination:
                return route
        return None


def parse_network(text: str) -> Network:
    """A CIDR range. Raises ConfigError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no CIDR range: {error}") from None
