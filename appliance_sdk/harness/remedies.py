"""Where a topology would have to be changed for packets to take another way, and why they do not.

Each answer is the key path, the cause in a few words, and the line to write there.
"""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.harness.paths import Path, Paths, Stop
from appliance_sdk.harness.router import EDGE
from appliance_sdk.harness.topology import Topology


class Remedy(NamedTuple):
    """What to change."""

    key: str
    cause: str
    hint: str


class Remedies:
    """Knows a topology and the ways through it."""

    def __init__(self, topology: Topology, paths: Paths) -> None:
        self._topology = topology
        self._paths = paths

    def route(self, lacking: Path, other: Path, host: str, ipv6: bool) -> Remedy:
        """To lead a way to `host` through an endpoint that the opposite way passes."""
        wanted = other.endpoints[::-1]
        vpc, name = next(endpoint for endpoint in wanted if endpoint not in lacking.endpoints)
        before = wanted[: wanted.index((vpc, name))][-1:]
        stop = _turning(lacking, vpc, before)
        place = self._topology.hosts[host]
        if stop.place == EDGE:
            cidr = self._range(place.vpc, place.subnet, ipv6)
            route = f'"{cidr}" = "{name}"'
            if not stop.step.table:
                hint = f"name an edge route table with {route}"
                return Remedy(f"vpcs.{stop.vpc}.edge_routes", f"no edge route for {cidr}", hint)
            cause = stop.step.route if stop.step.to == "endpoint" else f"no edge route for {cidr}"
            return Remedy(stop.key, cause, route)
        if not stop.vpc:
            return self._transit_route(lacking, stop, vpc, self._range(place.vpc, "", ipv6))
        if not stop.step.table:
            cause = f"{host} is in a subnet that is attached, where no table is asked"
            key = f"vpcs.{stop.vpc}.subnets.{stop.place}"
            return Remedy(key, cause, "attach a subnet of its own")
        inside = place.vpc == stop.vpc
        cidr = self._range(place.vpc, place.subnet, ipv6) if inside else stop.step.destination
        hint = f'"{cidr}" = "{name}"'
        subnet = self._paths.router.vpcs[vpc].endpoints[name].subnet
        if subnet == stop.place:
            hint = f"a subnet of its own for {name}, then {hint}"
        elif self._topology.vpcs[vpc].subnets[subnet].routes == stop.step.table:
            hint = f"a table of its own for subnet {subnet}, then {hint}"
        return Remedy(stop.key, stop.step.route, hint)

    def zones_apart(self, forth: Path, back: Path) -> Remedy | None:
        """To keep both directions in one zone where only a transit gateway parts them."""
        zones = {(s.place, s.step.name): s.zone for s in forth.stops if s.zone}
        for stop in back.stops:
            zone = zones.get((stop.place, stop.step.name), stop.zone)
            if zone != stop.zone:
                key = f"transit_gateways.{stop.place}.attachments.{stop.step.name}"
                cause = "appliance_mode is off, so that each direction keeps its zone"
                return Remedy(key, cause, "appliance_mode = true")
        return None

    def loop(self, path: Path) -> Remedy:
        """To leave a circle."""
        circle = path.stops[path.circle :]
        stop = next((s for s in reversed(circle) if s.endpoint), circle[-1])
        key = f"{stop.key}.{stop.step.destination}"
        places = [s.step.name or s.place for s in circle]
        if len(circle) > 1 or stop.endpoint is None:
            cause = f"leads in a circle: {' to '.join([*places, places[0]])}"
            return Remedy(key, cause, "one of their tables must lead out")
        place = stop.vpc, stop.place
        shared = any((h.vpc, h.subnet) == place for h in self._topology.hosts.values())
        cause = f"leads {places[0]} back to itself, whose subnet has this table"
        if shared:
            return Remedy(key, cause, f"a subnet of its own for {places[0]}, with its own table")
        return Remedy(key, cause, f"a table for subnet {stop.place} that leads past {places[0]}")

    def zone(self, path: Path) -> Remedy:
        """To attach one more zone."""
        stop = path.stops[-1]
        zone = self._paths.router.vpcs[stop.vpc].zones[stop.place]
        gateway = stop.step.name
        name = self._attachment(stop._replace(place=gateway), stop.vpc)
        key = f"transit_gateways.{gateway}.attachments.{name}.subnets"
        return Remedy(key, f"none is in zone {zone}", f"add a subnet of zone {zone}")

    def no_route(self, path: Path, host: str, ipv6: bool) -> Remedy:
        """To lead answers back to a host."""
        stop = path.stops[-1]
        vpc = self._topology.hosts[host].vpc
        attachment = self._attachment(stop, vpc) if not stop.vpc else ""
        hint = f'"{self._range(vpc, "", ipv6)}" = "{attachment}"' if attachment else "a route to it"
        return Remedy(stop.key, f"no route to {host}", hint)

    def _transit_route(self, path: Path, stop: Stop, vpc: str, cidr: str) -> Remedy:
        """To lead a transit gateway's packets to a VPC with an endpoint."""
        attachments = self._topology.transit_gateways[stop.place].attachments
        inspecting = self._attachment(stop, vpc)
        if not inspecting:
            return Remedy(
                stop.key, stop.step.route, f"a way through {vpc}, which is not attached here"
            )
        route = f'"{cidr}" = "{inspecting}"'
        if attachments[inspecting].routes != stop.step.table:
            return Remedy(stop.key, stop.step.route, route)
        came = path.stops[path.stops.index(stop) - 1].vpc
        key = f"transit_gateways.{stop.place}.attachments.{self._attachment(stop, came)}.routes"
        return Remedy(key, f"{stop.step.route} in {stop.step.table}", f"a table with {route}")

    def _attachment(self, stop: Stop, vpc: str) -> str:
        attachments = self._paths.router.transit_gateways[stop.place].attachments
        return next((name for name, place in attachments.items() if place.vpc == vpc), "")

    def _range(self, vpc: str, subnet: str, ipv6: bool) -> str:
        """The range of a subnet, or of a VPC, that is of the right version."""
        part = self._topology.vpcs[vpc]
        cidrs = part.subnets[subnet].cidrs if subnet else part.cidrs
        return next((c for c in cidrs if (":" in c) is ipv6), "")


def _turning(path: Path, vpc: str, before: list[tuple[str, str]]) -> Stop:
    """The table on a way that should lead to an endpoint in a VPC, behind another one."""
    stops = list(path.stops)
    if before and before[0] in path.endpoints:
        stops = stops[[stop.endpoint for stop in stops].index(before[0]) + 1 :]
    ends = next((i for i, stop in enumerate(stops) if stop.endpoint), len(stops) - 1)
    stops = stops[: ends + 1]
    for wanted in (vpc, ""):
        for stop in reversed(stops):
            if stop.vpc == wanted:
                return stop
    return stops[-1]
