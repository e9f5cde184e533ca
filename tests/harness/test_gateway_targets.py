"""Targets of Gateway Load Balancer: who is taken, every state and every reason."""

from __future__ import annotations

import pytest
from gateway_transcript import OTHER, REBALANCE, Gateway, handshake, tcp

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import State, Target
from appliance_sdk.harness.checks import HealthChecks
from appliance_sdk.harness.states import REASON_CODES
from appliance_sdk.wire.packet import ACK

FAILED = "Target.FailedHealthChecks"


def health(gateway: Gateway, name: str) -> list[tuple[str, str, str]]:
    """Zone, state and reason of a target, for each zone that asks."""
    return [(h.zone, str(h.state), h.reason) for h in gateway.lb.targets.health(name)]


def test_every_state_and_reason_is_reached() -> None:
    gateway = Gateway()
    lb = gateway.lb
    for reason in REASON_CODES[State.UNHEALTHY]:
        gateway.probe("a-1", "", times=5)
        gateway.probe("a-1", reason, times=2)
    lb.deregister("b-1", gateway.now)
    gateway.wait(300)
    lb.register("c-1", "10.9.2.21", "c", gateway.now)
    for state in (State.UNUSED, State.UNAVAILABLE):
        for reason in REASON_CODES[state]:
            lb.report_health("a-2", state, reason, gateway.now)
    lb.report_health("a-2", State.INITIAL, "Elb.InitialHealthChecking", gateway.now)
    met = {(change.state, change.reason) for change in gateway.changes}
    assert met == {(state, reason) for state, reasons in REASON_CODES.items() for reason in reasons}
    for each in lb.targets.health():
        assert bool(each.description) is (each.state is not State.HEALTHY)


def test_a_target_in_a_zone_without_a_node_is_not_in_use() -> None:
    gateway = Gateway({"load_balancer": {"load_balancing.cross_zone.enabled": True}})
    gateway.lb.register("c-1", "10.9.2.21", "c", gateway.now)
    assert health(gateway, "c-1") == [("c", "unused", "Target.NotInUse")]
    assert "c-1" not in {target.name for _, target in gateway.lb.targets.checked()}
    assert "c-1" not in {gateway.sent(tcp(port=n)).target.name for n in range(1, 40)}
    gateway.lb.add_zone("c", "10.9.2.11", gateway.now)
    asked = {(zone, "initial", "Elb.InitialHealthChecking") for zone in "abc"}
    assert set(health(gateway, "c-1")) == asked
    gateway.probe("c-1", "", times=5)
    assert "c-1" in {gateway.sent(tcp(port=n)).target.name for n in range(50, 99)}
    with pytest.raises(HarnessError, match=r"zone c has a node already: 10\.9\.2\.11"):
        gateway.lb.add_zone("c", "10.9.2.12", gateway.now)


def test_who_is_not_registered_is_unused() -> None:
    gateway = Gateway()
    assert health(gateway, "nobody") == [("", "unused", "Target.NotRegistered")]
    gateway.lb.register("c-1", "10.9.2.21", "c", gateway.now)
    gateway.lb.deregister("c-1", gateway.now)  # nothing to drain
    assert health(gateway, "c-1") == [("c", "unused", "Target.NotRegistered")]
    with pytest.raises(HarnessError, match="no target 'nobody'; known: a-1, a-2, b-1, c-1"):
        gateway.lb.deregister("nobody", gateway.now)


def test_registering_takes_a_while() -> None:
    gateway = Gateway({"undocumented": {"registration_s": 120, "initial_targets": "always"}})
    gateway.lb.register("new", "10.9.0.50", "a", gateway.now)
    assert health(gateway, "new") == [("a", "initial", "Elb.RegistrationInProgress")]
    checks = HealthChecks("gwlb", gateway.lb)
    assert "new" not in {probe.target.name for probe in checks.due(gateway.now)}
    assert "new" not in {gateway.sent(tcp(port=n)).target.name for n in range(1, 40)}
    assert gateway.lb.next_deadline() == 120
    gateway.wait(120)
    assert health(gateway, "new") == [("a", "initial", "Elb.InitialHealthChecking")]
    assert "new" in {probe.target.name for probe in checks.due(gateway.now)}
    assert "new" in {gateway.sent(tcp(port=n)).target.name for n in range(50, 90)}


@pytest.mark.parametrize(
    ("when", "eligible"), [("never", False), ("fail_open", False), ("always", True)]
)
def test_whether_a_target_that_is_being_checked_gets_flows(when: str, eligible: bool) -> None:
    gateway = Gateway({"undocumented": {"initial_targets": when}})
    gateway.lb.register("new", "10.9.0.50", "a", gateway.now)
    names = {gateway.sent(tcp(port=n)).target.name for n in range(1, 60)}
    assert ("new" in names) is eligible
    gateway.lb.register("b-new", "10.9.1.50", "b", gateway.now)
    gateway.lb.deregister("b-1", gateway.now)
    if when == "never":
        assert gateway.reason(tcp(port=77), OTHER) == "no_target"
    else:
        assert gateway.sent(tcp(port=77), OTHER).target.name == "b-new"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("52.95.110.1", r"InvalidTarget: 52\.95\.110\.1 is public"),
        ("224.0.0.5", "InvalidTarget: .* is public"),
        ("fd00::5", "InvalidTarget: fd00::5 is IPv6: GENEVE comes over IPv4"),
        ("fw-1.local", "InvalidTarget: 'fw-1.local' is no IP address"),
        ("10.9.0.21", r"10\.9\.0\.21 is the address of target a-1"),
    ],
)
def test_addresses_that_are_not_taken(address: str, message: str) -> None:
    gateway = Gateway()
    with pytest.raises(HarnessError, match=message):
        gateway.lb.register("new", address, "a", gateway.now)
    assert "new" not in {target.name for target in gateway.lb.targets}


@pytest.mark.parametrize("address", ["172.16.0.5", "192.168.1.1", "100.64.0.9", "127.0.0.5"])
def test_addresses_that_are_taken(address: str) -> None:
    gateway = Gateway()
    gateway.lb.register("new", address, "a", gateway.now)
    assert gateway.lb.targets.at(address) == Target("new", address, "a")


def test_there_are_too_many_targets() -> None:
    gateway = Gateway({"max_targets": 4})
    gateway.lb.register("fourth", "10.9.0.50", "a", gateway.now)
    with pytest.raises(HarnessError, match="TooManyTargets: 4 are registered already"):
        gateway.lb.register("fifth", "10.9.0.51", "a", gateway.now)
    gateway.lb.deregister("fourth", gateway.now)
    gateway.lb.register("fifth", "10.9.0.51", "a", gateway.now)


def test_a_stopped_instance_is_unused_until_it_is_asked_again() -> None:
    gateway = Gateway({"target_group": REBALANCE})
    first = handshake(gateway)
    name = first.target.name
    gateway.lb.report_health(name, State.UNUSED, "Target.InvalidState", gateway.now)
    assert name not in {target.name for _, target in gateway.lb.targets.checked()}
    gateway.probe(name, "", times=9)
    assert gateway.state(name) == "unused"
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target != first.target
    gateway.lb.report_health(name, State.INITIAL, "Elb.InitialHealthChecking", gateway.now)
    gateway.probe(name, "", times=5)
    assert gateway.state(name) == "healthy"


def test_unavailable_health_moves_no_flow_and_gets_none() -> None:
    gateway = Gateway({"target_group": REBALANCE})
    first = handshake(gateway)
    name = first.target.name
    gateway.lb.report_health(name, State.UNAVAILABLE, "Elb.InternalError", gateway.now)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target == first.target
    assert name not in {gateway.sent(tcp(port=n)).target.name for n in range(1, 40)}


def test_one_zone_sees_what_another_does_not() -> None:
    gateway = Gateway({"load_balancer": {"load_balancing.cross_zone.enabled": True}})
    for _ in range(2):
        gateway.lb.probed("b-1", "a", FAILED, gateway.now)
    assert set(health(gateway, "b-1")) == {("a", "unhealthy", FAILED), ("b", "healthy", "")}
    assert "b-1" not in {gateway.sent(tcp(port=n)).target.name for n in range(1, 40)}
    assert "b-1" in {gateway.sent(tcp(port=n), OTHER).target.name for n in range(1, 40)}


def test_reasons_that_are_not_the_states_are_refused() -> None:
    gateway = Gateway()
    with pytest.raises(HarnessError, match=r"'Target.Timedout' is no reason for unhealthy \(did"):
        gateway.probe("a-1", "Target.Timedout")
    with pytest.raises(HarnessError, match=r"no reason for draining.*DeregistrationInProgress"):
        gateway.lb.report_health("a-1", State.DRAINING, FAILED, gateway.now)
    with pytest.raises(HarnessError, match="no zone 'b' asks a-1: a"):
        gateway.lb.report_health("a-1", State.UNHEALTHY, FAILED, gateway.now, "b")


def test_each_zone_sends_several_checks_at_once_and_the_majority_decides() -> None:
    gateway = Gateway(
        {
            "load_balancer": {"load_balancing.cross_zone.enabled": True},
            "probes": 3,
            "health_check": {"interval_s": 20, "unhealthy_threshold": 2},
        }
    )
    checks = HealthChecks("gwlb", gateway.lb)
    probes = [probe for probe in checks.due(0.0) if probe.target.name == "b-1"]
    assert sorted(probe.node for probe in probes) == ["10.9.0.11"] * 3 + ["10.9.1.11"] * 3
    assert checks.due(19.9) == []
    assert checks.next_deadline() == 20
    for now in (0.0, 20.0):
        round_ = probes if not now else checks.due(now)
        for number, probe in enumerate(p for p in round_ if p.target.name == "b-1"):
            lost = probe.zone == "a" and number != 0  # two of three
            checks.result(probe, "Target.Timeout" if lost else "", now)
    assert health(gateway, "b-1") == [("a", "unhealthy", "Target.Timeout"), ("b", "healthy", "")]
