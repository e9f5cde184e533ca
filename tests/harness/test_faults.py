"""What goes wrong on a link: each fault in exact numbers, since a seed decides; TCP survives it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.errors import ConfigError, HarnessError
from appliance_sdk.harness import (
    Fault,
    Faults,
    Harness,
    HealthCheck,
    InProcess,
    MemoryFleet,
    State,
    TargetPart,
    Topology,
    Transit,
    shipped_topology,
)
from appliance_sdk.testing.traffic import FlowFactory

DATA = bytes(number * 7 & 0xFF for number in range(100_000))
SERVER = "198.51.100.10"
TARGET = "appliance-1"


class LetThrough(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.DONE


def picture(seed: int = 0, *faults: Fault, **settings: Any) -> Topology:
    """`simple` with another seed, faults, or settings of its load balancer."""
    simple = shipped_topology("simple")
    gateway = msgspec.structs.replace(simple.gateways["gwlb"], **settings)
    return msgspec.structs.replace(simple, seed=seed, faults=faults, gateways={"gwlb": gateway})


def running(topology: Topology | None = None) -> Harness:
    fleet = MemoryFleet({"": InProcess(LetThrough)})
    return Harness(topology or picture(), fleet, trace_limit=100_000)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with running() as harness:
        harness.wait_healthy()
        yield harness


def pings(harness: Harness, count: int) -> int:
    """So many echo requests, one after the other; how many were answered."""
    answered = 0
    for _ in range(count):
        ping = harness.hosts["client"].ping(SERVER, harness.now)
        harness.run(timeout_s=2)
        answered += ping.replies > 0
    return answered


def with_hop(harness: Harness, event: str) -> list[Transit]:
    return [packet for packet in harness.trace if any(hop.event == event for hop in packet.hops)]


# -- in numbers: a seed decides about each packet ------------------------------


@pytest.mark.parametrize(
    ("fault", "count", "answered"),
    [
        ({"loss": 0.1}, 66, 134),
        ({"duplicate": 0.1}, 90, 200),
        ({"corrupt": 0.1}, 63, 143),
        ({"truncate": 0.1}, 58, 142),
        ({"delay_s": 0.02}, 800, 200),
    ],
)
def test_how_many_of_200_pings_meet_a_fault(
    harness: Harness, fault: dict[str, float], count: int, answered: int
) -> None:
    """Each of them passes the link four times."""
    harness.faults.set(TARGET, **fault)
    assert pings(harness, 200) == answered
    (name,) = fault
    assert harness.faults.counts == {TARGET: {name.removesuffix("_s"): count}}


def test_each_way_has_its_own_fault(harness: Harness) -> None:
    harness.faults.set(TARGET, loss=1, direction="from")
    assert pings(harness, 5) == 0
    places = {packet.hops[-1].place for packet in with_hop(harness, "lost")}
    assert places == {f"from {TARGET}"}
    harness.faults.set(TARGET, delay_s=0.01, direction="to")
    assert pings(harness, 5) == 0  # what is said of one way leaves the other
    harness.faults.set(TARGET, delay_s=0.01, direction="from")
    assert pings(harness, 5) == 5
    harness.faults.clear(TARGET)
    harness.trace.clear()
    assert pings(harness, 5) == 5
    assert not with_hop(harness, "delayed")


def test_a_delay_is_as_long_as_it_says_and_jitter_stays_around_it(harness: Harness) -> None:
    ping = harness.hosts["client"].ping(SERVER, harness.now)
    harness.run()
    usual = ping.rtt_s or 0
    harness.faults.set(TARGET, delay_s=0.05)
    ping = harness.hosts["client"].ping(SERVER, harness.now)
    harness.run()
    assert ping.rtt_s == pytest.approx(usual + 0.2)  # the appliance is passed four times
    harness.faults.set(TARGET, delay_s=0.05, jitter_s=0.02)
    pings(harness, 100)
    details = [h.detail for p in harness.trace for h in p.hops if h.event == "delayed"][4:]
    delays = [float(detail.split()[1]) for detail in details]
    assert min(delays) >= 30
    assert max(delays) <= 70
    assert max(delays) - min(delays) > 35


def test_reordering_lets_the_next_packet_pass_first(harness: Harness) -> None:
    flow = FlowFactory(harness).udp(53)
    harness.faults.set(TARGET, reorder=1, direction="to")
    for number in range(6):
        flow.client.send_to(SERVER, 53, bytes([number]))
    harness.run()
    assert flow.server_received == [bytes([n]) for n in (1, 0, 3, 2, 5, 4)]
    (first, *_) = with_hop(harness, "reordered")
    hop = next(hop for hop in first.hops if hop.event == "reordered")
    assert hop.detail == f"overtaken by packet {first.number + 1}"


def test_a_copy_is_a_packet_of_its_own_that_arrives_too(harness: Harness) -> None:
    flow = FlowFactory(harness).udp(53)
    harness.faults.set(TARGET, duplicate=1, direction="to")
    assert flow.client_sends(b"one")
    harness.run()
    assert flow.server_received == [b"one", b"one"]
    (copy,) = with_hop(harness, "duplicated")
    assert copy.hops[0].detail == f"a copy of packet {copy.number - 1}"
    assert copy.hops[-1].event == "delivered"


def test_a_flipped_bit_is_in_the_header_or_in_the_packet_and_is_told(harness: Harness) -> None:
    harness.faults.set(TARGET, corrupt=1)
    pings(harness, 60)
    places = [
        h.detail.split(" of the ")[1]
        for p in harness.trace
        for h in p.hops
        if h.event == "corrupted"
    ]
    assert set(places) == {"GENEVE header", "inner packet"}
    # Of those in the header most lead nowhere: another cookie, another endpoint.
    assert {"unknown_flow", "bad_geneve", "reply_tuple_mismatch"} <= set(harness.drops)
    damaged = harness.hosts["server"].dropped + harness.hosts["client"].dropped
    assert damaged["icmp_checksum"] > 0


@pytest.mark.parametrize("host", ["client", "server"])
def test_the_link_of_a_host_has_faults_too(harness: Harness, host: str) -> None:
    harness.faults.set(host, loss=0.5, direction="from")
    flow = FlowFactory(harness).tcp(80)
    assert flow.client_sends(DATA)
    assert flow.server_received == DATA
    assert harness.faults.counts[host]["loss"] > 10
    harness.faults.set(host, corrupt=1, direction="to")
    assert pings(harness, 60) == 0
    assert harness.hosts[host].dropped["icmp_checksum"] > 0
    harness.faults.clear(host)
    harness.faults.set(host, corrupt=1, direction="from")
    assert pings(harness, 60) == 0
    # A router looks at the header before it forwards.
    (first, *_) = [p for p in with_hop(harness, "dropped") if "malformed" in p.hops[-1].detail]
    assert first.hops[-1].detail == "malformed: ip_checksum"
    assert harness.drops["malformed"] > 0


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        ({"loss": 0.05}, 10),
        ({"duplicate": 0.1}, 20),
        ({"reorder": 0.1}, 10),
        ({"corrupt": 0.05}, 10),
        ({"truncate": 0.05}, 10),
        ({"delay_s": 0.03, "jitter_s": 0.03}, 100),
        ({"loss": 0.02, "duplicate": 0.05, "reorder": 0.05, "corrupt": 0.02, "delay_s": 0.01}, 100),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_tcp_gets_everything_across_all_the_same(
    harness: Harness, fault: dict[str, Any], least: int
) -> None:
    harness.faults.set(TARGET, **fault)
    flow = FlowFactory(harness).tcp(80)
    assert flow.client_sends(DATA)
    assert flow.server_received == DATA
    assert flow.server_sends(DATA)
    assert flow.client_received == DATA
    assert flow.close()
    assert harness.faults.counts[TARGET].total() >= least


# -- from a seed ---------------------------------------------------------------


def story(topology: Topology) -> str:
    with running(topology) as harness:
        harness.wait_healthy()
        FlowFactory(harness).tcp(80).client_sends(DATA[:20_000])
        return harness.trace.text()


ALL = Fault(
    on=TARGET, loss=0.05, duplicate=0.05, reorder=0.05, corrupt=0.05, truncate=0.05, jitter_s=0.01
)


def test_one_seed_gives_one_trace_to_the_byte() -> None:
    first = story(picture(7, ALL))
    assert first == story(picture(7, ALL))
    assert first != story(picture(8, ALL))
    assert "  lost " in first


def fates(faults: Faults, on: str, count: int = 200) -> list[Any]:
    return [faults.fate(on, "to", 1000) for _ in range(count)]


def one_link(seed: int = 1) -> Faults:
    return Faults(seed, lambda: ["client"], lambda: ["appliance-1", "appliance-2"])


def test_a_fault_on_one_link_changes_nothing_on_another() -> None:
    alone = one_link()
    alone.set("appliance-1", loss=0.3, corrupt=0.3)
    expected = fates(alone, "appliance-1")
    both = one_link()
    both.set("appliance-2", loss=0.3, corrupt=0.3)
    both.set("appliance-1", loss=0.3, corrupt=0.3)
    mixed = [
        (both.fate("appliance-1", "to", 1000), both.fate("appliance-2", "to", 1000))
        for _ in range(200)
    ]
    assert [fate for fate, _ in mixed] == expected
    assert [fate for _, fate in mixed] != expected
    assert fates(one_link_with(2, loss=0.3, corrupt=0.3), "appliance-1") != expected


def one_link_with(seed: int, **fault: Any) -> Faults:
    faults = one_link(seed)
    faults.set("appliance-1", **fault)
    return faults


def test_another_rate_changes_nothing_else() -> None:
    little = fates(one_link_with(1, loss=0.1, duplicate=0.2), "appliance-1")
    more = fates(one_link_with(1, loss=0.3, duplicate=0.2, corrupt=0.1), "appliance-1")
    for before, after in zip(little, more, strict=True):
        assert not before.lost or after.lost
        assert after.lost or before.duplicated == after.duplicated
    assert sum(bool(fate.lost) for fate in little) == 21
    assert sum(bool(fate.lost) for fate in more) == 56


# -- what is wrong with a target -----------------------------------------------


def unhealthy(harness: Harness) -> bool:
    return harness.state("gwlb", TARGET) is State.UNHEALTHY


def test_a_hung_target_times_out_and_what_waited_comes_when_it_goes_on(harness: Harness) -> None:
    harness.hang_target(TARGET)
    ping = harness.hosts["client"].ping(SERVER, harness.now)
    began = harness.now
    assert harness.run(lambda: unhealthy(harness))
    assert harness.changes[-1].reason == "Target.Timeout"
    assert harness.now - began <= 5 + 5 + 2  # two checks, the second waited out
    assert ping.replies == 0
    harness.resume_target(TARGET)
    harness.wait_healthy()
    harness.run()
    assert ping.replies == 1
    (packet,) = [p for p in harness.trace if p.hops[0].place == "client"]
    assert [hop.event for hop in packet.hops if hop.place == TARGET] == ["kept", "returned"]


def test_a_tcp_check_does_not_see_that_a_target_hangs() -> None:
    check = HealthCheck(protocol="TCP", port=8080, interval_s=5, timeout_s=2, healthy_threshold=2)
    with running(picture(health_check=check)) as harness:
        harness.wait_healthy()
        harness.hang_target(TARGET)
        harness.advance(60)
        assert harness.state("gwlb", TARGET) is State.HEALTHY
        assert pings(harness, 1) == 0


def test_what_waits_for_a_hung_target_is_bounded(harness: Harness) -> None:
    flow = FlowFactory(harness).udp(53)
    flow.client_sends(b"known")
    harness.hang_target(TARGET)
    for _ in range(400):
        flow.client.send_to(SERVER, 53, bytes(1000))
    harness.run()
    harness.resume_target(TARGET)
    harness.run(timeout_s=1)
    assert len(flow.server_received) == 1 + 200  # 212,992 bytes, as Linux has them by default


def test_a_deaf_target_stays_healthy_and_its_traffic_is_lost(harness: Harness) -> None:
    harness.deafen_target(TARGET)
    harness.advance(60)
    assert pings(harness, 3) == 0
    assert harness.state("gwlb", TARGET) is State.HEALTHY
    assert FlowFactory(harness).tcp(80).blocked
    lost = with_hop(harness, "lost")
    assert lost[0].hops[-1].detail == "the data path is dead"
    assert harness.faults.counts[TARGET]["loss"] == len(lost)
    assert not harness.drops
    harness.resume_target(TARGET)
    assert pings(harness, 3) == 3


def test_a_slow_target_answers_late_and_fails_only_checks_that_cannot_wait(
    harness: Harness,
) -> None:
    harness.slow_target(TARGET, 0.5)
    ping = harness.hosts["client"].ping(SERVER, harness.now)
    harness.advance(60)
    assert ping.rtt_s == pytest.approx(1.0104, abs=0.01)
    assert harness.state("gwlb", TARGET) is State.HEALTHY
    harness.slow_target(TARGET, 2)  # as long as the check's timeout
    assert harness.run(lambda: unhealthy(harness))
    assert harness.changes[-1].reason == "Target.Timeout"
    harness.resume_target(TARGET)
    harness.wait_healthy()
    assert pings(harness, 1) == 1


def test_a_killed_target_fails_its_checks() -> None:
    with running(picture(0, Fault(on=TARGET, kill=True, after_s=20))) as harness:
        harness.wait_healthy()
        assert pings(harness, 1) == 1
        assert harness.run(lambda: unhealthy(harness), 40)
        assert harness.now > 20
        assert harness.changes[-1].reason == "Target.FailedHealthChecks"


def test_faults_begin_and_end_when_they_say() -> None:
    faults = (
        Fault(on=TARGET, loss=1, after_s=10, for_s=10),
        Fault(on=TARGET, hang=True, after_s=30, for_s=30),
        Fault(on=TARGET, deaf=True, after_s=100, for_s=10),
        Fault(on="client", delay_s=0.1, after_s=120),
    )
    with running(picture(0, *faults)) as harness:
        harness.wait_healthy()
        heard = []
        for at in (5, 15, 25, 32, 90, 105, 115):
            harness.advance(at - harness.now)
            heard.append(pings(harness, 1))
        assert heard == [1, 0, 1, 0, 1, 0, 1]
        harness.advance(125 - harness.now)
        assert pings(harness, 1) == 1
        assert harness.faults.counts["client"]["delay"] == 2


def test_the_end_of_a_fault_leaves_what_took_its_place(harness: Harness) -> None:
    harness.schedule(Fault(on=TARGET, loss=0.5, for_s=10))
    harness.faults.set(TARGET, loss=1)
    harness.advance(20)
    assert pings(harness, 3) == 0


def test_flows_move_away_from_a_target_that_hangs() -> None:
    targets = {"one": TargetPart(zone="a"), "two": TargetPart(zone="a")}
    topology = picture(0, Fault(on="one", hang=True, after_s=30), targets=targets)
    with running(topology) as harness:
        harness.wait_healthy()
        harness.run(lambda: harness.state("gwlb", "one") is State.UNHEALTHY, 60)
        flows = FlowFactory(harness)
        assert all(flows.tcp(80).client_sends(b"hello") for _ in range(5))


# -- mistakes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"on": "aplliance-1", "loss": 0.1}, r"on: no target or host 'aplliance-1' \(did you mean"),
        ({"on": TARGET, "lost": 0.1}, r"unknown key `lost` \(did you mean `loss`\?\)"),
        ({"on": TARGET, "loss": 10}, "loss: 10 is no rate from 0 to 1"),
        ({"on": TARGET, "delay_s": -1}, "delay_s: -1 is no time"),
        ({"on": TARGET, "loss": "much"}, "loss: expected `float`, got `str`"),
        ({"on": TARGET, "loss": 1, "direction": "up"}, "direction: invalid enum value 'up'"),
        ({"on": TARGET}, "says nothing that goes wrong"),
        ({"on": "client", "deaf": True}, "deaf: client is a host"),
        ({"on": TARGET, "hang": True}, r"hang: is not about packets \(use Harness\.schedule"),
        ({"on": TARGET, "loss": 1, "for_s": 5}, "for_s: is not about packets"),
    ],
)
def test_a_fault_that_cannot_be_is_one_line(
    harness: Harness, fault: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        harness.faults.set(**fault)
    assert "\n" not in str(caught.value)


def test_what_is_scheduled_is_checked_before_its_time(harness: Harness) -> None:
    with pytest.raises(ConfigError, match="for_s: what was killed does not come back"):
        harness.schedule(Fault(on=TARGET, kill=True, after_s=5, for_s=5))
    with pytest.raises(ConfigError, match="hang: client is a host"):
        harness.schedule(Fault(on="client", hang=True, after_s=5))


def test_a_target_that_is_not_there_is_named(harness: Harness) -> None:
    with pytest.raises(HarnessError, match=r"no target 'appliance-2' \(did you mean"):
        harness.hang_target("appliance-2")
    with pytest.raises(HarnessError, match="no target 'client'"):
        harness.resume_target("client")
