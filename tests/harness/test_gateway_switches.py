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

from appliance_sdk.harness import (
    Undocumented,
)
from appliance_sdk.wire import build_icmp, build_ip, fragment_packet
from appliance_sdk.wire.geneve import build_geneve, parse_endpoint
from appliance_sdk.wire.packet import ACK, RST


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


SWITCHES = [
    ("check_source_port", False, reply_from_another_port),
    ("check_node", False, reply_to_another_node),
    ("check_attachment", False, reply_with_another_attachment),
    ("accept_icmp_errors", False, icmp_error_in_the_flow),
    ("accept_former_target", True, reply_of_the_former_target),
    ("fragments", "forward", fragment_enters),
    ("ingress_limit_bytes", 8933, large_packet_enters),
    ("close_linger_s", 60.0, packet_after_a_reset),
    ("first_answer_s", 120.0, first_packet_kept_for_a_minute),
    ("initial_successes", 1, one_good_answer),
    ("fail_open_to_initial", False, nothing_but_a_new_target),
    ("midstream", "open", midstream_packet_enters),
    ("failover_delay_s", 60.0, packet_after_a_failure),
]


def test_every_switch_is_in_the_list() -> None:
    assert [name for name, _, _ in SWITCHES] == list(Undocumented.__struct_fields__)


@pytest.mark.parametrize(("name", "value", "scene"), SWITCHES, ids=[s[0] for s in SWITCHES])
def test_every_switch_has_an_effect(
    name: str, value: object, scene: Callable[[Gateway], object]
) -> None:
    as_it_is, other = (
        scene(Gateway({"target_group": REBALANCE, "undocumented": undocumented}))
        for undocumented in ({}, {name: value})
    )
    assert type(as_it_is) is not type(other) or as_it_is != other
