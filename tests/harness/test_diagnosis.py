"""A diagnosis is right: packets go where paths say, and every answer without entry is explained."""

from __future__ import annotations

import ipaddress
import itertools
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.harness import GatewayLoadBalancer, Topology, ToTarget, Trace, Transit
from appliance_sdk.harness.diagnosis import Diagnosis
from appliance_sdk.harness.network import Network
from appliance_sdk.harness.paths import Path as Way
from appliance_sdk.harness.paths import Paths
from appliance_sdk.wire import build_tcp

SHIPPED = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies"
SYN, SYN_ACK = 0x02, 0x12


class Quiet:
    """A host that only keeps what it gets."""

    def __init__(self) -> None:
        self.outbox: list[bytes] = []
        self.got: list[bytes] = []

    def receive(self, packet: bytes, now: float) -> None:
        self.got.append(packet)

    def next_deadline(self) -> float:
        return math.inf

    def advance(self, now: float) -> None:
        """Nothing."""


class Wire:
    """A network whose appliances give everything back at once."""

    def __init__(self, topology: Topology) -> None:
        self.trace = Trace()
        self.hosts = {name: Quiet() for name in topology.hosts}
        gateways = {}
        for name, part in topology.gateways.items():
            gateways[name] = GatewayLoadBalancer(topology.nodes(name), part)
            for target in topology.targets(name):
                gateways[name].register(target.name, target.address, target.zone, 0.0)
        self.network = Network(topology, self.hosts, gateways, self._back, self.trace)
        self.now = 0.0

    def send(self, host: str, packet: bytes) -> Transit:
        """One packet, until it is delivered or dropped."""
        self.hosts[host].outbox.append(packet)
        self.network.advance(self.now)
        while self.network.in_flight:
            self.now = self.network.next_deadline()
            self.network.advance(self.now)
        return list(self.trace)[-1]

    def _back(self, sent: ToTarget, now: float) -> None:
        source, destination = (sent.target.address, sent.source_port), (sent.node, 6081)
        self.network.from_target(source, destination, sent.payload, now)


def routes(targets: list[str], ranges: list[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(ranges), st.sampled_from(targets), max_size=2)


@st.composite
def one_vpc(draw: st.DrawFn) -> Topology:
    """The shipped `inline-ids` with any routes, and endpoints in any subnets."""
    data: dict[str, Any] = tomllib.loads((SHIPPED / "inline-ids.toml").read_text())
    shop = data["vpcs"]["shop"]
    inside = ["10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24"]
    endpoints = routes(["gwlbe-fw", "gwlbe-ids"], inside)
    for table in shop["route_tables"]:
        shop["route_tables"][table] = draw(endpoints)
        if table != "edge":
            targets = ["gwlbe-fw", "gwlbe-ids", "igw", "igw"]
            shop["route_tables"][table] |= draw(routes(targets, ["0.0.0.0/0", "203.0.113.0/24"]))
    for endpoint in shop["endpoints"].values():
        endpoint["subnet"] = draw(st.sampled_from([endpoint["subnet"]] * 4 + ["public"]))
    if draw(st.booleans()):
        del shop["edge_routes"]
    data["hosts"]["web-1"]["public"] = "198.51.100.11"
    topology = msgspec.convert(data, Topology)
    topology.check()
    return topology


@st.composite
def transits(draw: st.DrawFn) -> Topology:
    """The shipped `transit` with any routes, zones and modes."""
    data: dict[str, Any] = tomllib.loads((SHIPPED / "transit.toml").read_text())
    ranges = ["0.0.0.0/0", "10.1.0.0/16", "10.2.0.0/16", "10.1.1.0/24"]
    inspection = data["vpcs"]["inspection"]
    if draw(st.booleans()):
        for table in inspection["route_tables"]:
            inspection["route_tables"][table] = draw(routes(["gwlbe-a", "gwlbe-b", "tgw"], ranges))
    inside = {"shop": "10.1.0.0/16", "data": "10.2.0.0/16"}
    for vpc, own in inside.items():
        outside = [r for r in ranges if not r.startswith(own[:4])]
        data["vpcs"][vpc]["route_tables"]["out"] = draw(
            routes(["tgw", "tgw", "blackhole"], outside)
        )
    tgw = data["transit_gateways"]["tgw"]
    if draw(st.booleans()):
        pairs = {a: dict(tgw["attachments"][a], routes="all") for a in ("shop", "data")}
        table = draw(routes(["shop", "data"], ranges))
        data["transit_gateways"]["direct"] = {"attachments": pairs, "route_tables": {"all": table}}
        for vpc in inside:
            if draw(st.booleans()):
                data["vpcs"][vpc]["route_tables"]["out"]["0.0.0.0/0"] = "direct"
    for table in tgw["route_tables"]:
        targets = ["inspection", "shop", "data", "blackhole"]
        if draw(st.booleans()):
            tgw["route_tables"][table] |= draw(routes(targets, ranges))
    for attachment in tgw["attachments"].values():
        tables = [attachment["routes"]] * 3 + ["to-inspect", "inspected"]
        attachment["routes"] = draw(st.sampled_from(tables))
        attachment["appliance_mode"] = draw(st.booleans())
        attachment["subnets"] = attachment["subnets"][: draw(st.sampled_from([2, 2, 1]))]
    topology = msgspec.convert(data, Topology)
    topology.check()
    return topology


TOPOLOGIES = st.one_of(one_vpc(), transits())


def talks(topology: Topology) -> Iterator[tuple[str, str, bytes, bytes]]:
    """Who can speak to whom: from which address of his own, to which as he knows it."""
    hosts = topology.hosts
    for here, there in itertools.permutations(hosts, 2):
        same = hosts[here].vpc == hosts[there].vpc
        private = same or (hosts[here].vpc and hosts[there].vpc) or not hosts[there].vpc
        known = hosts[there].addresses[0] if private else hosts[there].public
        if known:
            yield here, there, packed(hosts[here].addresses[0]), packed(known)


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def walked(packet: Transit) -> list[str]:
    """The places whose tables a packet met, and its fate."""
    last = packet.hops[-1]
    reason = last.detail.split(":")[0] if last.event == "dropped" else last.event
    tables = [hop.place for hop in packet.hops if hop.event == "routed"]
    return [*tables, *([last.place] if reason in ("no_route", "blackhole") else []), reason]


def expected(way: Way, length: int) -> list[str]:
    """The same of a way, gone on with for so many places if it is a circle."""
    places = [stop.place for stop in way.stops]
    circle = itertools.cycle(places[way.circle :])
    if way.end == "routing_loop":
        places += itertools.islice(circle, max(length - 1 - len(places), 0))
    return [*places, way.end]


@settings(max_examples=50, deadline=None)
@given(TOPOLOGIES)
def test_packets_go_where_paths_say(topology: Topology) -> None:
    paths, wire = Paths(topology), Wire(topology)
    for port, (here, _, source, to) in enumerate(talks(topology)):
        went = walked(wire.send(here, build_tcp(source, to, 1024 + port, 80, flags=SYN)))
        ways = [
            expected(paths.follow(here, source, to, turn, back=back), len(went))
            for turn in range(paths.turns)
            for back in (False, True)
        ]
        assert went in ways


@settings(max_examples=50, deadline=None)
@given(TOPOLOGIES)
def test_every_answer_without_entry_is_explained(topology: Topology) -> None:
    diagnosis, wire = Diagnosis(topology), Wire(topology)
    blamed = {finding.mistake for finding in diagnosis.findings}
    for port, (here, there, source, to) in enumerate(talks(topology)):
        opened = wire.send(here, build_tcp(source, to, 1024 + port, 80, flags=SYN))
        if opened.hops[-1].place != there:
            continue
        got = wire.hosts[there].got[-1]
        packet = build_tcp(got[16:20], got[12:16], 80, 1024 + port, flags=SYN_ACK)
        last = wire.send(there, packet).hops[-1]
        if last.event == "dropped":
            reason = last.detail.split(".")[0].split(":")[0]
            if reason == "no_entry":
                assert "Here the first packet went past gwlbe-" in last.detail
                assert blamed & {"past_endpoint", "one_sided", "zones_apart"}
            elif reason == "routing_loop":
                assert "loop" in blamed
            elif reason == "no_route":
                assert "no_way_back" in blamed
            elif reason == "zone_not_attached":
                assert reason in blamed
            else:
                assert reason == "blackhole"
        else:
            assert last.place == here


def test_hosts_that_are_alike_are_followed_once() -> None:
    data: dict[str, Any] = tomllib.loads((SHIPPED / "transit.toml").read_text())
    data["transit_gateways"]["tgw"]["attachments"]["inspection"]["appliance_mode"] = False
    for vpc, net in (("shop", 1), ("data", 2)):
        for zone, number in (("a", 1), ("b", 2)):
            for last in range(20, 70):
                place = {"vpc": vpc, "subnet": f"{vpc}-{zone}"}
                host = {**place, "addresses": [f"10.{net}.{number}.{last}"]}
                data["hosts"][f"{vpc}-{zone}-{last}"] = host
    topology = msgspec.convert(data, Topology)
    diagnosis = Diagnosis(topology)
    (finding,) = diagnosis.findings
    assert "so with 5201 more pairs of hosts" in finding.what  # 2 * 51 * 51, less the one named
    web, api = packed("10.1.1.60"), packed("10.2.2.40")
    assert "appliance_mode is off" in diagnosis.cause("inspection", "gwlbe-b", api, web)
    assert "appliance_mode is off" in diagnosis.cause("inspection", "gwlbe-a", web, api)
    # A route for one of them makes it another kind of host: nobody can open anything to it.
    routes = data["transit_gateways"]["tgw"]["route_tables"]["inspected"]
    routes["10.1.1.60/32"] = "blackhole"
    other = Diagnosis(msgspec.convert(data, Topology))
    assert "appliance_mode is off" in other.cause("inspection", "gwlbe-b", api, web)
    assert not other.cause("inspection", "gwlbe-a", web, api)


@settings(max_examples=30, deadline=None)
@given(TOPOLOGIES)
def test_each_finding_is_about_a_key_that_is_there(topology: Topology) -> None:
    document = msgspec.to_builtins(topology)
    for finding in Diagnosis(topology).findings:
        node, rest = document, finding.key
        while rest:
            name = next(k for k in node if rest == k or rest.startswith(f"{k}."))
            node, rest = node[name], rest[len(name) + 1 :]
        assert "\n" not in str(finding)
