"""Mistakes in one VPC's route tables: what they do to packets, and what is said about them."""

from __future__ import annotations

import pytest
from topologies import EDGE, SERVERS, changed, last_words, run, said, way, ways

from appliance_sdk.harness import (
    Topology,
)
from appliance_sdk.harness.hosts import http_get
from appliance_sdk.testing.traffic import FlowFactory

SITE = "198.51.100.10"


@pytest.mark.parametrize("name", ["simple", "inline-ids", "transit"])
def test_of_what_is_shipped_there_is_nothing_to_say(name: str) -> None:
    assert said(changed(name)) == []


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


def test_answers_straight_to_the_gateway_are_seen_by_nobody() -> None:
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
