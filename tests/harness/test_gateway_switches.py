"""What AWS does not document: every switch has an effect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gateway_transcript import (
    CLIENT,
    ONE,
    OTHER,
    REBALANCE,
    SERVER,
    Gateway,
    handshake,
    tcp,
    udp,
)

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness import Undocumented
from appliance_sdk.harness.checks import HealthChecks
from appliance_sdk.wire import build_icmp, build_ip, fragment_packet
from appliance_sdk.wire.geneve import build_geneve, parse_endpoint
from appliance_sdk.wire.packet import ACK, RST, SYN


def reply_from_another_port(gateway: Gateway) -> object:
    sent = gateway.sent(tcp())
    return gateway.back(sent, source=(sent.target.address, sent.source_port ^ 1))


def reply_to_another_node(gateway: Gateway) -> object:
    return gateway.back(gateway.sent(tcp()), destination=("10.9.1.11", 6081))


def reply_with_another_attachment(gateway: Gateway) -> object:
    sent = gateway.sent(tcp())
    header = build_geneve(parse_endpoint(ONE), sent.cookie, attachment_id=5)
    return gateway.back(sent, header + tcp())


def icmp_error_in_the_flow(gateway: Gateway) -> object:
    sent = gateway.sent(udp())
    error = build_icmp(SERVER, CLIENT, 3, 1, bytes(4) + udp())
    return gateway.back(sent, sent.payload[:40] + error)


def reply_of_the_former_target(gateway: Gateway) -> object:
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    gateway.through(tcp(ACK, seq=101, ack=901))
    return gateway.back(first)


def fragment_enters(gateway: Gateway) -> object:
    whole = build_ip(CLIENT, SERVER, 17, bytes(2000), identification=7)
    return gateway.enter(fragment_packet(whole, 576)[0])


def large_packet_enters(gateway: Gateway) -> object:
    return gateway.enter(build_ip(CLIENT, SERVER, 17, bytes(8600)))


def packet_after_a_reset(gateway: Gateway) -> object:
    handshake(gateway)
    gateway.through(tcp(RST, seq=101))
    gateway.wait(5)
    return gateway.enter(tcp(ACK, seq=101, ack=901))


def first_packet_kept_for_a_minute(gateway: Gateway) -> object:
    sent = gateway.sent(tcp())
    gateway.wait(60)
    return gateway.back(sent)


def one_good_answer(gateway: Gateway) -> object:
    gateway.lb.register("new", "10.9.0.50", "a", 0.0)
    gateway.probe("new", "")
    return gateway.state("new")


def nothing_but_a_new_target(gateway: Gateway) -> object:
    gateway.lb.deregister("b-1", 0.0)
    gateway.lb.register("new", "10.9.1.50", "b", 0.0)
    return gateway.enter(tcp(), OTHER)


def midstream_packet_enters(gateway: Gateway) -> object:
    return gateway.enter(tcp(ACK))


def packet_after_a_failure(gateway: Gateway) -> object:
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    return gateway.sent(tcp(ACK, seq=101, ack=901)).target != first.target


def reply_of_another_protocol_type(gateway: Gateway) -> object:
    sent = gateway.sent(tcp())
    return gateway.back(sent, sent.payload[:2] + b"\x86\xdd" + sent.payload[4:])


def reply_with_another_tuple(gateway: Gateway) -> object:
    sent = gateway.sent(tcp())
    return gateway.back(sent, sent.payload[:40] + tcp(port=4))


def reset_made_by_the_target(gateway: Gateway) -> object:
    sent = handshake(gateway)
    return gateway.back(sent, sent.payload[:40] + tcp(RST, to_server=False, seq=901))


def answer_behind_destination_options(gateway: Gateway) -> object:
    """The flow of a packet with an extension header, and of one of the same ports without."""
    client, server = CLIENT.rjust(16, b"\xfd"), SERVER.rjust(16, b"\xfd")
    segment = b"\x03\xe8\x00\x50" + bytes(8) + b"\x50\x02" + bytes(6)
    behind = build_ip(client, server, 60, b"\x06\0\x01\x04\0\0\0\0" + segment)
    one = gateway.through(behind).cookie
    return one == gateway.sent(build_ip(client, server, 6, segment)).cookie


def other_end_answers_after_a_minute(gateway: Gateway) -> object:
    gateway.through(tcp())
    gateway.wait(60)
    return gateway.enter(tcp(SYN | ACK, to_server=False, seq=900, ack=101))


def idle_timeout_is_shortened(gateway: Gateway) -> object:
    handshake(gateway)
    gateway.lb.modify_listener_attributes({"tcp.idle_timeout.seconds": 60}, gateway.now)
    gateway.wait(61)
    return len(gateway.lb.flows)


def cookies_of_two_that_stay_together(gateway: Gateway) -> object:
    return len({gateway.through(tcp(port=n)).cookie for n in (1, 2)})


def cookie_after_a_failure(gateway: Gateway) -> object:
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    return gateway.through(tcp(ACK, seq=101, ack=901)).cookie == first.cookie


def port_of_a_long_flow(gateway: Gateway) -> object:
    return len({gateway.through(tcp()).source_port for _ in range(9)})


def header_of_a_packet(gateway: Gateway) -> object:
    return gateway.through(tcp()).payload[:-40]


def new_target_gets_flows_before_its_checks(gateway: Gateway) -> object:
    gateway.lb.register("new", "10.9.0.50", "a", 0.0)
    return "new" in {gateway.sent(tcp(port=n)).target.name for n in range(1, 40)}


def reason_of_a_new_target(gateway: Gateway) -> object:
    gateway.lb.register("new", "10.9.0.50", "a", 0.0)
    return gateway.lb.targets.health("new")[0].reason


def a_target_is_added(gateway: Gateway) -> object:
    before = {n: gateway.through(tcp(port=n)).target for n in range(1, 40)}
    gateway.add("a-3", "10.9.0.23", "a")
    return {n: gateway.through(tcp(port=n)).target for n in before} == before


def resets_are_asked_for_beside_rebalance(gateway: Gateway) -> object:
    wanted = {"send_tcp_reset.on_unhealthy.enabled": True}
    try:
        gateway.lb.modify_target_group_attributes(wanted, gateway.now)
    except ConfigError as error:
        return str(error)
    first = handshake(gateway)
    gateway.probe(first.target.name, "Target.FailedHealthChecks", times=2)
    return type(gateway.enter(tcp(ACK, seq=101, ack=901)))


def flow_opened_while_nobody_was_healthy(gateway: Gateway) -> object:
    for name in ("a-1", "a-2"):
        gateway.probe(name, "Target.FailedHealthChecks", times=2)
    gateway.through(tcp())
    return gateway.enter(tcp(SYN | ACK, to_server=False, seq=900, ack=101))


def health_check(gateway: Gateway) -> object:
    probe = HealthChecks("gwlb", gateway.lb).due(0.0)[0]
    return probe.user_agent, probe.close


TOGETHER: dict[str, object] = {"target_group": {"stickiness.enabled": True}}
RESETS: dict[str, object] = {"target_group": {"send_tcp_reset.on_unhealthy.enabled": True}}
SWITCHES: list[tuple[str, object, Callable[[Gateway], object], dict[str, object]]] = [
    ("check_source_port", False, reply_from_another_port, {}),
    ("check_node", False, reply_to_another_node, {}),
    ("check_attachment", False, reply_with_another_attachment, {}),
    ("check_protocol_type", False, reply_of_another_protocol_type, {}),
    ("check_tuple", False, reply_with_another_tuple, {}),
    ("accept_icmp_errors", False, icmp_error_in_the_flow, {}),
    ("accept_resets", False, reset_made_by_the_target, {}),
    ("accept_former_target", True, reply_of_the_former_target, {}),
    ("fragments", "forward", fragment_enters, {}),
    ("extension_headers", "stop", answer_behind_destination_options, {}),
    ("ingress_limit_bytes", 8933, large_packet_enters, {}),
    ("close_linger_s", 60.0, packet_after_a_reset, {}),
    ("first_answer_s", 120.0, first_packet_kept_for_a_minute, {}),
    ("first_answer_from", "other_end", other_end_answers_after_a_minute, {}),
    ("midstream", "open", midstream_packet_enters, {}),
    ("idle_timeout_change", "all_flows", idle_timeout_is_shortened, {}),
    ("cookie_per", "sticky_tuple", cookies_of_two_that_stay_together, TOGETHER),
    ("cookie_after_rebalance", "new", cookie_after_a_failure, {}),
    ("port_kept_packets", 2, port_of_a_long_flow, {}),
    ("options", "reversed", header_of_a_packet, {}),
    ("options", "more", header_of_a_packet, {}),
    ("initial_successes", 1, one_good_answer, {}),
    ("initial_targets", "never", nothing_but_a_new_target, {}),
    ("initial_targets", "always", new_target_gets_flows_before_its_checks, {}),
    ("registration_s", 60.0, reason_of_a_new_target, {}),
    ("failover_delay_s", 60.0, packet_after_a_failure, {}),
    ("rebalance_to_new_targets", True, a_target_is_added, {}),
    ("reset_with_rebalance", "ignored", resets_are_asked_for_beside_rebalance, {}),
    ("reset_failing_open", False, flow_opened_while_nobody_was_healthy, RESETS),
    ("probe_user_agent", "me", health_check, {}),
    ("probe_close", "reset", health_check, {}),
]


def test_every_switch_is_in_the_list() -> None:
    assert list(dict.fromkeys(s[0] for s in SWITCHES)) == list(Undocumented.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value", "scene", "settings"), SWITCHES, ids=[f"{s[0]}={s[1]}" for s in SWITCHES]
)
def test_every_switch_has_an_effect(
    name: str, value: object, scene: Callable[[Gateway], object], settings: dict[str, object]
) -> None:
    around = settings or {"target_group": REBALANCE}
    as_it_is, other = (
        scene(Gateway({**around, "undocumented": undocumented}))
        for undocumented in ({}, {name: value})
    )
    assert type(as_it_is) is not type(other) or as_it_is != other
