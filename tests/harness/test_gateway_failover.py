"""Failover of Gateway Load Balancer: health, deregistration, zones, and where flows go."""

from __future__ import annotations

import pytest
from gateway_transcript import (
    CLIENT,
    OTHER,
    REBALANCE,
    SERVER,
    Gateway,
    handshake,
    is_reset_to_sender,
    tcp,
    udp,
)

from appliance_sdk.harness import (
    Dropped,
)
from appliance_sdk.wire.packet import ACK, FIN, RST

FAILED = "Target.FailedHealthChecks"

# Health and failover.


def test_thresholds_and_reasons() -> None:
    gateway = Gateway()
    gateway.lb.register("new", "10.9.0.50", "a", 0.0)
    assert gateway.state("new") == "initial"
    gateway.probe("new", "", times=4)
    assert gateway.state("new") == "initial"
    gateway.probe("new", "")
    assert gateway.state("new") == "healthy"
    gateway.probe("new", "Target.Timeout")
    gateway.probe("new", "")
    gateway.probe("new", "Target.Timeout")
    assert gateway.state("new") == "healthy"
    gateway.probe("new", "Target.ResponseCodeMismatch")
    assert gateway.state("new") == "unhealthy"
    assert gateway.changes[-1].reason == "Target.ResponseCodeMismatch"
    gateway.probe("new", "", times=5)
    assert gateway.state("new") == "healthy"


def test_no_rebalance_keeps_flows_on_an_unhealthy_target() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target == first.target
    assert first.target not in {gateway.through(tcp(port=n)).target for n in range(1, 50)}


def test_rebalance_moves_flows_and_does_not_move_them_back() -> None:
    gateway = Gateway({"target_group": REBALANCE})
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    moved = gateway.through(tcp(ACK, seq=101, ack=901))
    assert moved.target != first.target
    assert moved.cookie == first.cookie
    former = gateway.back(first)
    assert isinstance(former, Dropped)
    assert former.reason == "wrong_target"
    gateway.probe(first.target.name, "", times=5)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target == moved.target


def test_failover_takes_effect_after_its_delay() -> None:
    settings = {"target_group": REBALANCE, "undocumented": {"failover_delay_s": 90}}
    gateway = Gateway(settings)
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target == first.target
    gateway.wait(91)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target != first.target


def test_reset_on_unhealthy_tells_the_sender_and_forgets_the_flow() -> None:
    gateway = Gateway({"target_group": {"send_tcp_reset.on_unhealthy.enabled": True}})
    first = handshake(gateway)
    question = gateway.through(udp())
    for target in {first.target.name, question.target.name}:
        gateway.probe(target, "Target.FailedHealthChecks", times=2)
    assert is_reset_to_sender(gateway.enter(tcp(ACK, seq=101, ack=901)), CLIENT)
    assert gateway.reason(tcp(ACK, to_server=False, seq=901, ack=101)) == "no_entry"
    assert gateway.through(udp()).target == question.target


@pytest.mark.parametrize("second_is_told", [False, True])
@pytest.mark.parametrize("listener_resets", [False, True])
def test_after_a_reset_the_second_end_has_no_flow(
    second_is_told: bool, listener_resets: bool
) -> None:
    gateway = Gateway(
        {
            "target_group": {"send_tcp_reset.on_unhealthy.enabled": True},
            "listener": {"send_tcp_reset.on_idle_timeout.enabled": listener_resets},
        }
    )
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    if second_is_told:  # the server sends first, and the client second
        assert is_reset_to_sender(gateway.enter(from_server()), SERVER)
        second, sender = from_client(), CLIENT
    else:
        assert is_reset_to_sender(gateway.enter(from_client()), CLIENT)
        second, sender = from_server(), SERVER
    outcome = gateway.enter(second)
    if listener_resets:
        assert is_reset_to_sender(outcome, sender)
    else:
        assert isinstance(outcome, Dropped)
        assert outcome.reason == "no_entry"
        assert outcome.detail == "the flow was reset by the load balancer 0.0 s ago"
    assert gateway.lb.metrics["TCP_ELB_Reset_Count"] == 1 + listener_resets


def test_nobody_answers_a_reset_with_a_reset() -> None:
    gateway = Gateway({"target_group": {"send_tcp_reset.on_unhealthy.enabled": True}})
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    assert gateway.reason(tcp(RST, seq=101)) == "no_entry"
    assert len(gateway.lb.flows) == 0


def test_a_new_connection_of_a_reset_flow_goes_to_a_healthy_target() -> None:
    gateway = Gateway({"target_group": {"send_tcp_reset.on_unhealthy.enabled": True}})
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    again = gateway.through(tcp(seq=7))
    assert again.target != first.target
    assert again.cookie != first.cookie


def test_resets_wait_for_the_failover_delay() -> None:
    gateway = Gateway(
        {
            "target_group": {"send_tcp_reset.on_unhealthy.enabled": True},
            "undocumented": {"failover_delay_s": 90},
        }
    )
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    gateway.wait(89)
    gateway.through(from_client())
    gateway.wait(2)
    assert is_reset_to_sender(gateway.enter(from_client()), CLIENT)


def test_a_target_that_recovers_in_time_resets_nothing() -> None:
    gateway = Gateway({"target_group": {"send_tcp_reset.on_unhealthy.enabled": True}})
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    gateway.probe(first.target.name, "", times=5)
    assert gateway.through(from_client()).cookie == first.cookie


def test_a_target_that_fails_its_checks_on_purpose_drains() -> None:
    gateway = Gateway()
    live = {port: handshake(gateway, port).target.name for port in range(1, 20)}
    gateway.probe("a-1", FAILED, times=2)
    assert {gateway.through(tcp(port=port)).target.name for port in range(100, 130)} == {"a-2"}
    for port, name in live.items():
        assert gateway.through(tcp(ACK, port=port, seq=101, ack=901)).target.name == name
        for flags, to_server in ((FIN | ACK, True), (FIN | ACK, False)):
            seq, ack = (101, 901) if to_server else (901, 102)
            gateway.through(tcp(flags, port=port, to_server=to_server, seq=seq, ack=ack))
        gateway.through(tcp(ACK, port=port, seq=102, ack=902))
    gateway.wait(3)
    assert {entry.target.name for entry in gateway.lb.flows} == {"a-2"}  # it may exit


def test_rebalance_moves_a_flow_of_an_unhealthy_target_also_when_there_is_only_udp() -> None:
    gateway = Gateway({"target_group": REBALANCE})
    first = gateway.through(udp())
    gateway.probe(first.target.name, FAILED, times=2)
    assert gateway.through(udp(to_server=False)).target != first.target


def test_with_nobody_healthy_rebalance_has_nowhere_to_move() -> None:
    gateway = Gateway({"target_group": REBALANCE})
    first = handshake(gateway)
    for name in ("a-1", "a-2"):
        gateway.probe(name, FAILED, times=2)
    assert gateway.through(from_client()).target == first.target
    other = {"a-1": "a-2", "a-2": "a-1"}[first.target.name]
    gateway.probe(other, "", times=5)
    assert gateway.through(from_client()).target.name == other


def test_with_no_delay_a_deregistered_target_is_unused_at_once() -> None:
    group = {"deregistration_delay.timeout_seconds": 0, **REBALANCE}
    gateway = Gateway({"target_group": group})
    first = handshake(gateway)
    gateway.lb.deregister(first.target.name, gateway.now)
    assert gateway.state(first.target.name) == "unused"
    assert gateway.through(from_client()).target != first.target


def from_client() -> bytes:
    return tcp(ACK, seq=101, ack=901)


def from_server() -> bytes:
    return tcp(ACK, to_server=False, seq=901, ack=101)


def test_all_unhealthy_fails_open_at_random_and_stays() -> None:
    gateway = Gateway()
    for name in ("a-1", "a-2", "b-1"):
        gateway.probe(name, "Target.FailedHealthChecks", times=2)
    targets = [gateway.through(tcp(port=n)).target.name for n in range(1, 101)]
    assert 25 < targets.count("a-1") < 75
    again = [gateway.through(tcp(port=n)).target.name for n in range(1, 101)]
    assert again == targets
    assert gateway.lb.gauges()["UnHealthyHostCount"] == 3


def test_a_new_target_gets_new_flows_only() -> None:
    gateway = Gateway()
    before = {n: gateway.through(tcp(port=n)).target for n in range(1, 50)}
    gateway.add("a-3", "10.9.0.23", "a")
    assert {n: gateway.through(tcp(port=n)).target for n in before} == before
    names = {gateway.through(tcp(port=n)).target.name for n in range(100, 150)}
    assert "a-3" in names


@pytest.mark.parametrize("rebalance", [False, True])
def test_deregistration_drains_and_then_leaves_or_moves(rebalance: bool) -> None:
    group = {"deregistration_delay.timeout_seconds": 60, **(REBALANCE if rebalance else {})}
    gateway = Gateway({"target_group": group})
    first = handshake(gateway)
    gateway.lb.deregister(first.target.name, gateway.now)
    assert gateway.state(first.target.name) == "draining"
    assert first.target not in {gateway.through(tcp(port=n)).target for n in range(1, 30)}
    gateway.wait(59)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target == first.target
    assert gateway.lb.next_deadline() == pytest.approx(60)
    gateway.wait(2)
    assert gateway.state(first.target.name) == "unused"
    later = gateway.through(tcp(ACK, seq=101, ack=901)).target
    assert (later != first.target) is rebalance


def test_reset_on_deregistration_waits_for_the_delay() -> None:
    group = {
        "deregistration_delay.timeout_seconds": 60,
        "send_tcp_reset.on_deregistration.enabled": True,
    }
    gateway = Gateway({"target_group": group})
    first = handshake(gateway)
    gateway.lb.deregister(first.target.name, gateway.now)
    gateway.through(tcp(ACK, seq=101, ack=901))
    gateway.wait(61)
    assert is_reset_to_sender(gateway.enter(tcp(ACK, seq=101, ack=901)), CLIENT)


def test_registering_again_while_draining_keeps_the_flows() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    target = first.target
    gateway.lb.deregister(target.name, gateway.now)
    gateway.lb.register(target.name, target.address, target.zone, gateway.now)
    assert gateway.state(target.name) == "initial"
    assert gateway.through(tcp(ACK, seq=101, ack=901)).cookie == first.cookie
    gateway.wait(301)
    assert gateway.state(target.name) == "initial"


def test_zones_are_on_their_own_unless_cross_zone_is_on() -> None:
    gateway = Gateway()
    gateway.probe("b-1", "Target.FailedHealthChecks", times=2)
    assert gateway.sent(tcp(), OTHER).target.name == "b-1"
    gateway.lb.deregister("b-1", gateway.now)
    assert gateway.reason(tcp(port=9), OTHER) == "no_target"
    crossed = Gateway({"load_balancer": {"load_balancing.cross_zone.enabled": True}})
    targets = {crossed.through(tcp(port=n), OTHER).target.zone for n in range(1, 50)}
    assert targets == {"a", "b"}
    sent = crossed.through(tcp(port=1), OTHER)
    assert sent.node == "10.9.1.11"
