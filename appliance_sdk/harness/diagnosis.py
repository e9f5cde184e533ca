"""What the routes of a topology do to its connections, found by following both directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from appliance_sdk.harness.cautions import cautions
from appliance_sdk.harness.findings import Finding
from appliance_sdk.harness.paths import Path, Paths
from appliance_sdk.harness.peers import Pair, Peers
from appliance_sdk.harness.remedies import Remedies, Remedy
from appliance_sdk.harness.topology import Topology
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
        self._peers = Peers(topology, self._paths.router.addresses)
        for pair in self._peers:
            for ways in self._ways(pair):
                self._examine(ways)

    @property
    def findings(self) -> list[Finding]:
        """What routes do first, then what settings do."""
        routed = []
        for finding, pairs in self._routed.values():
            others = sum(self._peers.count(*pair) for pair in pairs) - 1
            more = f"; so with {others} more pair{'s' * (others > 1)} of hosts" if others else ""
            routed.append(finding._replace(what=finding.what + more))
        return [*routed, *cautions(self._topology)]

    def cause(self, vpc: str, endpoint: str, source: bytes, destination: bytes) -> str:
        """Why the first packet of a packet's connection went past an endpoint of a VPC; with no
        endpoint, why the packet goes in circles. "" if the topology is not to blame."""
        here, there = (self._peers.like.get(self._host(vpc, a), "") for a in (source, destination))
        place = f"{vpc}/{endpoint}" if endpoint else ""
        return self._causes.get((place, here, there, len(source) == 16), "")

    def _host(self, vpc: str, address: bytes) -> str:
        """Whose an address is, seen from a VPC."""
        addresses = self._paths.router.addresses
        inside = addresses.inside(address)
        found = addresses.owner(vpc, address) or addresses.owner("", address)
        if not found and inside is not None:
            found = addresses.owner(*inside)
        others = (addresses.owner(name, address) for name in self._topology.vpcs)
        return found or next(filter(None, others), "")

    def _ways(self, pair: Pair) -> Iterator[_Ways]:
        """Both directions, for each choice that a transit gateway has."""
        for turn in range(self._paths.turns):
            forth = self._paths.follow(pair.here, pair.mine, pair.their_known, turn)
            back = self._paths.follow(pair.there, pair.theirs, pair.my_known, turn, back=True)
            yield _Ways(pair.here, pair.there, forth, back, len(pair.mine) == 16, pair.sure)

    def _examine(self, ways: _Ways) -> None:
        for one in (ways, ways.reversed()):
            self._alone(one)
            if one.forth.host == one.there and one.back.end == NO_ROUTE:
                remedy = self._remedies.no_route(one.back, one.here, one.ipv6)
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
        only_forth = list(dict.fromkeys(endpoint for endpoint in forth if endpoint not in back))
        only_back = list(dict.fromkeys(endpoint for endpoint in back if endpoint not in forth))
        them = "them" if len(only_forth) + len(only_back) > 1 else "it"
        if not only_back and not (only_forth and answered):
            return
        if not only_back and not ways.sure:
            self._compare(ways.reversed(), answered=True)  # either may open it: tell the worse
            return
        remedy = self._remedies.zones_apart(ways.forth, ways.back)
        instead = f"pass {_names(only_forth)}, their answers {_names(only_back)}"
        past = f"go past {_names(only_back)}, their answers through {them}"
        if remedy is not None and only_forth and only_back:
            mistake, says = "zones_apart", instead
        elif only_back:
            mistake, says = "past_endpoint", instead if only_forth else past
            remedy = self._remedies.route(ways.forth, ways.back, ways.there, ways.ipv6)
        else:
            mistake, says = "one_sided", f"pass {_names(only_forth)}, their answers go past {them}"
            remedy = self._remedies.route(ways.back, ways.forth, ways.here, ways.ipv6)
        what = f"{remedy.cause}: packets from {ways.here} to {ways.there} {says}"
        if only_back:
            what += ", where they are dropped as no_entry"
        else:
            what += f": appliances there see one side only, and answers to what {ways.there} opens "
            what += "are dropped as no_entry"
        self._add(mistake, ways, remedy, what)
        why = f"{remedy.cause} ({remedy.key})"
        for endpoint in only_back:
            self._causes["/".join(endpoint), ways.there, ways.here, ways.ipv6] = why
        for endpoint in only_forth if answered else ():
            self._causes["/".join(endpoint), ways.here, ways.there, ways.ipv6] = why

    def _add(self, mistake: str, ways: _Ways, remedy: Remedy, what: str) -> None:
        """One finding for all whom the same change helps."""
        finding = Finding(mistake, remedy.key, what, remedy.hint)
        found = self._routed.setdefault((mistake, remedy.key, remedy.hint), (finding, set()))
        found[1].add(frozenset((ways.here, ways.there)))


def _names(endpoints: list[tuple[str, str]]) -> str:
    return " and ".join(name for _, name in endpoints)
