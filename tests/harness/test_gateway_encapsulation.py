"""What a flow's packets are wrapped in: UDP source ports, nodes, cookies, GENEVE options."""

from __future__ import annotations

import pytest
from gateway_transcript import (
    CLIENT,
    ONE,
    OTHER,
    REBALANCE,
    SERVER,
    Gateway,
    handshake,
    inner,
    tcp,
    udp,
)

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import Dropped, ToEndpoint
from appliance_sdk.wire import build_ip, build_tcp, parse_options
from appliance_sdk.wire.geneve import build_geneve, parse_endpoint, parse_geneve
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN

FAILED = "Target.FailedHealthChecks"
STICKY = {"stickiness.enabled": True, "stickiness.type": "source_ip_dest_ip"}


def reason(outcome: ToEndpoint | Dropped) -> str:
    assert isinstance(outcome, Dropped), outcome
    return outcome.reason


# UDP source ports.


def test_two_flows_that_share_a_port_are_two_flows() -> None:
    gateway = Gateway({"source_ports": [53, 53]})
    gateway.lb.deregister("a-2", gateway.now)
    one, other = gateway.sent(tcp(port=1)), gateway.sent(tcp(port=2))
    assert one.source_port == other.source_port == 53
    assert one.cookie != other.cookie
    assert reason(gateway.back(one, other.payload[:40] + inner(one))) == "reply_tuple_mismatch"
    for sent in (one, other):
        assert isinstance(gateway.back(sent), ToEndpoint)


def test_a_flow_is_made_to_collide_with_another() -> None:
    gateway = Gateway({"source_ports": [1, 65535]})
    one, other = gateway.through(tcp(port=1)), gateway.through(tcp(port=2))
    assert one.source_port != other.source_port
    flow = gateway.lb.flow_of(ONE, tcp(port=2))
    assert flow is not None
    flow.use_port(one.source_port)
    assert gateway.through(tcp(port=2)).source_port == one.source_port
    back = tcp(SYN | ACK, port=2, to_server=False, seq=900, ack=101)
    assert gateway.through(back).source_port == one.source_port


def test_a_flow_changes_its_port_and_answers_to_both_count() -> None:
    gateway = Gateway({"undocumented": {"port_kept_packets": 3}})
    sent = [gateway.sent(tcp()) for _ in range(9)]
    ports = [each.source_port for each in sent]
    assert [ports[n : n + 3] for n in (0, 3, 6)] == [[ports[n]] * 3 for n in (0, 3, 6)]
    assert len(set(ports)) == 3
    for each in sent:
        assert isinstance(gateway.back(each), ToEndpoint)
    stranger = next(port for port in range(61000, 61032) if port not in ports)
    place = (sent[0].target.address, stranger)
    assert reason(gateway.back(sent[0], source=place)) == "bad_ports"


def test_a_port_changes_also_where_there_are_two() -> None:
    gateway = Gateway({"source_ports": [7000, 7001], "undocumented": {"port_kept_packets": 1}})
    ports = [gateway.through(tcp()).source_port for _ in range(4)]
    assert ports in ([7000, 7001, 7000, 7001], [7001, 7000, 7001, 7000])


def test_who_looks_for_a_flow_is_told_what_there_is() -> None:
    gateway = Gateway()
    assert gateway.lb.flow_of(ONE, tcp()) is None
    with pytest.raises(HarnessError, match=f"no endpoint 'vpce-1'; known: {ONE}, {OTHER}"):
        gateway.lb.flow_of("vpce-1", tcp())


# Cookies.


@pytest.mark.parametrize("packet", [tcp(), udp()], ids=["tcp", "udp"])
def test_a_cookie_is_new_after_the_flow_idled_out(packet: bytes) -> None:
    gateway = Gateway()
    first = gateway.through(packet)
    gateway.wait(351)
    assert gateway.through(packet).cookie != first.cookie
    late = gateway.back(first)
    assert reason(late) == "stale_cookie"
    assert isinstance(late, Dropped)
    assert "the flow idled out" in late.detail


def test_a_drop_tells_how_the_flow_ended() -> None:
    gateway = Gateway()
    handshake(gateway)
    gateway.through(tcp(RST, seq=101))
    gateway.wait(12)
    dropped = gateway.enter(tcp(ACK, to_server=False, seq=901, ack=101))
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.detail) == ("no_entry", "the flow was closed 10.0 s ago")
    first = gateway.through(tcp())
    gateway.through(tcp(seq=7))
    gateway.wait(1)
    late = gateway.back(first)
    assert isinstance(late, Dropped)
    assert late.detail.endswith("the flow made way for another connection 1.0 s ago")


@pytest.mark.parametrize("kind", ["kept", "new"])
def test_the_cookie_of_a_flow_that_moves(kind: str) -> None:
    gateway = Gateway({"target_group": REBALANCE, "undocumented": {"cookie_after_rebalance": kind}})
    first = handshake(gateway)
    gateway.probe(first.target.name, FAILED, times=2)
    moved = gateway.through(tcp(ACK, seq=101, ack=901))
    assert (moved.cookie == first.cookie) is (kind == "kept")
    assert reason(gateway.back(first)) == ("wrong_target" if kind == "kept" else "stale_cookie")
    assert gateway.lb.flows.moved == 1


def test_connections_that_share_a_cookie() -> None:
    gateway = Gateway({"target_group": STICKY, "undocumented": {"cookie_per": "sticky_tuple"}})
    ports = (1, 2, 3)
    sent = {port: gateway.sent(tcp(port=port)) for port in ports}
    question = gateway.sent(udp())
    assert len({each.cookie for each in (*sent.values(), question)}) == 1
    for each in sent.values():
        assert isinstance(gateway.back(each), ToEndpoint)
    assert isinstance(gateway.back(question), ToEndpoint)
    assert reason(gateway.back(sent[1], sent[1].payload[:40] + tcp(port=4))) == (
        "reply_tuple_mismatch"
    )
    # The cookie outlives those of them that end, and ends with the last.
    for port in ports:
        gateway.through(tcp(RST, port=port, seq=101))
    gateway.wait(3)
    assert len(gateway.lb.flows) == 1
    assert isinstance(gateway.back(question), ToEndpoint)
    assert gateway.sent(tcp(port=5)).cookie == question.cookie
    gateway.wait(351)
    assert reason(gateway.back(question)) == "stale_cookie"
    assert gateway.sent(tcp(port=5)).cookie != question.cookie


def test_the_first_of_those_that_share_a_cookie_idles_out_unnoticed() -> None:
    gateway = Gateway({"target_group": STICKY, "undocumented": {"cookie_per": "sticky_tuple"}})
    question = gateway.sent(udp())
    connection = gateway.through(tcp())
    gateway.now = 121.0  # and nobody advances the clock
    assert isinstance(gateway.back(question), Dropped)
    assert isinstance(gateway.back(connection), ToEndpoint)
    assert len(gateway.lb.flows) == 1


@pytest.mark.parametrize("kind", ["kept", "new"])
def test_those_that_share_a_cookie_move_together(kind: str) -> None:
    switches = {"cookie_per": "sticky_tuple", "cookie_after_rebalance": kind}
    gateway = Gateway({"target_group": {**STICKY, **REBALANCE}, "undocumented": switches})
    first, second = handshake(gateway, 1), handshake(gateway, 2)
    gateway.probe(first.target.name, FAILED, times=2)
    moved = gateway.through(tcp(ACK, port=1, seq=101, ack=901))
    again = gateway.through(tcp(ACK, port=2, seq=101, ack=901))
    assert moved.target == again.target != second.target
    assert moved.cookie == again.cookie
    assert (moved.cookie == first.cookie) is (kind == "kept")


# GENEVE options.


@pytest.mark.parametrize(
    ("layout", "types", "size"),
    [("usual", [1, 2, 3], 40), ("reversed", [3, 2, 1], 40), ("more", [1, 2, 3, 4], 48)],
)
def test_options_may_stand_in_another_order_or_be_more(
    layout: str, types: list[int], size: int
) -> None:
    gateway = Gateway({"undocumented": {"options": layout}, "attachment_id": 9})
    sent = gateway.through(tcp())
    assert [option.type for option in parse_options(sent.payload, 0, len(sent.payload))] == types
    geneve = parse_geneve(sent.payload, 0, len(sent.payload))
    assert (geneve.length, geneve.attachment_id, geneve.cookie) == (size, 9, sent.cookie)
    # The right options in another order are not the header that came, but are read.
    usual = build_geneve(parse_endpoint(ONE), sent.cookie, attachment_id=9)
    assert isinstance(gateway.back(sent, usual + tcp()), ToEndpoint)


def test_a_protocol_type_that_is_not_the_packets() -> None:
    for checked in (True, False):
        gateway = Gateway({"undocumented": {"check_protocol_type": checked}})
        sent = gateway.sent(tcp())
        wrong = gateway.back(sent, sent.payload[:2] + b"\x86\xdd" + sent.payload[4:])
        assert isinstance(wrong, ToEndpoint) is not checked
        # Another version of IP than the flow's is no packet of it in any case.
        other = build_tcp(bytes(16), bytes(15) + b"\x01", 1, 2)
        assert isinstance(gateway.back(sent, sent.payload[:40] + other), Dropped)


# What is in the flow and what is not.


def test_an_appliance_cannot_open_a_flow() -> None:
    gateway = Gateway()
    gateway.through(tcp())
    node, target = ("10.9.0.11", 6081), ("10.9.0.21", 61000)
    made = build_geneve(parse_endpoint(ONE), 0x12345678) + tcp(port=9)
    assert reason(gateway.lb.from_target(target, node, made, gateway.now)) == "unknown_flow"


def test_a_translated_packet_may_be_let_through() -> None:
    gateway = Gateway({"undocumented": {"check_tuple": False}})
    sent = gateway.sent(tcp())
    translated = build_tcp(bytes((10, 0, 0, 1)), SERVER, 40000, 443, flags=SYN)
    returned = gateway.back(sent, sent.payload[:40] + translated)
    assert isinstance(returned, ToEndpoint)
    assert returned.packet == translated


def test_behind_an_extension_header_there_may_be_no_ports() -> None:
    client, server = CLIENT.rjust(16, b"\xfd"), SERVER.rjust(16, b"\xfd")
    segment = inner_segment(SYN)
    behind = [
        build_ip(client, server, 60, bytes((6, 0, 1, 4, 0, 0, 0, 0)) + bytes((0, port)) + segment)
        for port in (1, 2)
    ]
    walks = Gateway()
    assert len({walks.through(packet).cookie for packet in behind}) == 2
    stops = Gateway({"undocumented": {"extension_headers": "stop"}})
    assert len({stops.through(packet).cookie for packet in behind}) == 1
    assert stops.reason(build_ip(client, server, 6, bytes((0, 1)) + inner_segment(ACK))) == (
        "no_entry"
    )


def inner_segment(flags: int) -> bytes:
    """A TCP header without its source port."""
    return b"\x00\x50" + bytes(8) + bytes((0x50, flags)) + bytes(6)


# The first answer.


def test_the_other_end_has_to_answer_in_time() -> None:
    gateway = Gateway({"undocumented": {"first_answer_from": "other_end"}})
    answer = tcp(SYN | ACK, to_server=False, seq=900, ack=101)
    sent = gateway.sent(tcp())
    gateway.wait(29)
    assert isinstance(gateway.back(sent), ToEndpoint)  # the target may take its time
    gateway.wait(2)
    assert gateway.reason(answer) == "late_first_answer"
    assert gateway.reason(answer) == "late_first_answer"
    gateway.through(tcp(seq=7))
    gateway.wait(29)
    gateway.through(answer)
    gateway.wait(29)
    gateway.through(answer)
    gateway.through(udp())
    gateway.wait(60)
    gateway.through(udp())  # nobody has to answer


def test_the_first_answer_may_take_any_time() -> None:
    gateway = Gateway({"undocumented": {"first_answer_s": 0}})
    sent = gateway.sent(tcp())
    gateway.wait(300)
    assert isinstance(gateway.back(sent), ToEndpoint)


# Ends.


def test_a_keepalive_is_enough() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    for seq, to_server in ((100, True), (900, False), (100, True)):
        gateway.wait(340)
        keepalive = tcp(ACK, seq=seq, ack=901, to_server=to_server)
        assert gateway.through(keepalive).cookie == first.cookie


def test_a_packet_that_only_the_target_sends_is_enough_too() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    for _ in range(3):
        gateway.wait(340)
        assert isinstance(gateway.back(first), ToEndpoint)
    assert len(gateway.lb.flows) == 1


def test_a_late_fin_is_dropped() -> None:
    gateway = Gateway()
    handshake(gateway)
    gateway.wait(351)
    assert gateway.reason(tcp(FIN | ACK, seq=101, ack=901)) == "no_entry"


def test_a_syn_that_was_dropped_comes_again_to_the_same_target() -> None:
    gateway = Gateway()
    first = gateway.sent(tcp())
    gateway.wait(1)
    again = gateway.sent(tcp())
    gateway.wait(2)
    assert gateway.through(tcp())[:2] == again[:2] == first[:2]
    assert again.cookie == first.cookie


def test_after_expiry_a_syn_may_go_to_another_target() -> None:
    gateway = Gateway()
    before = {port: gateway.through(tcp(port=port)).target.name for port in range(1, 40)}
    gateway.wait(351)
    gateway.add("a-3", "10.9.0.23", "a")
    after = {port: gateway.through(tcp(port=port)).target.name for port in before}
    assert before != after
    assert "a-3" in after.values()
