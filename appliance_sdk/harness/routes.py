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
"""The state that AWS shows for a route whose target is gone; on a transit gateway, a wish."""
KEYWORDS = (LOCAL, GATEWAY, BLACKHOLE)


class Route(NamedTuple):
    """One line of a route table."""

    destination: Network
    target: str
    """`local`, `igw`, `blackhole`, or the name of an endpoint, transit gateway or attachment."""

    def __str__(self) -> str:
        return f"{self.destination} -> {self.target}"


class RouteTable:
    """A named table; `cidrs` are the VPC's, each of which has its `local` route.

    A route for just such a range takes the place of `local` (AWS, "Replace or restore the target
    for a local route").
    """

    def __init__(self, name: str, cidrs: Iterable[Network], routes: Mapping[str, str]) -> None:
        self.name = name
        by_range = {cidr: Route(cidr, LOCAL) for cidr in cidrs}
        for text, target in routes.items():
            destination = parse_network(text)
            by_range[destination] = Route(destination, target)
        self.routes = list(by_range.values())
        ordered = sorted(self.routes, key=lambda route: -route.destination.prefixlen)
        self._ranges = {
            bits: [_masked(route) for route in ordered if route.destination.max_prefixlen == bits]
            for bits in (32, 128)
        }

    def look_up(self, address: bytes) -> Route | None:
        """The route to an address, None if there is none."""
        number = int.from_bytes(address, "big")
        for mask, first, route in self._ranges[len(address) * 8]:
            if number & mask == first:
                return route
        return None


def parse_network(text: str) -> Network:
    """A CIDR range. Raises ConfigError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no CIDR range: {error}") from None


def _masked(route: Route) -> tuple[int, int, Route]:
    return int(route.destination.netmask), int(route.destination.network_address), route
