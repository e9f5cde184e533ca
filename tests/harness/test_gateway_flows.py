"""Flows through Gateway Load Balancer: keys, ends, what enters and what comes back."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from gateway_transcript import (
    CLIENT,
    ONE,
    OTHER,
    SERVER,
    Gateway,
    handshake,
    inner,
    is_reset_to_sender,
    tcp,
    udp,
)
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import REASONS, Dropped, ToEndpoint, ToTarget, Undocumented
from appliance_sdk.wire import build_icmp, build_ip, build_tcp, fragment_packet
from appliance_sdk.wire.geneve import build_geneve, parse_endpoint
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN

# Flows.


def test_both_directions_are_one_flow_with_one_cookie_port_and_target() -> None:
    gateway = Gateway()
    there = gateway.through(tcp())
    back = gateway.through(tcp(SYN | ACK, to_server=False, seq=900, ack=101))
    assert (there.cookie, there.source_port, there.target) == (
        back.cookie,
        back.source_port,
        back.target,
    )
    assert there.node == "10.9.0.11"
    assert inner(there) == tcp()
    assert there.payload[:40].hex() == build_geneve(parse_endpoint(ONE), there.cookie).hex()


def test_the_same_tuple_behind_two_endpoints_is_two_flows() -> None:
    gateway = Gateway()
    one, other = gateway.through(tcp(), ONE), gateway.through(tcp(), OTHER)
    assert one.cookie != other.cookie
    assert (one.target.zone, other.target.zone) == ("a", "b")
    moved = gateway.back(one, build_geneve(parse_endpoint(OTHER), one.cookie) + tcp())
    assert isinstance(moved, Dropped)
    assert moved.reason == "unknown_flow"


def test_one_seed_gives_the_same_bytes_and_another_does_not() -> None:
    def run(seed: int) -> list[bytes]:
        gateway = Gateway(seed=seed)
        return [gateway.sent(tcp(port=40000 + n)).payload for n in range(20)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_source_ports_come_from_the_range() -> None:
    gateway = Gateway({"source_ports": [50000, 50003]})
    ports = {gateway.sent(tcp(port=40000 + n)).source_port for n in range(100)}
    assert ports == {50000, 50001, 50002, 50003}


@pytest.mark.parametrize("protocol", [1, 47, 50, 51, 132, 255])
def test_without_ports_a_flow_is_two_addresses_and_a_protocol(protocol: int) -> None:
    gateway = Gateway()
    there = gateway.through(build_ip(CLIENT, SERVER, protocol, b"\x08\0\0\0" + bytes(20)))
    back = gateway.through(build_ip(SERVER, CLIENT, protocol, b"\0\0\0\0" + bytes(30)))
    assert there.cookie == back.cookie


@pytest.mark.parametrize(
    ("kind", "together"),
    [("source_ip_dest_ip_proto", (True, False)), ("source_ip_dest_ip", (True, True))],
)
def test_stickiness_keeps_more_together(kind: str, together: tuple[bool, bool]) -> None:
    group = {"stickiness.enabled": True, "stickiness.type": kind}
    gateway = Gateway({"target_group": group})
    for n in range(3, 30):
        gateway.add(f"a-{n}", f"10.9.0.{20 + n}", "a")
    targets = {gateway.through(tcp(port=40000 + n)).target for n in range(20)}
    assert (len(targets) == 1) is together[0]
    assert (gateway.through(udp()).target in targets) is together[1]
    before = targets.pop()
    for n in range(30, 60):
        gateway.add(f"a-{n}", f"10.9.0.{100 + n}", "a")
    assert gateway.through(tcp(port=39999)).target == before
    assert len({gateway.sent(tcp(port=40000 + n)).cookie for n in range(20)}) == 20


def test_without_stickiness_flows_spread() -> None:
    gateway = Gateway()
    targets = [gateway.through(tcp(port=40000 + n)).target.name for n in range(200)]
    assert 60 < targets.count("a-1") < 140
    assert set(targets) == {"a-1", "a-2"}


# The ends of flows.


@pytest.mark.parametrize(
    ("packet", "idle"), [(tcp(ACK, seq=101, ack=901), 350), (udp(), 120)], ids=["tcp", "udp"]
)
def test_a_flow_is_forgotten_at_its_idle_timeout_and_not_before(packet: bytes, idle: int) -> None:
    gateway = Gateway()
    first = handshake(gateway) if idle == 350 else gateway.through(packet)
    gateway.wait(idle - 0.001)
    assert gateway.through(packet).cookie == first.cookie
    gateway.wait(idle)
    assert len(gateway.lb.flows) == 0
    if idle == 350:
        assert gateway.reason(packet) == "no_entry"
        assert gateway.through(tcp()).cookie != first.cookie
    else:
        assert gateway.through(packet).cookie != first.cookie


def test_a_flow_idles_out_also_if_nobody_advances() -> None:
    gateway = Gateway()
    first = gateway.sent(udp())
    gateway.now = 200.0
    late = gateway.back(first)
    assert isinstance(late, Dropped)
    assert late.reason == "stale_cookie"


def test_the_timeout_is_an_attribute_of_the_listener() -> None:
    gateway = Gateway({"listener": {"tcp.idle_timeout.seconds": 60}})
    handshake(gateway)
    gateway.wait(61)
    assert gateway.reason(tcp(ACK, seq=101, ack=901)) == "no_entry"


def test_with_reset_on_idle_timeout_the_sender_is_told() -> None:
    gateway = Gateway({"listener": {"send_tcp_reset.on_idle_timeout.enabled": True}})
    handshake(gateway)
    gateway.wait(351)
    assert is_reset_to_sender(gateway.enter(tcp(ACK, seq=101, ack=901)), CLIENT)
    answer = gateway.enter(tcp(ACK, to_server=False, seq=901, ack=101))
    assert is_reset_to_sender(answer, SERVER)
    assert gateway.lb.metrics["TCP_ELB_Reset_Count"] == 2
    assert gateway.reason(tcp(RST, seq=101)) == "no_entry"  # nobody answers a reset with one


def test_fin_both_ways_ends_a_flow_after_a_while() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    gateway.through(tcp(FIN | ACK, seq=101, ack=901))
    gateway.through(tcp(FIN | ACK, to_server=False, seq=901, ack=102))
    gateway.wait(10)
    assert gateway.through(tcp(ACK, seq=102, ack=902)).cookie == first.cookie
    gateway.wait(1.9)
    assert len(gateway.lb.flows) == 1
    gateway.wait(0.2)
    assert len(gateway.lb.flows) == 0
    assert gateway.reason(tcp(ACK, seq=102, ack=902)) == "no_entry"


def test_a_half_closed_connection_lives_on() -> None:
    gateway = Gateway()
    first = handshake(gateway)
    gateway.through(tcp(FIN | ACK, seq=101, ack=901))
    gateway.through(tcp(ACK, to_server=False, seq=901, ack=102))
    gateway.wait(300)
    more = tcp(ACK, to_server=False, seq=901, ack=102, payload=b"more")
    assert gateway.through(more).cookie == first.cookie


def test_a_reject_of_both_ends_comes_through() -> None:
    gateway = Gateway()
    sent = gateway.sent(tcp())
    header = sent.payload[:40]
    for reset in (tcp(RST | ACK, to_server=False, ack=101), tcp(RST, seq=101)):
        assert isinstance(gateway.back(sent, header + reset), ToEndpoint)
    gateway.wait(3)
    gone = gateway.back(sent, header + tcp(RST, seq=101))
    assert isinstance(gone, Dropped)
    assert gone.reason == "stale_cookie"


def test_a_dropped_reset_ends_nothing() -> None:
    gateway = Gateway()
    handshake(gateway)
    gateway.sent(tcp(RST, seq=101))  # and the appliance keeps it
    gateway.wait(60)
    assert len(gateway.lb.flows) == 1


def test_a_port_used_again_is_another_flow_with_another_cookie() -> None:
    gateway = Gateway()
    first = gateway.through(tcp())
    assert gateway.through(tcp()).cookie == first.cookie  # the same SYN once more
    second = gateway.through(tcp(seq=5000))
    assert second.cookie != first.cookie
    late = gateway.back(first)
    assert isinstance(late, Dropped)
    assert late.reason == "stale_cookie"
    assert "with its own header" in late.explanation


# What does not enter.


def test_what_does_not_enter() -> None:
    gateway = Gateway()
    big = build_tcp(CLIENT, SERVER, 1, 2, flags=SYN, payload=bytes(8500 - 40))
    assert gateway.through(big).payload[40:] == big
    assert gateway.reason(big + b"x") == "too_big"
    assert gateway.reason(b"\x45 no packet") == "malformed"
    assert gateway.reason(tcp(), "vpce-00000000000000001") == "unknown_endpoint"
    for fragment in fragment_packet(
        build_ip(CLIENT, SERVER, 17, bytes(2000), identification=7), 576
    ):
        assert gateway.reason(fragment) == "fragment"
    for flags in (ACK, SYN | ACK, FIN | ACK, RST):
        assert gateway.reason(tcp(flags)) == "no_entry"


def test_switches_let_in_what_some_have_seen_enter() -> None:
    switches = {"fragments": "forward", "ingress_limit_bytes": 8933, "midstream": "open"}
    gateway = Gateway({"undocumented": switches})
    big = build_tcp(CLIENT, SERVER, 1, 2, flags=SYN, payload=bytes(8933 - 40))
    returned = gateway.back(gateway.sent(big))
    assert isinstance(returned, Dropped)
    assert returned.reason == "reply_too_big"
    parts = fragment_packet(build_ip(CLIENT, SERVER, 17, bytes(2000), identification=7), 576)
    assert len({gateway.through(part).cookie for part in parts}) == 1
    gateway.through(tcp(ACK, port=777))


def test_the_table_is_bounded() -> None:
    gateway = Gateway({"max_flows": 3})
    for n in range(3):
        gateway.through(tcp(port=40000 + n))
    assert gateway.reason(tcp(port=50000)) == "table_full"
    gateway.wait(351)
    gateway.through(tcp(port=50000))


# What comes back.


def test_every_reason_is_met_and_says_what_it_follows() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_gateway_*.py"))
    assert [reason for reason in REASONS if f'"{reason}"' not in source] == []
    for reason in REASONS.values():
        assert len(reason.meaning) > 20
        for switch in re.findall(r"`(\w+)`", reason.source):
            assert switch in Undocumented.__struct_fields__


def test_a_drop_says_what_it_follows() -> None:
    gateway = Gateway()
    dropped = gateway.enter(tcp(ACK))
    assert isinstance(dropped, Dropped)
    assert dropped.source.startswith("AWS guide")
    assert dropped.explanation == f"{dropped.meaning} [{dropped.source}]"


def test_a_reset_that_nobody_sent_may_be_refused() -> None:
    gateway = Gateway({"undocumented": {"accept_resets": False}})
    sent = handshake(gateway)
    reset = sent.payload[:40] + tcp(RST, to_server=False, seq=901)
    made = gateway.back(sent, reset)
    assert isinstance(made, Dropped)
    assert made.reason == "made_reset"
    gateway.through(tcp(RST, to_server=False, seq=901))
    assert isinstance(gateway.back(sent, reset), ToEndpoint)


def test_a_node_is_replaced_under_live_flows() -> None:
    gateway = Gateway()
    before = handshake(gateway)
    gateway.lb.replace_node("a", "10.9.0.12")
    late = gateway.back(before)
    assert isinstance(late, Dropped)
    assert (late.reason, late.detail) == ("node_gone", "10.9.0.11 is now 10.9.0.12")
    after = gateway.through(tcp(ACK, seq=101, ack=901))
    assert after.node == "10.9.0.12"
    assert after[2:] == (before.source_port, after.payload, before.cookie)
    assert isinstance(gateway.back(before, destination=("10.9.0.12", 6081)), ToEndpoint)
    gateway.lb.replace_node("a", "10.9.0.11")  # and back again
    assert gateway.through(tcp(ACK, seq=101, ack=901)).node == "10.9.0.11"
    with pytest.raises(HarnessError, match="no zone 'c'; zones: a, b"):
        gateway.lb.replace_node("c", "10.9.0.13")


def test_a_reply_must_keep_addresses_and_ports() -> None:
    gateway = Gateway()
    sent = gateway.sent(tcp())
    target, node = sent.target.address, sent.node
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"source": (target, 6081), "destination": (node, sent.source_port)}, "bad_ports"),
        ({"source": (target, sent.source_port ^ 1)}, "bad_ports"),
        ({"source": ("10.9.0.99", sent.source_port)}, "unknown_target"),
        ({"source": ("10.9.1.21", sent.source_port)}, "wrong_target"),
        ({"destination": ("10.9.1.11", 6081)}, "wrong_node"),
    ]
    for place, reason in wrong:
        returned = gateway.back(sent, **place)
        assert isinstance(returned, Dropped)
        assert returned.reason == reason
        assert returned.explanation
    assert isinstance(gateway.back(sent), ToEndpoint)
    assert isinstance(gateway.back(sent), ToEndpoint)  # twice is delivered twice


def test_a_reply_must_keep_the_header_and_the_tuple() -> None:
    gateway = Gateway()
    sent = gateway.sent(tcp())
    number = parse_endpoint(ONE)
    attached = build_geneve(number, sent.cookie, attachment_id=5)
    nat = build_tcp(bytes((10, 0, 0, 1)), SERVER, 40000, 443, flags=SYN)
    huge = build_tcp(CLIENT, SERVER, 40000, 443, flags=ACK, payload=bytes(8461))
    header = sent.payload[:40]
    for payload, reason in (
        (b"", "bad_geneve"),
        (b"\x40" + sent.payload[1:], "bad_geneve"),
        (sent.payload[:8], "bad_geneve"),
        (build_geneve(7, sent.cookie) + tcp(), "unknown_flow"),
        (build_geneve(number, sent.cookie ^ 1) + tcp(), "unknown_flow"),
        (attached + tcp(), "attachment_changed"),
        (header + b"\x45 no packet", "reply_malformed"),
        (header + huge, "reply_too_big"),
        (header + nat, "reply_tuple_mismatch"),
        (header + tcp(port=4), "reply_tuple_mismatch"),
    ):
        returned = gateway.back(sent, payload)
        assert isinstance(returned, Dropped)
        assert returned.reason == reason
    changed = build_tcp(CLIENT, SERVER, 40000, 443, seq=100, flags=SYN, payload=b"inserted")
    assert isinstance(gateway.back(sent, header + changed), ToEndpoint)


@pytest.mark.parametrize("accepted", [True, False])
def test_an_icmp_error_about_the_flow_may_come_in_its_place(accepted: bool) -> None:
    gateway = Gateway({"undocumented": {"accept_icmp_errors": accepted}})
    sent = gateway.sent(udp())
    error = build_icmp(SERVER, CLIENT, 3, 13, bytes(4) + udp()[:28])
    returned = gateway.back(sent, sent.payload[:40] + error)
    assert isinstance(returned, ToEndpoint) is accepted
    about_another = build_icmp(SERVER, CLIENT, 3, 13, bytes(4) + udp(port=9)[:28])
    wrong = gateway.back(sent, sent.payload[:40] + about_another)
    assert isinstance(wrong, Dropped)
    assert wrong.reason == "reply_tuple_mismatch"


def test_a_first_packet_that_is_kept_for_too_long() -> None:
    gateway = Gateway()
    sent = gateway.sent(tcp())
    gateway.wait(30)
    assert isinstance(gateway.back(sent), ToEndpoint)
    other = gateway.sent(tcp(port=2))
    gateway.wait(30.1)
    late = gateway.back(other)
    assert isinstance(late, Dropped)
    assert late.reason == "late_first_answer"


# Anything at all.

PACKETS = st.one_of(
    st.binary(max_size=80),
    st.builds(
        tcp,
        st.integers(0, 63),
        port=st.integers(1, 3),
        to_server=st.booleans(),
        seq=st.integers(0, 5),
        ack=st.integers(0, 5),
    ),
    st.builds(udp, port=st.integers(1, 3), to_server=st.booleans()),
)


@given(st.lists(st.tuples(PACKETS, st.booleans(), st.sampled_from([0.0, 1.0, 121.0])), max_size=40))
def test_whatever_comes_is_sent_dropped_or_reset(
    steps: list[tuple[bytes, bool, float]],
) -> None:
    gateway = Gateway({"listener": {"send_tcp_reset.on_idle_timeout.enabled": True}})
    outcomes = []
    for packet, returned, pause in steps:
        gateway.wait(pause)
        outcomes.append(gateway.enter(packet))
        if returned and isinstance(outcomes[-1], ToTarget):
            answer = gateway.back(outcomes[-1])
            outcomes.append(answer)
            assert isinstance(answer, ToEndpoint) or answer.reason == "late_first_answer"
    dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
    assert gateway.lb.drops.total() == len(dropped)
    resets = [o for o in outcomes if isinstance(o, ToEndpoint) and not o.by]
    assert gateway.lb.metrics["TCP_ELB_Reset_Count"] == len(resets)
    assert len(gateway.lb.flows) <= gateway.lb.metrics["NewFlowCount"]
    gateway.wait(1000)
    assert len(gateway.lb.flows) == 0
    assert gateway.lb.next_deadline() == float("inf")


@given(st.binary(max_size=120), st.integers(0, 65535), st.integers(0, 65535), st.booleans())
def test_whatever_an_appliance_sends_is_judged(
    payload: bytes, source_port: int, port: int, whole: bool
) -> None:
    gateway = Gateway()
    sent = gateway.sent(tcp())
    body = sent.payload[:40] + payload if whole else payload
    source, destination = (sent.target.address, source_port), (sent.node, port)
    outcome = gateway.lb.from_target(source, destination, body, 0.0)
    assert isinstance(outcome, Dropped | ToEndpoint)


def test_many_flows_cost_no_more_each() -> None:
    gateway = Gateway()
    for first, second in itertools.product(range(100), range(100)):
        client = bytes((203, 0, first, second))
        gateway.sent(build_tcp(client, SERVER, 1, 443, flags=SYN))
    assert len(gateway.lb.flows) == 10_000
    assert gateway.lb.next_deadline() == 350
    gateway.wait(351)
    assert len(gateway.lb.flows) == 0
    assert gateway.lb.gauges()["ActiveFlowCount"] == 0
