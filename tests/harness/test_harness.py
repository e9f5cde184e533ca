"""The whole picture in memory: virtual time, one seed one trace, failover."""

from __future__ import annotations

import msgspec
import pytest

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import (
    Harness,
    InProcess,
    MemoryFleet,
    State,
    Topology,
    shipped_topology,
)
from appliance_sdk.harness.hosts import http_get
from appliance_sdk.testing.traffic import FlowFactory

SITE = "198.51.100.10"


class LetThrough(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.DONE


class NoTelnet(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        if flow.server_port == 23:
            return Verdict.REJECT.because("telnet is not allowed", rule="no-telnet")
        return Verdict.DONE


def memory(plugin: type[Appliance] = LetThrough, topology: Topology | None = None) -> Harness:
    return Harness(topology or shipped_topology("inline-ids"), MemoryFleet({"": InProcess(plugin)}))


def story(seed: int) -> str:
    """A page, a refusal, a ping, a crash: what is traced of it."""
    topology = msgspec.structs.replace(shipped_topology("inline-ids"), seed=seed)
    with memory(NoTelnet, topology) as harness:
        harness.wait_healthy()
        client = harness.hosts["client"]
        exchange = http_get(client, SITE, 80, "/", harness.now)
        client.connect(SITE, 23, harness.now)
        client.ping(SITE, harness.now)
        harness.run()
        assert exchange.status == 200
        harness.crash_target("fw-1")
        harness.advance(60)
        http_get(client, SITE, 80, "/", harness.now)
        harness.run()
        return harness.trace.text()


def test_one_seed_gives_one_trace_to_the_byte() -> None:
    first = story(7)
    assert first == story(7)
    assert first != story(8)
    assert "packet 1 " in first


def test_a_page_goes_through_both_endpoints_there_and_back() -> None:
    with memory() as harness:
        harness.wait_healthy()
        exchange = http_get(harness.hosts["client"], SITE, 80, "/", harness.now)
        assert harness.run()
        assert exchange.status == 200
        assert b"catagram.io, served by web-" in exchange.body
        through = [
            [hop.place for hop in packet.hops if hop.event == "returned"]
            for packet in harness.trace
            if "client" in (packet.hops[0].place, packet.hops[-1].place)
        ]
        assert len(through) >= 7  # a handshake, a request, an answer, their ends
        assert all(len(places) == 2 for places in through)
        assert {places[0] for places in through} <= {"fw-1", "fw-2", "ids-1"}
        assert not harness.drops


def test_350_seconds_take_no_time() -> None:
    with memory() as harness:
        harness.wait_healthy()
        connection = harness.hosts["client"].connect(SITE, 80, harness.now)
        harness.run()
        before = harness.now
        harness.advance(351)
        assert harness.now == pytest.approx(before + 351)
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        harness.run()
        assert connection.received == b""
        assert harness.gateways["firewalls"].drops["no_entry"] > 0
        last = [packet for packet in harness.trace if packet.hops[-1].event == "dropped"][-1]
        assert "Both directions must be routed through the same endpoint" in last.hops[-1].detail


def test_a_crash_moves_new_flows_and_leaves_the_old_ones() -> None:
    with memory() as harness:
        harness.wait_healthy()
        client = harness.hosts["client"]
        connections = [client.connect(SITE, 80, harness.now) for _ in range(20)]
        harness.run()
        firewalls = harness.gateways["firewalls"]
        pinned = {entry.key[3:]: entry.target.name for entry in firewalls.flows}
        assert set(pinned.values()) == {"fw-1", "fw-2"}
        harness.crash_target("fw-1")
        assert harness.run(lambda: harness.state("firewalls", "fw-1") is State.UNHEALTHY)
        assert harness.changes[-1].reason == "Target.FailedHealthChecks"
        for _ in range(20):
            client.connect(SITE, 80, harness.now)
        harness.run()
        assert firewalls.new_flows["fw-1"] == list(pinned.values()).count("fw-1")
        after = {entry.key[3:]: entry.target.name for entry in firewalls.flows}
        assert all(after[ports] == target for ports, target in pinned.items())
        for connection in connections:
            connection.send(b"GET / HTTP/1.1\r\n\r\n")
        harness.run()
        answered = sum(connection.received != b"" for connection in connections)
        assert answered == list(pinned.values()).count("fw-2")


def test_a_target_that_comes_later_takes_new_flows_only() -> None:
    with memory() as harness:
        harness.wait_healthy()
        client = harness.hosts["client"]
        for _ in range(10):
            client.connect(SITE, 80, harness.now)
        harness.run()
        firewalls = harness.gateways["firewalls"]
        before = {entry.cookie: entry.target.name for entry in firewalls.flows}
        harness.add_target("firewalls", "fw-3", "127.90.0.103", "a")
        harness.wait_healthy()
        for _ in range(20):
            client.connect(SITE, 80, harness.now)
        harness.run()
        assert firewalls.new_flows["fw-3"] > 0
        after = {entry.cookie: entry.target.name for entry in firewalls.flows}
        assert all(after[cookie] == target for cookie, target in before.items())


def test_what_an_appliance_keeps_and_what_it_makes_is_told_apart() -> None:
    with memory(NoTelnet) as harness:
        harness.wait_healthy()
        telnet = harness.hosts["client"].connect(SITE, 23, harness.now)
        harness.run()
        assert telnet.refused
        events = [[hop.event for hop in packet.hops] for packet in harness.trace]
        assert events[0][-1] == "kept"
        assert events[1][0] == "made"
        assert events[1][-1] == "delivered"


def test_wait_healthy_names_who_is_not() -> None:
    fleet = MemoryFleet({"": InProcess(LetThrough)})
    with Harness(shipped_topology("inline-ids"), fleet) as harness:
        fleet.unhealthy["fw-2"] = "Target.Timeout"
        with pytest.raises(HarnessError, match=r"not healthy after 120 s: fw-2 \(Target.Timeout\)"):
            harness.wait_healthy()


def test_mistakes_are_one_line() -> None:
    with pytest.raises(HarnessError, match="no appliance was given for target fw-2"):
        Harness(shipped_topology("inline-ids"), MemoryFleet({"fw-1": InProcess(LetThrough)}))
    with memory() as harness:
        with pytest.raises(HarnessError, match="no load balancer 'firewall'; known: firewalls"):
            harness.add_target("firewall", "fw-9", "127.90.0.109", "a")
        with pytest.raises(HarnessError, match=r"InvalidTarget: 8\.8\.8\.8 is public"):
            harness.add_target("firewalls", "fw-9", "8.8.8.8", "a")
        with pytest.raises(HarnessError, match="registered already"):
            harness.add_target("firewalls", "fw-1", "127.90.0.109", "a")
        with pytest.raises(HarnessError, match="is the address of target fw-1"):
            harness.add_target("firewalls", "fw-9", "127.90.0.101", "a")
    with pytest.raises(HarnessError, match="time factor"):
        Harness(shipped_topology("simple"), MemoryFleet({}), factor=0)


def test_events_of_each_appliance_are_kept_apart() -> None:
    fleet = MemoryFleet({"": InProcess(NoTelnet)})
    with Harness(shipped_topology("simple"), fleet) as harness:
        harness.wait_healthy()
        harness.hosts["client"].connect(SITE, 23, harness.now)
        harness.run()
    assert [type(event).__name__ for event in fleet.events["appliance-1"]] != []


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize(("client", "server"), [("client", "server"), ("server", "client")])
def test_in_and_out_over_every_protocol(client: str, server: str, ipv6: bool) -> None:
    with memory(topology=shipped_topology("simple")) as harness:
        harness.wait_healthy()
        flows = FlowFactory(harness)
        tcp = flows.tcp(443, client=client, server=server, ipv6=ipv6)
        data = bytes(range(256)) * 100
        assert tcp.client_sends(data)
        assert tcp.server_sends(data)
        assert (tcp.server_received, tcp.client_received) == (data, data)
        assert tcp.close()
        udp = flows.udp(53, client=client, server=server, ipv6=ipv6)
        assert udp.client_sends(b"question")
        assert udp.server_sends(b"answer")
        assert flows.ping(client=client, server=server, ipv6=ipv6).replies == 1
        sent = [p for p in harness.trace if p.hops[-1].event == "delivered"]
        assert all("returned" in [hop.event for hop in packet.hops] for packet in sent)
        assert not harness.drops


def test_what_nobody_answers_is_refused_by_the_host() -> None:
    with memory(topology=shipped_topology("simple")) as harness:
        harness.wait_healthy()
        client = harness.hosts["client"]
        closed = client.connect(SITE, 9999, harness.now)
        udp = client.udp()
        udp.send_to(SITE, 9999, b"anybody?")
        nobody = client.connect("198.51.100.77", 80, harness.now)
        harness.run()
        assert closed.refused
        assert udp.unreachable
        assert nobody.ended == "timeout"
        assert harness.drops["no_host"] == 3  # a SYN and two more


def test_a_node_is_replaced_and_its_flows_live_on() -> None:
    with Harness(shipped_topology("simple"), MemoryFleet({"": InProcess(LetThrough)})) as harness:
        harness.wait_healthy()
        web = FlowFactory(harness).tcp(80)
        assert web.client_sends(b"before")
        harness.replace_node("gwlb", "a", "127.90.0.31")
        assert web.client_sends(b"after")
        assert web.server_sends(b"too")
        assert not harness.drops
        assert "127.90.0.31:" in harness.trace.text()
        with pytest.raises(HarnessError, match="no zone 'z'; zones: a"):
            harness.replace_node("gwlb", "z", "127.90.0.32")
