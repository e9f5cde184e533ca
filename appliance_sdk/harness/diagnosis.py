"""What the routes of a topology do to its connections, found by following both directions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from appliance_sdk.harness.cautions import cautions
from appliance_sdk.harness.findings import Finding
from appliance_sdk.harness.paths import Path, Paths
from appliance_sdk.harness.remedies import Remedies, Remedy
from appliance_sdk.harness.topology import AlbService, Topology
from appliance_sdk.harness.vpc import NO_ROUTE

_LARGEST_BYTES = 8500


class _Ways(NamedTuple):
    """The way from one host to another, and the way back."""

    here: str
    there: str
    forth: Path
    back: Path
    ipv6: bool
    sure: bool
    """It is the first who opens connections."""

    def reversed(self) -> _Ways:
        return _Ways(self.there, self.here, self.back, self.forth, self.ipv6, False)


class Diagnosis:
    """Every mistake in a topology, and why a load balancer has no entry for somebody's packets."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._paths = Paths(topology)
        self._remedies = Remedies(topology, self._paths)
        self._routed: dict[tuple[str, str, str], tuple[Finding, set[frozenset[str]]]] = {}
        self._causes: dict[tuple[str, str, str, bool], str] = {}
        for ways in self._everyone():
            self._examine(ways)

    @property
    def findings(self) -> list[Finding]:
        """What routes do first, then what settings do."""
        routed = []
        for finding, pairs in self._routed.values():
            others = len(pairs) - 1
            more = f"; so with {others} more pair{'s' * (others > 1)} of hosts" if others else ""
            routed.append(finding._replace(what=finding.what + more))
        return [*routed, *cautions(self._topology)]

    def cause(self, vpc: str, endpoint: str, source: bytes, destination: bytes) -> str:
        """Why the first packet of a packet's connection went past an endpoint of a VPC; with no
        endpoint, why the packet goes in circles. "" if the topology is not to blame."""
        hosts = self._host(vpc, source), self._host(vpc, destination)
        place = f"{vpc}/{endpoint}" if endpoint else ""
        return self._causes.get((place, *hosts, len(source) == 16), "")

    def _host(self, vpc: str, address: bytes) -> str:
        """Whose an address is, seen from a VPC."""
        addresses = self._paths.router.addresses
        inside = addresses.inside(address)
        found = addresses.owner(vpc, address) or addresses.owner("", address)
        if not found and inside is not None:
            found = addresses.owner(*inside)
        others = (addresses.owner(name, address) for name in self._topology.vpcs)
        return found or next(filter(None, others), "")

    def _everyone(self) -> Iterator[_Ways]:
        """Everyone with everyone, over IPv4 and IPv6; who opens connections comes first."""
        for pair in combinations(self._topology.hosts, 2):
            opens = [self._opens(*pair), self._opens(*reversed(pair))]
            here, there = reversed(pair) if opens == [False, True] else pair
            for bits in (32, 128):
                mine, theirs = self._address(here, bits), self._address(there, bits)
                if mine and theirs:
                    yield from self._both(here, there, mine, theirs, sure=opens[0] != opens[1])

    def _opens(self, here: str, there: str) -> bool:
        """Whether a host is likely to open connections to another one."""
        mine, other = self._topology.hosts[here], self._topology.hosts[there]
        if any(there in s.instances for s in mine.services if isinstance(s, AlbService)):
            return True
        return bool(other.vpc) and (not mine.vpc or bool(other.services and not mine.services))

    def _both(
        self, here: str, there: str, mine: bytes, theirs: bytes, *, sure: bool
    ) -> Iterator[_Ways]:
        """Under their own addresses, and under those that they have on the internet."""
        vpcs = [self._topology.hosts[name].vpc for name in (here, there)]
        known: dict[tuple[bytes | None, bytes | None], None] = {}
        if all(vpcs):
            known[mine, theirs] = None
        if vpcs[0] != vpcs[1]:
            outside = self._paths.router.addresses.outside
            known[outside(vpcs[0], mine) if vpcs[0] else mine, outside(vpcs[1], theirs)] = None
        for my, their in known:
            if my is None or their is None:
                continue
            for turn in range(self._paths.turns):
                forth = self._paths.follow(here, mine, their, turn)
                back = self._paths.follow(there, theirs, my, turn, back=True)
                yield _Ways(here, there, forth, back, len(mine) == 16, sure)

    def _address(self, host: str, bits: int) -> bytes:
        packed = (ipaddress.ip_address(a).packed for a in self._topology.hosts[host].addresses)
        return next((address for address in packed if len(address) * 8 == bits), b"")

    def _examine(self, ways: _Ways) -> None:
        for one in (ways, ways.reversed()):
            self._alone(one)
            if one.forth.host == one.there and one.back.end == NO_ROUTE:
                remedy = self._remedies.no_route(one.back, one.here)
                what = f"{remedy.cause}: packets from {one.here} reach {one.there}, its answers end"
                self._add("no_way_back", one, remedy, f"{what} at {one.back.stops[-1].place}")
        arriving = [one for one in (ways, ways.reversed()) if one.forth.host == one.there]
        for one in arriving[:1]:
            self._compare(one, answered=len(arriving) == 2)

    def _alone(self, ways: _Ways) -> None:
        """What can be said of one direction."""
        path = ways.forth
        packets = f"packets from {ways.here} to {ways.there}"
        if path.end == "routing_loop":
            remedy = self._remedies.loop(path)
            self._add("loop", ways, remedy, f"{remedy.cause}: {packets} are dropped as {path.end}")
            why = f"{remedy.cause} ({remedy.key})"
            self._causes["", ways.here, ways.there, ways.ipv6] = why
        elif path.end == "zone_not_attached":
            remedy = self._remedies.zone(path)
            what = f"{remedy.cause}: {packets} are dropped as {path.end}"
            self._add("zone_not_attached", ways, remedy, what)
        size = self._topology.hosts[ways.here].mtu_bytes
        if path.endpoints and size > _LARGEST_BYTES:
            remedy = Remedy(
                f"hosts.{ways.here}.mtu_bytes", "", "at most 8500, or a TCP MSS of at most 8460"
            )
            what = f"{packets} can have {size} bytes: over 8,500 they are dropped as too_big"
            self._add("mtu", ways, remedy, what)

    def _compare(self, ways: _Ways, *, answered: bool) -> None:
        """The endpoints that two directions of a connection pass must be the same."""
        forth, back = ways.forth.endpoints, ways.back.endpoints
        only_forth = [endpoint for endpoint in forth if endpoint not in back]
        only_back = [endpoint for endpoint in back if endpoint not in forth]
        if not only_back and not (only_forth and answered):
            return
        if not only_back and not ways.sure:
            self._compare(ways.reversed(), answered=True)  # either may open it: tell the worse
            return
        remedy = self._remedies.zones_apart(ways.forth, ways.back)
        instead = f"pass {_names(only_forth)}, their answers {_names(only_back)}"
        past = f"go past {_names(only_back)}, their answers through it"
        if remedy is not None and only_forth and only_back:
            mistake, says = "zones_apart", instead
        elif only_back:
            mistake, says = "past_endpoint", instead if only_forth else past
            remedy = self._remedies.route(ways.forth, ways.back, ways.there, ways.ipv6)
        else:
            mistake, says = "one_sided", f"pass {_names(only_forth)}, their answers go past it"
            remedy = self._remedies.route(ways.back, ways.forth, ways.here, ways.ipv6)
        what = f"{remedy.cause}: packets from {ways.here} to {ways.there} {says}"
        if only_back:
            what += ", where they are dropped as no_entry"
        else:
            what += f": its appliances see one side only, and answers to what {ways.there} opens "
            what += "are dropped as no_entry"
        self._add(mistake, ways, remedy, what)
        why = f"{remedy.cause} ({remedy.key})"
        for endpoint in only_back:
            self._causes["/".join(endpoint), ways.there, ways.here, ways.ipv6] = why
        for endpoint in only_forth:
            self._causes["/".join(endpoint), ways.here, ways.there, ways.ipv6] = why

    def _add(self, mistake: str, ways: _Ways, remedy: Remedy, what: str) -> None:
        """One finding for all whom the same change helps."""
        finding = Finding(mistake, remedy.key, what, remedy.hint)
        found = self._routed.setdefault((mistake, remedy.key, remedy.hint), (finding, set()))
        found[1].add(frozenset((ways.here, ways.there)))


def _names(endpoints: list[tuple[str, str]]) -> str:
    return " and ".join(name for _, name in endpoints)
