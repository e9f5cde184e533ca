"""Mistakes that AWS takes: what they do to packets, hop by hop, and what is said about them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.harness import (
    MISTAKES,
    ROUTE_REASONS,
    Harness,
    InProcess,
    MemoryFleet,
    Topology,
    Transit,
    network,
)
from appliance_sdk.harness.hosts import http_get
from appliance_sdk.testing.traffic import FlowFactory
from appliance_sdk.wire import parse_geneve, parse_packet

SHIPPED = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies"
SITE = "198.51.100.10"


class LetThrough(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.DONE


def changed(name: str, *changes: tuple[str, str]) -> Topology:
    """A shipped topology with something in its file written differently."""
    text = (SHIPPED / f"{name}.toml").read_text()
    for right, wrong in changes:
        assert right in text
        text = text.replace(right, wrong)
    return msgspec.convert(tomllib.loads(text), Topology)


def run(topology: Topology, **options: Any) -> Harness:
    harness = Harness(topology, MemoryFleet({"": InProcess(LetThrough)}), **options)
    harness.wait_healthy()
    return harness


def way(packet: Transit) -> str:
    """Where a packet was, in a line, and why it was dropped if it was."""
    seen = [hop.place for hop in packet.hops if hop.event not in ("returned", "decapsulated")]
    last = packet.hops[-1]
    return " ".join(
        [*seen, *([last.detail.split(":")[0].split(".")[0]] if last.event == "dropped" else [])]
    )


def ways(harness: Harness) -> list[str]:
    return [way(packet) for packet in harness.trace]


def last_words(harness: Harness, reason: str) -> str:
    """What the trace says of the first packet that was dropped for a reason."""
    details = (packet.hops[-1].detail for packet in harness.trace)
    return next(detail for detail in details if detail.startswith(reason))


def said(topology: Topology) -> list[str]:
    topology.check()  # AWS would take it
    return [str(finding) for finding in topology.warnings()]


@pytest.mark.parametrize("name", ["simple", "inline-ids", "transit"])
def test_of_what_is_shipped_there_is_nothing_to_say(name: str) -> None:
    assert said(changed(name)) == []


EDGE = 'edge = { "10.0.1.0/24" = "gwlbe", "fd00:10:0:1::/64" = "gwlbe" }'
SERVERS = 'servers = { "0.0.0.0/0" = "gwlbe", "::/0" = "gwlbe" }'


@pytest.mark.parametrize(
    ("change", "key", "hint"),
    [
        (
            ('edge_routes = "edge"', ""),
            "vpcs.vpc.edge_routes",
            'name an edge route table with "10.0.1.0/24" = "gwlbe"',
        ),
        ((EDGE, "edge = {}"), "vpcs.vpc.route_tables.edge", '"10.0.1.0/24" = "gwlbe"'),
    ],
)
def test_without_an_edge_route_answers_have_no_entry(
    change: tuple[str, str], key: str, hint: str
) -> None:
    topology = changed("simple", change)
    first, second = said(topology)
    assert first == (
        f"{key}: no edge route for 10.0.1.0/24: packets from client to server go past gwlbe, "
        f"their answers through it, where they are dropped as no_entry ({hint}) [past_endpoint]"
    )
    assert second == first.replace("10.0.1.0/24", "fd00:10:0:1::/64")
    with run(topology) as harness:
        flows = FlowFactory(harness)
        assert not flows.tcp(80).opened
        assert ways(harness)[:2] == [
            "client igw igw server",
            "server servers gwlbe gwlb no_entry",
        ]
        assert last_words(harness, "no_entry").endswith(
            f"Here the first packet went past gwlbe: no edge route for 10.0.1.0/24 ({key})."
        )
        udp = flows.udp(53)
        assert udp.client_sends(b"in past the endpoint")
        assert udp.server_sends(b"an answer opens a flow of its own")
        assert flows.tcp(443, client="server", server="client").server_sends(b"one side is seen")


def test_an_edge_route_that_is_missing_for_ipv6_only() -> None:
    topology = changed("simple", (', "fd00:10:0:1::/64" = "gwlbe" }', " }"))
    (line,) = said(topology)
    assert line.startswith("vpcs.vpc.route_tables.edge: no edge route for fd00:10:0:1::/64: ")
    with run(topology) as harness:
        flows = FlowFactory(harness)
        assert flows.tcp(80).opened
        assert not flows.tcp(80, ipv6=True).opened
        assert "no edge route for fd00:10:0:1::/64" in last_words(harness, "no_entry")


def test_answers_straight_to_the_internet_gateway_are_seen_by_nobody() -> None:
    topology = changed("simple", (SERVERS, 'servers = { "0.0.0.0/0" = "igw", "::/0" = "igw" }'))
    first, second = said(topology)
    assert first == (
        "vpcs.vpc.route_tables.servers: 0.0.0.0/0 -> igw: packets from client to server pass "
        "gwlbe, their answers go past it: appliances there see one side only, and answers to what "
        'server opens are dropped as no_entry ("0.0.0.0/0" = "gwlbe") [one_sided]'
    )
    assert second == first.replace("0.0.0.0/0", "::/0")
    with run(topology) as harness:
        flows = FlowFactory(harness)
        flow = flows.tcp(80)
        assert flow.client_sends(b"supported")
        assert flow.server_sends(b"if discouraged")
        assert flow.close()
        passed = {packet.hops[0].place: "gwlbe" in way(packet) for packet in harness.trace}
        assert passed == {"client": True, "server": False}
        assert not harness.drops
        harness.trace.clear()
        assert not flows.tcp(443, client="server", server="client").opened
        assert ways(harness)[:2] == [
            "server servers igw client",
            "client igw igw gwlbe gwlb no_entry",
        ]
        assert last_words(harness, "no_entry").endswith(
            "Here the first packet went past gwlbe: 0.0.0.0/0 -> igw "
            "(vpcs.vpc.route_tables.servers)."
        )


@pytest.mark.parametrize(
    ("change", "place", "table", "hint"),
    [
        (
            ('subnet = "endpoints"', 'subnet = "servers"'),
            "servers",
            "servers",
            "a subnet of its own for gwlbe, with its own table",
        ),
        (
            (
                'endpoints = { "0.0.0.0/0" = "igw", "::/0" = "igw" }',
                'endpoints = { "0.0.0.0/0" = "gwlbe", "::/0" = "igw" }',
            ),
            "endpoints",
            "endpoints",
            "a table for subnet endpoints that leads past gwlbe",
        ),
        (
            ('zone = "a", routes = "endpoints"', 'zone = "a", routes = "servers"'),
            "endpoints",
            "servers",
            "a table for subnet endpoints that leads past gwlbe",
        ),
    ],
)
def test_an_endpoint_whose_table_leads_back_to_it(
    change: tuple[str, str], place: str, table: str, hint: str
) -> None:
    topology = changed("simple", change)
    key = f"vpcs.vpc.route_tables.{table}.0.0.0.0/0"
    assert said(topology)[0] == (
        f"{key}: leads gwlbe back to itself, whose subnet has this table: packets from server to "
        f"client are dropped as routing_loop ({hint}) [loop]"
    )
    with run(topology) as harness:
        assert not FlowFactory(harness).tcp(80).opened
        there, back = list(harness.trace)[:2]
        assert there.hops[-1].place == "server"  # the way in is sound
        assert way(back).startswith(f"server servers gwlbe gwlb {place} gwlbe gwlb {place} gwlbe")
        assert [hop.place for hop in back.hops if hop.event == "endpoint"] == ["gwlbe"] * 16
        assert back.hops[-1].detail == (
            f"routing_loop: 0.0.0.0/0 -> gwlbe (route table {table}), after 16 tables. "
            f"It leads gwlbe back to itself, whose subnet has this table ({key})"
        )
        assert harness.drops["routing_loop"] > 0


def test_two_endpoints_that_lead_to_each_other() -> None:
    topology = changed(
        "inline-ids", ('"gwlbe-ids", "0.0.0.0/0" = "igw"', '"gwlbe-ids", "0.0.0.0/0" = "gwlbe-ids"')
    )
    assert said(topology)[0].startswith(
        "vpcs.shop.route_tables.firewall-endpoint.0.0.0.0/0: leads in a circle: gwlbe-fw to "
        "gwlbe-ids to gwlbe-fw: packets from alb to client are dropped as routing_loop"
    )
    with run(topology) as harness:
        assert not FlowFactory(harness).tcp(443, server="alb").opened
        assert last_words(harness, "routing_loop").endswith(
            "It leads in a circle: gwlbe-fw to gwlbe-ids to gwlbe-fw "
            "(vpcs.shop.route_tables.firewall-endpoint.0.0.0.0/0)"
        )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            ('"10.0.1.0/24" = "gwlbe-ids", ', ""),
            "vpcs.shop.route_tables.firewall-endpoint: 10.0.0.0/16 -> local: packets from client "
            "to alb go past gwlbe-ids, their answers through it, where they are dropped as "
            'no_entry ("10.0.1.0/24" = "gwlbe-ids") [past_endpoint]',
        ),
        (
            ('edge = { "10.0.1.0/24" = "gwlbe-fw" }', 'edge = { "10.0.1.0/24" = "gwlbe-ids" }'),
            "vpcs.shop.route_tables.edge: 10.0.1.0/24 -> gwlbe-ids: packets from client to alb go "
            "past gwlbe-fw, their answers through it, where they are dropped as no_entry "
            '("10.0.1.0/24" = "gwlbe-fw") [past_endpoint]',
        ),
        (
            ('public = { "0.0.0.0/0" = "gwlbe-ids" }', 'public = { "0.0.0.0/0" = "gwlbe-fw" }'),
            "vpcs.shop.route_tables.public: 0.0.0.0/0 -> gwlbe-fw: packets from client to alb pass "
            "gwlbe-ids, their answers go past it: appliances there see one side only, and answers "
            'to what alb opens are dropped as no_entry ("0.0.0.0/0" = "gwlbe-ids") [one_sided]',
        ),
    ],
)
def test_one_of_two_endpoints_is_left_out_in_one_direction(
    change: tuple[str, str], line: str
) -> None:
    topology = changed("inline-ids", change)
    assert said(topology) == [line]
    with run(topology) as harness:
        exchange = http_get(harness.hosts["client"], SITE, 80, "/", harness.now)
        harness.run()
        assert (exchange.status == 200) is ("one_sided" in line)
        assert bool(harness.drops["no_entry"]) is ("past_endpoint" in line)


def two_zones(edge: str, answers: str, *, tables: str = "") -> Topology:
    """One VPC with an endpoint in each zone, and the server in zone b."""
    return changed(
        "simple",
        ('[gateways.gwlb.targets', 'gateways.gwlb.zones = ["a", "b"]\n'
         '[gateways.gwlb.targets.appliance-2]\nzone = "b"\n[gateways.gwlb.targets'),
        ('endpoints = { cidrs = ["10.0.0.0/24", "fd00:10:0:0::/64"]',
         'endpoint-b = { cidrs = ["10.0.3.0/24"], zone = "b", routes = "endpoints" }\n'
         'endpoints = { cidrs = ["10.0.0.0/24", "fd00:10:0:0::/64"]'),
        ("[vpcs.vpc.endpoints.gwlbe]",
         '[vpcs.vpc.endpoints.gwlbe-b]\nsubnet = "endpoint-b"\ngateway = "gwlb"\n'
         "[vpcs.vpc.endpoints.gwlbe]"),
        (EDGE, f'edge = {{ "10.0.1.0/24" = "{edge}" }}'),
        (SERVERS, f'servers = {{ "0.0.0.0/0" = "{answers}" }}{tables}'),
    )  # fmt: skip


def test_in_by_the_endpoint_of_one_zone_and_out_by_that_of_another() -> None:
    topology = two_zones("gwlbe", "gwlbe-b")
    assert (
        "vpcs.vpc.route_tables.edge: 10.0.1.0/24 -> gwlbe: packets from client to server pass "
        "gwlbe, their answers gwlbe-b, where they are dropped as no_entry "
        '("10.0.1.0/24" = "gwlbe-b") [past_endpoint]'
    ) in said(topology)
    with run(topology) as harness:
        assert not FlowFactory(harness).tcp(80).opened
        assert ways(harness)[:2] == [
            "client igw igw gwlbe gwlb endpoints server",
            "server servers gwlbe-b gwlb no_entry",
        ]
    assert not [line for line in said(two_zones("gwlbe-b", "gwlbe-b")) if "no_entry" in line]


def test_from_subnet_to_subnet_through_an_endpoint_and_back() -> None:
    # A route that is more specific than local, which AWS has since 2021.
    def shop(public: str, instances: str) -> Topology:
        return changed(
            "inline-ids",
            ('public = { "0', f'public = {{ {public}"0'),
            ("instances = {}", f"instances = {{ {instances} }}"),
        )

    both = shop('"10.0.2.0/24" = "gwlbe-ids", ', '"10.0.1.0/24" = "gwlbe-ids"')
    assert said(both) == []
    with run(both) as harness:
        exchange = http_get(harness.hosts["client"], SITE, 80, "/", harness.now)
        harness.run()
        assert exchange.status == 200
        inner = [
            line
            for line in ways(harness)
            if line.startswith("alb public gwlbe-ids ids ids-endpoint web-")
        ]
        assert len(inner) == 3
        assert not harness.drops
    one = shop('"10.0.2.0/24" = "gwlbe-ids", ', "")
    (line,) = said(one)
    assert line == (
        "vpcs.shop.route_tables.instances: 10.0.0.0/16 -> local: packets from alb to web-1 pass "
        "gwlbe-ids, their answers go past it: appliances there see one side only, and answers to "
        "what web-1 opens are dropped as no_entry; so with 1 more pair of hosts "
        '("10.0.1.0/24" = "gwlbe-ids") [one_sided]'
    )
    other = shop("", '"10.0.1.0/24" = "gwlbe-ids"')
    (line,) = said(other)
    assert line.startswith(
        "vpcs.shop.route_tables.public: 10.0.0.0/16 -> local: packets from alb to web-1 go past "
        "gwlbe-ids, their answers through it, where they are dropped as no_entry"
    )
    with run(other) as harness:
        exchange = http_get(harness.hosts["client"], SITE, 80, "/", harness.now)
        harness.run()
        assert exchange.status == 504
        assert "web-1 instances gwlbe-ids ids no_entry" in ways(harness)


def test_two_zones_without_appliance_mode() -> None:
    topology = changed("transit", (", appliance_mode = true", ""))
    (line,) = said(topology)
    assert line == (
        "transit_gateways.tgw.attachments.inspection: appliance_mode is off, so that each "
        "direction keeps its zone: packets from web-a to api-b pass gwlbe-a, their answers "
        "gwlbe-b, where they are dropped as no_entry; so with 1 more pair of hosts "
        "(appliance_mode = true) [zones_apart]"
    )
    with run(topology) as harness:
        flows = FlowFactory(harness)
        assert flows.tcp(443, client="web-a", server="api-a").server_sends(b"in one zone")
        harness.trace.clear()
        assert not flows.tcp(443, client="web-a", server="api-b").opened
        assert ways(harness)[:2] == [
            "web-a shop-a tgw tgw-a gwlbe-a firewalls endpoint-a tgw data-tgw-a api-b",
            "api-b data-b tgw tgw-b gwlbe-b firewalls no_entry",
        ]
        assert last_words(harness, "no_entry").endswith(
            "Here the first packet went past gwlbe-b: appliance_mode is off, so that each "
            "direction keeps its zone (transit_gateways.tgw.attachments.inspection)."
        )


def test_one_vpc_is_led_past_the_inspection() -> None:
    topology = changed("transit", ('routes = "to-inspect" }\ndata', 'routes = "inspected" }\ndata'))
    (line,) = said(topology)
    assert line == (
        "transit_gateways.tgw.attachments.shop.routes: 10.2.0.0/16 -> data in inspected: packets "
        "from web-a to api-a go past gwlbe-a, their answers through it, where they are dropped as "
        "no_entry; so with 3 more pairs of hosts "
        '(a table with "10.2.0.0/16" = "inspection") [past_endpoint]'
    )
    with run(topology) as harness:
        flows = FlowFactory(harness)
        assert not flows.tcp(443, client="web-a", server="api-a").opened
        assert ways(harness)[0] == "web-a shop-a tgw data-tgw-a api-a"
        assert "10.2.0.0/16 -> data in inspected" in last_words(harness, "no_entry")
        assert flows.tcp(443, client="api-a", server="web-a").client_sends(b"one side is seen")


def test_no_route_leads_back() -> None:
    topology = changed("transit", ('"10.1.0.0/16" = "shop", ', ""))
    (line,) = said(topology)
    assert line == (
        "transit_gateways.tgw.route_tables.inspected: no route to web-a: packets from web-a reach "
        "api-a, its answers end at tgw; so with 3 more pairs of hosts "
        '("10.1.0.0/16" = "shop") [no_way_back]'
    )
    with run(topology) as harness:
        assert not FlowFactory(harness).tcp(443, client="web-a", server="api-a").opened
        assert re.match(
            r"api-a data-a tgw tgw-(.) gwlbe-\1 firewalls endpoint-\1 tgw no_route$",
            ways(harness)[1],
        )
    (line,) = said(changed("simple", (SERVERS, "servers = {}")))
    assert line == (
        "vpcs.vpc.route_tables.servers: no route to client: packets from client reach server, its "
        "answers end at servers (a route to it) [no_way_back]"
    )


def test_a_zone_without_attachment() -> None:
    topology = changed(
        "transit", ('subnets = ["shop-tgw-a", "shop-tgw-b"]', 'subnets = ["shop-tgw-a"]')
    )
    (line,) = said(topology)
    assert line == (
        "transit_gateways.tgw.attachments.shop.subnets: none is in zone b: packets from web-b to "
        "api-a are dropped as zone_not_attached; so with 1 more pair of hosts "
        "(add a subnet of zone b) [zone_not_attached]"
    )
    with run(topology) as harness:
        assert not FlowFactory(harness).tcp(443, client="web-b", server="api-a").opened
        assert ways(harness)[0] == "web-b shop-b tgw zone_not_attached"


def test_a_blackhole() -> None:
    topology = changed(
        "simple", (SERVERS, 'servers = { "0.0.0.0/0" = "blackhole", "::/0" = "gwlbe" }')
    )
    (line,) = said(topology)
    assert line == (
        "vpcs.vpc.route_tables.servers.0.0.0.0/0: its target is gone: packets to 0.0.0.0/0 are "
        "dropped as blackhole (lead it to what is there, or leave it out) [blackhole]"
    )
    with run(topology) as harness:
        assert not FlowFactory(harness).tcp(80).opened
        assert ways(harness)[1] == "server servers blackhole"


def overlapping() -> Topology:
    return changed("transit", ("10.2.", "10.1."), ('"10.1.0.0/16" = "shop", ', ""))


def test_vpcs_with_the_same_range_on_a_transit_gateway() -> None:
    topology = overlapping()
    assert said(topology) == [
        "transit_gateways.tgw.attachments.data: its 10.1.0.0/16 overlaps the 10.1.0.0/16 of shop: "
        "to each other they are local, and from elsewhere a route leads to one of them only "
        "(a range of its own, or an endpoint in each VPC instead) [overlap]"
    ]
    with run(topology) as harness:
        harness.hosts["web-a"].connect("10.1.2.10", 80, harness.now)
        harness.run()
        assert ways(harness)[0] == "web-a shop-a web-b"  # never api-b, who has the address too


def test_vpcs_with_the_same_range_behind_one_load_balancer() -> None:
    data = tomllib.loads((SHIPPED / "simple.toml").read_text())
    twin = {**data["vpcs"]["vpc"], "cidrs": ["10.0.0.0/16"]}
    twin = msgspec.json.decode(msgspec.json.encode(twin))
    for subnet in twin["subnets"].values():
        del subnet["cidrs"][1]
    twin["route_tables"]["edge"] = {"10.0.1.0/24": "gwlbe"}
    del twin["endpoints"]["gwlbe"]["id"]
    data["vpcs"]["twin"] = twin
    data["hosts"]["other"] = {
        "vpc": "twin",
        "subnet": "servers",
        "addresses": ["10.0.1.10"],
        "public": "198.51.100.20",
    }
    topology = msgspec.convert(data, Topology)
    assert said(topology) == []
    with run(topology) as harness:
        asked = [harness.hosts[name].udp(53) for name in ("server", "other")]
        for socket in asked:
            socket.handler = lambda socket, got: socket.reply(got, b"!")
        asking = harness.hosts["client"].udp(5300)
        asking.send_to("198.51.100.10", 53, b"?")
        asking.send_to("198.51.100.20", 53, b"?")
        harness.run()
        assert [len(socket.received) for socket in asked] == [1, 1]
        assert len(asking.received) == 2
        inner = {
            (packet.packet[12:28], hop.detail.split("cookie ")[1][:8])
            for packet in harness.trace
            for hop in packet.hops
            if hop.event == "encapsulated" and packet.hops[0].place == "client"
        }
        assert len({tuple_ for tuple_, _ in inner}) == 1
        assert len({cookie for _, cookie in inner}) == 2
        assert not harness.drops


def test_a_zone_without_target() -> None:
    topology = changed("transit", ('targets.fw-b.zone = "b"', 'targets.fw-b.zone = "a"'))
    (line,) = said(topology)
    assert line == (
        "gateways.firewalls.targets: none is in zone b, and cross-zone load balancing is off: what "
        "gwlbe-b takes in is dropped as no_target (a target in zone b, or "
        '"load_balancing.cross_zone.enabled" = true) [no_target_in_zone]'
    )
    with run(topology) as harness:
        for _ in range(8):
            harness.hosts["web-a"].connect("10.2.2.10", 9, harness.now)
        harness.run()
        fates = {re.sub("^.*(gwlbe-.) ", r"\1 ", line) for line in ways(harness) if "gwlbe" in line}
        assert {"gwlbe-b firewalls no_target"} < fates
    cross = (
        'load_balancer = { "load_balancing.cross_zone.enabled" = true }\ntargets.fw-b.zone = "a"'
    )
    assert said(changed("transit", ('targets.fw-b.zone = "b"', cross))) == []


def test_packets_over_the_limit() -> None:
    large = 'addresses = ["203.0.113.10"', 'mtu_bytes = 9001\naddresses = ["203.0.113.10"'
    topology = changed("simple", large, ("public =", "mtu_bytes = 9001\npublic ="))
    first, second = said(topology)
    assert first == (
        "hosts.client.mtu_bytes: packets from client to server can have 9001 bytes: over 8,500 "
        "they are dropped as too_big (at most 8500, or a TCP MSS of at most 8460) [mtu]"
    )
    assert second.startswith("hosts.server.mtu_bytes: packets from server to client can")
    with run(topology) as harness:
        flow = FlowFactory(harness).tcp(80)
        assert flow.client_sends(b"small packets pass")
        assert not flow.client_sends(bytes(20_000))
        assert last_words(harness, "too_big").startswith("too_big: 9001 bytes. Packets over 8,500")
    assert said(changed("simple", (large[0], large[1].replace("9001", "8500")))) == []


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        (
            "simple",
            ("port = 8080", "port = 6081"),
            "gateways.gwlb.health_check.port: 6081 is GENEVE's, over UDP: over TCP nobody answers, "
            "and targets stay unhealthy (the port where the appliance answers health checks) "
            "[health_port]",
        ),
        (
            "transit",
            (
                "health_check =",
                'target_group = { "stickiness.enabled" = true }\nhealth_check =',
            ),
            "gateways.firewalls.target_group.stickiness.enabled: AWS does not support it with "
            "transit_gateways.tgw.attachments.inspection.appliance_mode: flows of the same hosts "
            "come by different zones, to different targets "
            '("stickiness.enabled" = false) [stickiness]',
        ),
        (
            "transit",
            ('tgw-b = { "0.0.0.0/0" = "gwlbe-b" }', 'tgw-b = { "0.0.0.0/0" = "gwlbe-a" }'),
            "vpcs.inspection.endpoints.gwlbe-b: no route in use leads to it: nothing that it "
            'should see is inspected (such as "0.0.0.0/0" = "gwlbe-b" in the table of the hosts\' '
            "subnet) [unused_endpoint]",
        ),
    ],
)
def test_settings_that_cannot_work(name: str, change: tuple[str, str], line: str) -> None:
    assert said(changed(name, change)) == [line]


def test_the_appliance_sees_client_and_site_by_their_own_addresses() -> None:
    seen = set()

    def tap(at: float, way: str, source: Any, destination: Any, payload: bytes) -> None:
        inner = payload[parse_geneve(payload, 0, len(payload)).length :]
        headers = parse_packet(inner, 0, len(inner))
        seen.add(frozenset((headers.source, headers.destination)))

    with run(changed("inline-ids"), tap=tap) as harness:
        exchange = http_get(harness.hosts["client"], SITE, 80, "/", harness.now)
        harness.run()
        assert exchange.status == 200
    assert seen == {frozenset((bytes([203, 0, 113, 10]), bytes([10, 0, 1, 10])))}


def test_every_reason_of_routing_is_explained() -> None:
    folder = Path(network.__file__).parent
    modules = ("network.py", "router.py", "vpc.py", "routes.py")
    source = "".join((folder / name).read_text() for name in modules)
    assert [reason for reason in ROUTE_REASONS if f'"{reason}"' not in source] == []
    dropped = set(re.findall(r'(?:_drop\(transit, now, [^,]+, |dropped=)"(\w+)"', source))
    assert dropped - {"malformed"} <= set(ROUTE_REASONS)


def test_each_mistake_is_shown_by_a_test() -> None:
    text = Path(__file__).read_text()
    assert {name for name in MISTAKES if f"[{name}]" in text} == set(MISTAKES)
