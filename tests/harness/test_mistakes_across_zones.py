"""Mistakes over several zones or VPCs: what they do to packets, and what is said about them."""

from __future__ import annotations

import re

from topologies import EDGE, SERVERS, changed, last_words, run, said, ways

from appliance_sdk.harness import (
    Topology,
)
from appliance_sdk.testing.traffic import FlowFactory


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
