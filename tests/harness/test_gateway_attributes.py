"""Attributes of the load balancer: what AWS refuses, and what changes while it runs."""

from __future__ import annotations

import pytest
from gateway_transcript import CLIENT, OTHER, REBALANCE, Gateway, handshake, is_reset_to_sender, tcp

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness import GatewayLoadBalancer, GatewaySettings, HealthCheck, Topology
from appliance_sdk.harness.checks import HealthChecks
from appliance_sdk.wire.packet import ACK, SYN

FAILED = "Target.FailedHealthChecks"
COMBINED, INVALID = "InvalidConfigurationRequest: .*", "ValidationError: .*"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"target_group": {"target_failover.on_unhealthy": "rebalance"}},
            COMBINED + "AWS takes only equal",
        ),
        (
            {
                "target_group": {
                    "stickiness.enabled": True,
                    "send_tcp_reset.on_unhealthy.enabled": True,
                }
            },
            "send_tcp_reset.on_unhealthy.enabled: " + COMBINED + "needs 5-tuple flows",
        ),
        (
            {"target_group": {**REBALANCE, "send_tcp_reset.on_deregistration.enabled": True}},
            "send_tcp_reset.on_deregistration.enabled: " + COMBINED + "exclude each other",
        ),
        (
            {
                "target_group": {"stickiness.enabled": True},
                "listener": {"tcp.idle_timeout.seconds": 600},
            },
            COMBINED + "5-tuple flows only",
        ),
        (
            {
                "target_group": {"stickiness.enabled": True},
                "listener": {"send_tcp_reset.on_idle_timeout.enabled": True},
            },
            COMBINED + "5-tuple flows",
        ),
        ({"listener": {"tcp.idle_timeout.seconds": 59}}, INVALID + "59 is not in 60 to 6000"),
        ({"listener": {"tcp.idle_timeout.seconds": 6001}}, INVALID + "6001 is not in 60 to 6000"),
        ({"target_group": {"deregistration_delay.timeout_seconds": 3601}}, INVALID + "0 to 3600"),
        ({"target_group": {"deregistration_delay.timeout_seconds": -1}}, INVALID + "0 to 3600"),
        ({"health_check": {"enabled": False}}, INVALID + "must be true"),
        ({"health_check": {"interval_s": 4}}, INVALID + "5 to 300"),
        ({"health_check": {"interval_s": 301}}, INVALID + "5 to 300"),
        ({"health_check": {"interval_s": float("nan")}}, INVALID + "5 to 300"),
        ({"health_check": {"interval_s": 10, "timeout_s": 11}}, INVALID + "less than timeout_s"),
        ({"health_check": {"timeout_s": 1}}, INVALID + "2 to 120"),
        ({"health_check": {"timeout_s": 121, "interval_s": 121}}, INVALID + "2 to 120"),
        ({"health_check": {"healthy_threshold": 1}}, INVALID + "2 to 10"),
        ({"health_check": {"unhealthy_threshold": 11}}, INVALID + "2 to 10"),
        ({"health_check": {"port": 0}}, INVALID + "1 to 65535"),
        ({"health_check": {"path": "health"}}, INVALID + "no path"),
        ({"health_check": {"path": "/" + "x" * 1024}}, INVALID + "no path"),
        ({"health_check": {"matcher": "200-404"}}, INVALID + "within 200 to 399"),
        ({"health_check": {"matcher": "302-200"}}, INVALID + "within 200 to 399"),
        ({"health_check": {"matcher": "ok"}}, INVALID + "no list of HTTP codes"),
        ({"health_check": {"matcher": "²00"}}, INVALID + "no list of HTTP codes"),
        ({"source_ports": [9, 5]}, "no range of ports"),
        ({"probes": 17}, "1 to 16"),
        ({"max_targets": 0}, "at least 1"),
        ({"attachment_id": -1}, "64 bits"),
        ({"undocumented": {"close_linger_s": -1}}, "undocumented.close_linger_s: .*negative"),
        ({"undocumented": {"first_answer_s": float("nan")}}, "first_answer_s: .*negative"),
        ({"undocumented": {"ingress_limit_bytes": 80}}, "576 to 65535"),
        ({"undocumented": {"port_kept_packets": -1}}, "negative"),
        ({"undocumented": {"initial_successes": 11}}, "0 to 10"),
        ({"undocumented": {"probe_user_agent": "a\r\nb"}}, "no header value"),
    ],
)
def test_what_aws_refuses_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gateway(settings)


def test_the_ends_of_each_range_are_taken() -> None:
    for idle_s in (60, 6000):
        Gateway({"listener": {"tcp.idle_timeout.seconds": idle_s}})
    for delay_s in (0, 3600):
        Gateway({"target_group": {"deregistration_delay.timeout_seconds": delay_s}})
    Gateway({"health_check": {"interval_s": 5, "timeout_s": 2, "healthy_threshold": 2}})
    Gateway({"health_check": {"interval_s": 300, "timeout_s": 120, "unhealthy_threshold": 10}})


def test_the_defaults_are_those_of_gateway_load_balancers() -> None:
    check = HealthCheck()
    assert (check.protocol, check.port, check.path, check.matcher) == ("TCP", 80, "/", "200-399")
    assert (check.interval_s, check.timeout_s) == (10, 5)
    assert (check.healthy_threshold, check.unhealthy_threshold) == (5, 2)
    settings = GatewaySettings()
    assert settings.listener.tcp_idle_timeout_s == 350
    assert settings.target_group.deregistration_delay_s == 300
    assert not settings.target_group.rebalance
    assert not settings.load_balancer.cross_zone


def test_in_a_file_the_key_path_is_said(tmp_path: object) -> None:
    path = f"{tmp_path}/topology.toml"
    with open(path, "w") as file:
        file.write(
            "[gateways.fw.target_group]\n"
            '"target_failover.on_unhealthy" = "rebalance"\n'
            "[vpcs]\n[hosts]\n"
        )
    with pytest.raises(ConfigError) as caught:
        Topology.read(path)
    assert str(caught.value) == (
        f"{path}: gateways.fw.target_group.target_failover.on_unhealthy: "
        "InvalidConfigurationRequest: target_failover.on_deregistration and .on_unhealthy differ "
        "(AWS takes only equal values)"
    )


def test_failover_changes_for_live_flows() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target == first.target
    gateway.lb.modify_target_group_attributes(REBALANCE, gateway.now)
    assert gateway.through(tcp(ACK, seq=101, ack=901)).target != first.target


def test_values_may_be_text_as_in_the_api() -> None:
    gateway = Gateway()
    lb = gateway.lb
    lb.modify_target_group_attributes({"deregistration_delay.timeout_seconds": "20"}, 0.0)
    lb.modify_target_group_attributes({"send_tcp_reset.on_deregistration.enabled": "true"}, 0.0)
    first = handshake(gateway)
    lb.deregister(first.target.name, 0.0)
    assert lb.next_deadline() == 20
    gateway.wait(21)
    assert is_reset_to_sender(gateway.enter(tcp(ACK, seq=101, ack=901)), CLIENT)


def test_a_shorter_deregistration_delay_is_for_those_who_drain_already() -> None:
    gateway = Gateway()
    gateway.lb.deregister("a-1", gateway.now)
    assert gateway.lb.next_deadline() == 300
    wanted = {"deregistration_delay.timeout_seconds": 10}
    gateway.lb.modify_target_group_attributes(wanted, gateway.now)
    assert gateway.lb.next_deadline() == 10
    gateway.wait(10)
    assert gateway.state("a-1") == "unused"


def test_the_listener_changes() -> None:
    gateway = Gateway()
    handshake(gateway)
    gateway.lb.modify_listener_attributes({"tcp.idle_timeout.seconds": 6000}, gateway.now)
    gateway.through(tcp(port=2))
    gateway.wait(351)
    assert gateway.reason(tcp(ACK, seq=101, ack=901)) == "no_entry"
    assert gateway.lb.next_deadline() == 6000
    gateway.lb.modify_listener_attributes(
        {"send_tcp_reset.on_idle_timeout.enabled": True}, gateway.now
    )
    assert is_reset_to_sender(gateway.enter(tcp(ACK, seq=101, ack=901)), CLIENT)


@pytest.mark.parametrize("seconds", [60, 6000])
def test_a_new_idle_timeout_may_be_for_live_flows_too(seconds: int) -> None:
    gateway = Gateway({"undocumented": {"idle_timeout_change": "all_flows"}})
    handshake(gateway)
    gateway.wait(30)
    gateway.lb.modify_listener_attributes({"tcp.idle_timeout.seconds": seconds}, gateway.now)
    assert gateway.lb.next_deadline() == seconds
    gateway.wait(seconds - 30.5)
    assert len(gateway.lb.flows) == 1
    gateway.wait(1)
    assert len(gateway.lb.flows) == 0


def test_cross_zone_is_turned_on_and_off() -> None:
    gateway = Gateway()
    assert {gateway.through(tcp(port=n), OTHER).target.name for n in range(1, 30)} == {"b-1"}
    on = {"load_balancing.cross_zone.enabled": True}
    gateway.lb.modify_load_balancer_attributes(on, gateway.now)
    assert gateway.state("a-1", "b") == "initial"
    assert gateway.changes[-1].reason == "Elb.InitialHealthChecking"
    for name in ("a-1", "a-2"):
        gateway.probe(name, "", times=5)
    zones = {gateway.through(tcp(port=n), OTHER).target.zone for n in range(100, 130)}
    assert zones == {"a", "b"}
    off = {"load_balancing.cross_zone.enabled": False}
    gateway.lb.modify_load_balancer_attributes(off, gateway.now)
    assert {gateway.through(tcp(port=n), OTHER).target.name for n in range(200, 230)} == {"b-1"}


def test_stickiness_is_changed_with_live_flows() -> None:
    gateway = Gateway()
    before = {n: gateway.through(tcp(port=n)).target for n in range(1, 20)}
    gateway.lb.modify_target_group_attributes({"stickiness.enabled": True}, gateway.now)
    assert {n: gateway.through(tcp(port=n)).target for n in before} == before
    assert len({gateway.through(tcp(port=n)).target for n in range(100, 130)}) == 1
    gateway.wait(351)
    assert len(gateway.lb.flows) == 0


def test_the_health_check_changes() -> None:
    gateway = Gateway()
    gateway.lb.modify_health_check({"unhealthy_threshold": 3, "port": 8080}, gateway.now)
    gateway.probe("a-1", FAILED, times=2)
    assert gateway.state("a-1") == "healthy"
    gateway.probe("a-1", FAILED)
    assert gateway.state("a-1") == "unhealthy"
    assert HealthChecks("gwlb", gateway.lb).due(0.0)[0].check.port == 8080


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"target_failover.on_unhealty": "rebalance"},
            "ValidationError: Target group attribute key 'target_failover.on_unhealty' is not "
            "recognized (did you mean `target_failover.on_unhealthy`?)",
        ),
        (
            {"preserve_client_ip.enabled": True},
            "ValidationError: Target group attribute key 'preserve_client_ip.enabled' is not "
            "recognized (Network Load Balancers have it, Gateway Load Balancers do not)",
        ),
        (
            {"deregistration_delay.timeout_seconds": "soon"},
            "deregistration_delay.timeout_seconds: ValidationError: 'soon' is no value for it "
            "(expected `int`, got `str`)",
        ),
        (
            {"stickiness.type": "source_ip"},
            "stickiness.type: ValidationError: 'source_ip' is no value for it (invalid enum value "
            "'source_ip')",
        ),
        (
            {"deregistration_delay.timeout_seconds": 9999},
            "target_group.deregistration_delay.timeout_seconds: ValidationError: 9999 is not in 0 "
            "to 3600",
        ),
    ],
)
def test_all_or_none_and_one_line(attributes: dict[str, object], message: str) -> None:
    gateway = Gateway()
    wanted = {"stickiness.enabled": True, **attributes}
    before = gateway.lb.settings
    with pytest.raises(ConfigError) as caught:
        gateway.lb.modify_target_group_attributes(wanted, gateway.now)
    assert str(caught.value) == message
    assert gateway.lb.settings == before
    gateway.through(tcp(SYN))


def test_the_other_two_say_whose_key_it_is() -> None:
    lb = GatewayLoadBalancer({"a": "10.9.0.11"})
    with pytest.raises(ConfigError, match="Listener attribute key 'idle_timeout'"):
        lb.modify_listener_attributes({"idle_timeout": 5}, 0.0)
    with pytest.raises(ConfigError, match=r"Load balancer attribute key .zonal_shift\.config"):
        lb.modify_load_balancer_attributes({"zonal_shift.config.enabled": True}, 0.0)
    with pytest.raises(ConfigError, match=r"Health check key .intervall_s.*`interval_s`"):
        lb.modify_health_check({"intervall_s": 5}, 0.0)
    with pytest.raises(ConfigError, match="InvalidConfigurationRequest"):
        lb.modify_target_group_attributes({"target_failover.on_unhealthy": "rebalance"}, 0.0)
