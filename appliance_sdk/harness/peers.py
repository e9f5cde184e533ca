"""Who speaks to whom in a topology, and under which addresses; hosts that are alike speak once."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from appliance_sdk.harness.addresses import Addresses
from appliance_sdk.harness.routes import Network, parse_network
from appliance_sdk.harness.topology import AlbService, Topology


class Pair(NamedTuple):
    """Two hosts; the first is likelier to open connections."""

    here: str
    there: str
    mine: bytes
    """The address of the first, as it has it."""
    theirs: bytes
    my_known: bytes
    """The same as the other one knows it: the public one, if an internet gateway is between."""
    their_known: bytes
    sure: bool
    """The second is not likely to open any."""


class Peers:
    """The hosts of a topology."""

    def __init__(self, topology: Topology, addresses: Addresses) -> None:
        self._hosts = topology.hosts
        self._addresses = addresses
        self._instances = {
            name
            for host in topology.hosts.values()
            for service in host.services
            if isinstance(service, AlbService)
            for name in service.instances
        }
        self._ranges = _ranges(topology)
        first: dict[tuple[object, ...], str] = {}
        self.like = {name: first.setdefault(self._kind(name), name) for name in self._hosts}
        """For each host the first that no route, and nothing that matters here, tells from it."""
        self._counts = Counter(self.like.values())

    def count(self, here: str, there: str) -> int:
        """How many pairs of hosts are like these two."""
        return self._counts[here] * self._counts[there]

    def __iter__(self) -> Iterator[Pair]:
        """Everyone with everyone, over IPv4 and IPv6."""
        for pair in combinations(self._counts, 2):
            opens = [self._opens(*pair), self._opens(*reversed(pair))]
            here, there = reversed(pair) if opens == [False, True] else pair
            for bits in (32, 128):
                mine, theirs = self._address(here, bits), self._address(there, bits)
                for known in self._known(here, there, mine, theirs):
                    yield Pair(here, there, mine, theirs, *known, opens[0] != opens[1])

    def _opens(self, here: str, there: str) -> bool:
        """Whether a host is likely to open connections to another one."""
        mine, other = self._hosts[here], self._hosts[there]
        if any(there in s.instances for s in mine.services if isinstance(s, AlbService)):
            return True
        return bool(other.vpc) and (not mine.vpc or bool(other.services and not mine.services))

    def _known(
        self, here: str, there: str, mine: bytes, theirs: bytes
    ) -> Iterator[tuple[bytes, bytes]]:
        """Under which addresses they know each other: their own, or those on the internet."""
        if not mine or not theirs:
            return
        vpcs = self._hosts[here].vpc, self._hosts[there].vpc
        if all(vpcs):
            yield mine, theirs
        if vpcs[0] != vpcs[1]:
            known = self._outside(vpcs[0], mine), self._outside(vpcs[1], theirs)
            if all(known) and not (all(vpcs) and known == (mine, theirs)):
                yield known

    def _outside(self, vpc: str, address: bytes) -> bytes:
        return (self._addresses.outside(vpc, address) or b"") if vpc else address

    def _address(self, host: str, bits: int) -> bytes:
        packed = (ipaddress.ip_address(a).packed for a in self._hosts[host].addresses)
        return next((address for address in packed if len(address) * 8 == bits), b"")

    def _kind(self, name: str) -> tuple[object, ...]:
        """What tells hosts apart; those with or behind a load balancer are each their own."""
        host = self._hosts[name]
        matched = []
        for text in (*host.addresses[:2], host.public):
            ip = ipaddress.ip_address(text) if text else None
            matched.append(tuple(ip is not None and ip in range_ for range_ in self._ranges))
        alone = any(isinstance(service, AlbService) for service in host.services)
        own = name if alone or name in self._instances or len(host.addresses) > 2 else ""
        families = tuple(":" in address for address in host.addresses)
        what = bool(host.services), host.mtu_bytes, bool(host.public), families
        return host.vpc, host.subnet, own, *what, *matched


def _ranges(topology: Topology) -> list[Network]:
    """Every range that a route is for."""
    tables = [t for vpc in topology.vpcs.values() for t in vpc.route_tables.values()]
    tables += [t for g in topology.transit_gateways.values() for t in g.route_tables.values()]
    return [parse_network(text) for text in dict.fromkeys(text for t in tables for text in t)]
