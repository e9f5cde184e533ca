"""Mistakes that AWS takes, in what is not a route table; none goes without a test."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from topologies import SHIPPED, changed, last_words, run, said, ways

from appliance_sdk.harness import (
    MISTAKES,
    ROUTE_REASONS,
    Topology,
    network,
)
from appliance_sdk.harness.hosts import http_get
from appliance_sdk.testing.traffic import FlowFactory
from appliance_sdk.wire import parse_geneve, parse_packet

SITE = "198.51.100.10"


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
    files = Path(__file__).parent.glob("test_mistakes*.py")
    text = "".join(file.read_text() for file in files)
    assert {name for name in MISTAKES if f"[{name}]" in text} == set(MISTAKES)
