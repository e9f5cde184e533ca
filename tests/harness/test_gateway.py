"""What Gateway Load Balancer does, case by case, in virtual time."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness import (
    REASONS,
    Change,
    Dropped,
    GatewayLoadBalancer,
    GatewaySettings,
    ToEndpoint,
    ToTarget,
    Undocumented,
)
from appliance_sdk.wire import build_icmp, build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.geneve import build_geneve, parse_endpoint, parse_geneve
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, parse_packet

ONE, OTHER = "vpce-0a1b2c3d4e5f60718", "vpce-0ffffffffffffffff"
CLIENT, SERVER = (ipaddress.ip_address(a).packed for a in ("203.0.113.10", "10.0.1.10"))


class Gateway:
    """Two targets in zone a, one in zone b; endpoint ONE in zone a, OTHER in zone b."""

    def __init__(self, settings: dict[str, Any] | None = None, *, seed: int = 0) -> None:
        self.now = 0.0
        self.changes: list[Change] = []
        self.lb = GatewayLoadBalancer(
            {"a": "10.9.0.11", "b": "10.9.1.11"},
            msgspec.convert(settings or {}, GatewaySettings),
            seed=seed,
            changed=self.changes.append,
        )
        self.lb.add_endpoint(ONE, "a")
        self.lb.add_endpoint(OTHER, "b")
        for name, address, zone in (
            ("a-1", "10.9.0.21", "a"),
            ("a-2", "10.9.0.22", "a"),
            ("b-1", "10.9.1.21", "b"),
        ):
            self.add(name, address, zone)

    def add(self, name: str, address: str, zone: str) -> None:
        """One more target, healthy."""
        self.lb.register(name, address, zone, self.now)
        self.probe(name, "", times=10)

    def probe(self, name: str, reason: str, times: int = 1) -> None:
        """Results of health checks, in every zone that asks."""
        for zone in self.lb.nodes:
            for _ in range(times):
                self.lb.probed(name, zone, reason, self.now)

    def state(self, name: str, zone: str = "") -> str:
        return str(self.lb.targets.state(name, zone))

    def enter(self, packet: bytes, endpoint: str = ONE) -> ToTarget | ToEndpoint | Dropped:
        """A packet comes to an endpoint."""
        return self.lb.from_endpoint(endpoint, packet, self.now)

    def sent(self, packet: bytes, endpoint: str = ONE) -> ToTarget:
        """The same, and it goes to a target."""
        outcome = self.enter(packet, endpoint)
        assert isinstance(outcome, ToTarget), outcome
        return outcome

    def reason(self, packet: bytes, endpoint: str = ONE) -> str:
        """The same, and it is dropped."""
        outcome = self.enter(packet, endpoint)
        assert isinstance(outcome, Dropped), outcome
        return outcome.reason

    def back(
        self, sent: ToTarget, payload: bytes | None = None, **place: Any
    ) -> ToEndpoint | Dropped:
        """The target gives a datagram back, as it should unless `place` says otherwise."""
        source = place.get("source", (sent.target.address, sent.source_port))
        destination = place.get("destination", (sent.node, 6081))
        body = sent.payload if payload is None else payload
        return self.lb.from_target(source, destination, body, self.now)

    def through(self, packet: bytes, endpoint: str = ONE) -> ToTarget:
        """There and back."""
        sent = self.sent(packet, endpoint)
        returned = self.back(sent)
        assert isinstance(returned, ToEndpoint), returned
        assert (returned.endpoint, returned.packet) == (endpoint, packet)
        return sent

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.lb.advance(self.now)


def tcp(
    flags: int = SYN,
    *,
    port: int = 40000,
    to_server: bool = True,
    seq: int = 100,
    ack: int = 0,
    payload: bytes = b"",
) -> bytes:
    """A segment between client and server."""
    if to_server:
        return build_tcp(CLIENT, SERVER, port, 443, seq=seq, ack=ack, flags=flags, payload=payload)
    return build_tcp(SERVER, CLIENT, 443, port, seq=seq, ack=ack, flags=flags, payload=payload)


def udp(*, port: int = 5000, to_server: bool = True) -> bytes:
    """A datagram between client and server."""
    if to_server:
        return build_udp(CLIENT, SERVER, port, 53, payload=b"question")
    return build_udp(SERVER, CLIENT, 53, port, payload=b"answer")


def handshake(gateway: Gateway, port: int = 40000) -> ToTarget:
    """A connection that is open."""
    gateway.through(tcp(port=port))
    gateway.through(tcp(SYN | ACK, port=port, to_server=False, seq=900, ack=101))
    return gateway.through(tcp(ACK, port=port, seq=101, ack=901))


def is_reset_to_sender(outcome: object, sender: bytes) -> bool:
    """Whether GWLB answered with a TCP reset of its own."""
    if not isinstance(outcome, ToEndpoint) or outcome.by:
        return False
    headers = parse_packet(outcome.packet, 0, len(outcome.packet))
    return bool(headers.flags & RST) and headers.destination == sender


REBALANCE = {
    "target_failover.on_unhealthy": "rebalance",
    "target_failover.on_deregistration": "rebalance",
}


def inner(sent: ToTarget) -> bytes:
    return sent.payload[parse_geneve(sent.payload, 0, len(sent.payload)).length :]


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


def test_every_reason_is_met_in_this_file() -> None:
    source = Path(__file__).read_text()
    assert [reason for reason in REASONS if f'"{reason}"' not in source] == []


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_group": {"target_failover.on_unhealthy": "rebalance"}}, "AWS takes only equal"),
        ({"listener": {"tcp.idle_timeout.seconds": 59}}, "59 is not in 60 to 6000"),
        ({"listener": {"tcp.idle_timeout.seconds": 6001}}, "6001 is not in 60 to 6000"),
        ({"target_group": {"deregistration_delay.timeout_seconds": 3601}}, "0 to 3600"),
        (
            {
                "target_group": {
                    "stickiness.enabled": True,
                    "send_tcp_reset.on_unhealthy.enabled": True,
                }
            },
            "needs 5-tuple flows",
        ),
        (
            {"target_group": {**REBALANCE, "send_tcp_reset.on_unhealthy.enabled": True}},
            "exclude each other",
        ),
        (
            {
                "target_group": {"stickiness.enabled": True},
                "listener": {"tcp.idle_timeout.seconds": 600},
            },
            "5-tuple flows only",
        ),
        ({"health_check": {"interval_s": 4}}, "not in 5 to 300"),
        ({"health_check": {"interval_s": 10, "timeout_s": 11}}, "less than timeout_s"),
        ({"health_check": {"timeout_s": 1}}, "not in 2 to 120"),
        ({"health_check": {"healthy_threshold": 1}}, "not in 2 to 10"),
        ({"health_check": {"matcher": "200-404"}}, "not within 200 to 399"),
        ({"health_check": {"matcher": "ok"}}, "no list of HTTP codes"),
        ({"source_ports": [9, 5]}, "no range of ports"),
    ],
)
def test_what_aws_refuses_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gateway(settings)


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


# Every switch has an effect.


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
