"""A transit gateway between VPCs: zones, appliance mode, blackholes; each packet hop by hop."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.harness import Harness, InProcess, MemoryFleet, Topology, Transit
from appliance_sdk.harness.hosts import http_get
from appliance_sdk.testing.traffic import FlowFactory

TRANSIT = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies" / "transit.toml"


class LetThrough(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.DONE


def transit() -> dict[str, Any]:
    """The shipped `transit`, to be changed."""
    return tomllib.loads(TRANSIT.read_text())


def run(data: dict[str, Any]) -> Harness:
    topology = msgspec.convert(data, Topology)
    harness = Harness(topology, MemoryFleet({"": InProcess(LetThrough)}))
    harness.wait_healthy()
    return harness


def places(packet: Transit) -> list[str]:
    return [hop.place for hop in packet.hops if hop.event in ("sent", "routed", "delivered")]


def endpoints(packet: Transit) -> list[str]:
    return [hop.place for hop in packet.hops if hop.event == "endpoint"]


def test_from_one_spoke_to_the_other_through_the_inspection_vpc() -> None:
    with run(transit()) as harness:
        exchange = http_get(harness.hosts["web-a"], "10.2.1.10", 80, "/", harness.now)
        assert harness.run()
        assert exchange.body == b"served by api-a\n"
        there = next(iter(harness.trace))
        zone = endpoints(there)[0][-1]
        assert places(there) == [
            "web-a",
            "shop-a",
            "tgw",
            f"tgw-{zone}",
            f"endpoint-{zone}",
            "tgw",
            f"data-tgw-{zone}",
            "api-a",
        ]
        assert not harness.drops


def test_in_appliance_mode_a_flow_keeps_its_zone_both_ways() -> None:
    with run(transit()) as harness:
        flows = FlowFactory(harness)
        for number in range(24):
            flow = flows.tcp(8000 + number, client="web-a", server="api-b")
            assert flow.client_sends(b"there")
            assert flow.server_sends(b"and back")
            assert flow.close()
        assert flows.ping(client="web-b", server="api-a").replies == 1
        used: dict[frozenset[bytes], set[str]] = {}
        for packet in harness.trace:
            ends = frozenset(
                (
                    packet.first[12:16] + packet.first[20:22],
                    packet.first[16:20] + packet.first[22:24],
                )
            )
            used.setdefault(ends, set()).update(endpoints(packet))
        assert all(len(passed) == 1 for passed in used.values())
        assert {name for passed in used.values() for name in passed} == {"gwlbe-a", "gwlbe-b"}
        assert not harness.drops


def test_the_seed_decides_on_the_zones() -> None:
    def zones(seed: int) -> list[str]:
        with run({**transit(), "seed": seed}) as harness:
            for port in range(80, 96):
                harness.hosts["web-a"].connect("10.2.2.10", port, harness.now)
            harness.run()
            return [endpoints(packet)[0] for packet in harness.trace]

    assert zones(1) == zones(1)
    assert zones(1) != zones(2)


def test_without_appliance_mode_each_direction_stays_in_its_zone() -> None:
    data = transit()
    del data["transit_gateways"]["tgw"]["attachments"]["inspection"]["appliance_mode"]
    with run(data) as harness:
        within = http_get(harness.hosts["web-b"], "10.2.2.10", 80, "/", harness.now)
        harness.run()
        assert within.status == 200
        assert {name for p in harness.trace for name in endpoints(p)} == {"gwlbe-b"}
        harness.trace.clear()
        across = harness.hosts["web-a"].connect("10.2.2.10", 80, harness.now)
        harness.run()
        assert across.ended == "timeout"
        there, back = list(harness.trace)[:2]
        assert endpoints(there) == ["gwlbe-a"]
        assert endpoints(back) == ["gwlbe-b"]
        assert back.hops[-1].event == "dropped"
        assert back.hops[-1].detail.startswith("no_entry")


@pytest.mark.parametrize("appliance_mode", [False, True])
def test_a_zone_that_is_attached_on_one_side_only(appliance_mode: bool) -> None:
    # What comes from zone b gets through, by zone a; what is in zone b cannot leave.
    data = transit()
    attachments = data["transit_gateways"]["tgw"]["attachments"]
    attachments["inspection"].update(subnets=["tgw-a"], appliance_mode=appliance_mode)
    with run(data) as harness:
        reached = http_get(harness.hosts["web-b"], "10.2.2.10", 80, "/", harness.now)
        harness.run()
        assert reached.status == 200
        assert {name for p in harness.trace for name in endpoints(p)} == {"gwlbe-a"}
    attachments["shop"]["subnets"] = ["shop-tgw-a"]
    with run(data) as harness:
        harness.hosts["web-b"].connect("10.2.2.10", 80, harness.now)
        harness.run()
        last = next(iter(harness.trace)).hops[-1]
        assert (last.place, last.event) == ("tgw", "dropped")
        assert last.detail == "zone_not_attached: zone b of shop has no subnet that is attached"


def test_without_the_source_zone_each_direction_is_on_its_own() -> None:
    data = transit()
    zones = data["transit_gateways"]["tgw"]["attachments"]
    zones["inspection"]["appliance_mode"] = False
    for vpc in ("shop", "data"):
        data["vpcs"][vpc]["subnets"][f"{vpc}-tgw-a"]["zone"] = "c"
        data["vpcs"][vpc]["subnets"][f"{vpc}-a"]["zone"] = "c"
    with run(data) as harness:
        client = harness.hosts["web-a"]
        opened = [client.connect("10.2.1.10", 80, harness.now) for _ in range(32)]
        harness.run()
        through = sum(conn.ended != "timeout" for conn in opened)
        assert 0 < through < 32


def test_a_blackhole_of_the_transit_gateway_and_of_a_vpc() -> None:
    data = transit()
    data["transit_gateways"]["tgw"]["route_tables"]["inspected"]["10.2.2.0/24"] = "blackhole"
    with run(data) as harness:
        harness.hosts["web-a"].connect("10.2.2.10", 80, harness.now)
        harness.run()
        last = next(iter(harness.trace)).hops[-1]
        assert (last.place, last.event) == ("tgw", "dropped")
        assert last.detail == "blackhole: 10.2.2.0/24 -> blackhole (route table inspected)"
        allowed = http_get(harness.hosts["web-a"], "10.2.1.10", 80, "/", harness.now)
        harness.run()
        assert allowed.status == 200
    data["vpcs"]["shop"]["route_tables"]["out"]["10.2.0.0/16"] = "blackhole"
    with run(data) as harness:
        harness.hosts["web-a"].connect("10.2.1.10", 80, harness.now)
        harness.run()
        last = next(iter(harness.trace)).hops[-1]
        assert last.place == "shop-a"
        assert last.detail == "blackhole: 10.2.0.0/16 -> blackhole (route table out)"


def test_where_no_route_leads() -> None:
    data = transit()
    del data["transit_gateways"]["tgw"]["route_tables"]["inspected"]["10.2.0.0/16"]
    with run(data) as harness:
        harness.hosts["web-a"].connect("10.2.1.10", 80, harness.now)
        harness.run()
        last = next(iter(harness.trace)).hops[-1]
        assert last.detail == "no_route: no route (route table inspected)"


def test_an_endpoint_service_of_a_load_balancer_in_each_zone() -> None:
    data = transit()
    firewalls = data["gateways"].pop("firewalls")
    for zone in "ab":
        data["gateways"][f"gwlb-{zone}"] = {
            **firewalls,
            "zones": [zone],
            "targets": {f"fw-{zone}": {"zone": zone}},
        }
    data["endpoint_services"]["inspection"]["gateways"] = ["gwlb-a", "gwlb-b"]
    with run(data) as harness:
        flows = FlowFactory(harness)
        for number in range(8):
            assert flows.tcp(8000 + number, client="web-a", server="api-b").client_sends(b"x")
        by = {
            (hop.place, packet.hops[index + 1].place)
            for packet in harness.trace
            for index, hop in enumerate(packet.hops)
            if hop.event == "endpoint"
        }
        assert by == {("gwlbe-a", "gwlb-a"), ("gwlbe-b", "gwlb-b")}
        assert not harness.drops


def test_of_two_load_balancers_in_a_zone_the_first_serves() -> None:
    data = transit()
    data["gateways"]["second"] = {"zones": ["b"], "targets": {"s-1": {"zone": "b"}}}
    data["endpoint_services"]["inspection"]["gateways"] = ["second", "firewalls"]
    topology = msgspec.convert(data, Topology)
    assert topology.load_balancer("inspection", "gwlbe-a") == "firewalls"
    assert topology.load_balancer("inspection", "gwlbe-b") == "second"
