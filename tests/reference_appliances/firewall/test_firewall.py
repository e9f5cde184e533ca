"""The firewall in the real engine: what passes, what does not, and what a reload changes."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from appliance_sdk import ConfigError, FlowEnded, PluginError, Verdict
from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.packet import ACK, SYN
from reference_appliances.firewall import Firewall, FirewallVerdict, PolicyLoaded

HOME, PEER, OTHER = "10.20.0.10", "192.0.2.80", "192.0.2.99"
HOME6, PEER6 = "fd00:20::10", "2001:db8::80"
ROUTER = "198.51.100.1"

POLICY = """
home = ["10.20.0.0/16", "fd00:20::/32"]
[[rule]]
name = "no-telnet"
action = "reject"
protocol = "tcp"
port = 23
[[rule]]
name = "web"
action = "allow"
opened_by = "home"
protocol = "tcp"
port = [80, 443]
[[rule]]
name = "udp-out"
action = "allow"
opened_by = "home"
protocol = "udp"
port = [53, 500]
[[rule]]
name = "no-syslog"
action = "reject"
protocol = "udp"
port = 514
[[rule]]
name = "ping"
action = "allow"
opened_by = "home"
protocol = ["icmp", "icmpv6"]
[[rule]]
name = "gre"
action = "allow"
opened_by = "home"
protocol = 47
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def bench(policy: Path) -> Bench:
    return Bench(Firewall, policy=str(policy), log="all")


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def verdicts(bench: Bench) -> list[tuple[str, str]]:
    """(action, rule) of every verdict reported so far."""
    return [(e.action, e.rule) for e in bench.events if isinstance(e, FirewallVerdict)]


def hits(bench: Bench) -> dict[str, int]:
    prefix = "firewall.hits."
    metrics = bench.engine.metrics
    return {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}


def echo(source: str, target: str, *, reply: bool = False, sequence: int = 1) -> bytes:
    v6 = ":" in source
    kind = (129 if reply else 128) if v6 else (0 if reply else 8)
    body = b"\x12\x34" + sequence.to_bytes(2, "big") + b"payload"
    return build_icmp(packed(source), packed(target), kind, 0, body)


def error(source: str, about: bytes, *, type_: int = 3, code: int = 4) -> bytes:
    """An ICMP error from `source` to the sender of the packet that it is about."""
    v6 = about[0] >> 4 == 6
    receiver = about[8:24] if v6 else about[12:16]
    return build_icmp(packed(source), receiver, type_, code, bytes(4) + about[:68])


class TestTcp:
    def test_an_allowed_flow_passes_both_ways_and_is_bypassed(self, bench: Bench) -> None:
        web = bench.tcp(HOME, PEER, 443)
        assert web.client_sends(b"hello")
        assert web.server_sends(b"world")
        assert not web.verdict.terminal
        assert web.flow is not None
        inspection = web.flow._inspection
        assert inspection.on_packet == inspection.on_data == ()
        assert verdicts(bench) == [("allow", "web")]
        assert hits(bench) == {"web": 1}

    def test_what_no_rule_allows_is_blocked_silently(self, bench: Bench) -> None:
        mail = bench.tcp(HOME, PEER, 25)
        assert mail.verdict == Verdict.BLOCK
        assert (mail.verdict.rule, mail.verdict.reason) == ("default", "no rule allows it")
        assert bench.injected == []

    def test_a_reject_rule_tells_the_client(self, bench: Bench) -> None:
        telnet = bench.tcp(HOME, PEER, 23)
        assert telnet.verdict == Verdict.REJECT
        assert telnet.client_reset
        assert telnet.verdict.rule == "no-telnet"

    def test_opened_by_home_keeps_the_outside_out(self, bench: Bench) -> None:
        assert bench.tcp(PEER, HOME, 443).verdict == Verdict.BLOCK

    def test_ipv6(self, bench: Bench) -> None:
        assert bench.tcp(HOME6, PEER6, 443).client_sends(b"hello")
        assert bench.tcp(PEER6, HOME6, 443).verdict == Verdict.BLOCK

    def test_a_new_attempt_is_judged_anew(self, bench: Bench, policy: Path) -> None:
        assert bench.tcp(HOME, PEER, 25, client_port=40000).verdict == Verdict.BLOCK
        policy.write_text(POLICY.replace("[80, 443]", "[25, 80, 443]"))
        bench.reload()
        syn = build_tcp(packed(HOME), packed(PEER), 40000, 25, seq=99, flags=SYN)
        assert bench.send(syn) == [syn]


class TestMidstream:
    def test_is_rejected_unless_the_policy_says_else(self, bench: Bench) -> None:
        web = bench.tcp(HOME, PEER, 443, midstream=True)
        assert not web.client_sends(b"hello")
        assert web.client_reset
        assert (web.verdict, web.verdict.rule) == (Verdict.REJECT, "midstream")

    def test_may_be_blocked(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text('midstream = "block"\n' + POLICY)
        bench = Bench(Firewall, policy=str(path))
        web = bench.tcp(HOME, PEER, 443, midstream=True)
        assert not web.client_sends(b"hello")
        assert web.verdict == Verdict.BLOCK
        assert bench.injected == []

    def test_may_be_judged_by_the_rules_from_either_end(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text('midstream = "allow"\n' + POLICY)
        bench = Bench(Firewall, policy=str(path))
        assert bench.tcp(HOME, PEER, 443, midstream=True).client_sends(b"hello")
        assert bench.tcp(HOME, PEER, 443, midstream=True).server_sends(b"hello")
        assert not bench.tcp(HOME, PEER, 25, midstream=True).client_sends(b"hello")

    def test_an_answer_to_a_syn_nobody_sent_is_midstream(self, bench: Bench) -> None:
        packet = build_tcp(packed(PEER), packed(HOME), 443, 40000, seq=1, ack=1, flags=SYN | ACK)
        assert packet not in bench.send(packet)


class TestUdp:
    def test_answers_need_no_rule(self, bench: Bench) -> None:
        dns = bench.udp(HOME, PEER, 53)
        assert dns.client_sends(b"query")
        assert dns.server_sends(b"answer")
        assert hits(bench) == {"udp-out": 1}

    def test_a_known_source_port_makes_no_answer(self, bench: Bench) -> None:
        spoofed = build_udp(packed(PEER), packed(HOME), 53, 40001, payload=b"no answer")
        for _ in range(3):
            assert bench.send(spoofed) == []
        assert verdicts(bench) == [("block", "default")]

    def test_a_stranger_who_sends_first_does_not_close_the_way_out(self, bench: Bench) -> None:
        inward = build_udp(packed(PEER), packed(HOME), 500, 500, payload=b"stranger")
        outward = build_udp(packed(HOME), packed(PEER), 500, 500, payload=b"home")
        assert bench.send(inward) == []
        assert bench.send(outward) == [outward]
        assert bench.send(inward) == [inward]
        assert verdicts(bench) == [("block", "default"), ("allow", "udp-out")]

    def test_a_flow_turned_round_survives_a_reload(self, bench: Bench, policy: Path) -> None:
        inward = build_udp(packed(PEER), packed(HOME), 500, 500, payload=b"stranger")
        outward = build_udp(packed(HOME), packed(PEER), 500, 500, payload=b"home")
        bench.send(inward)
        bench.send(outward)
        bench.reload()
        bench.advance(0.1)
        assert bench.send(inward) == [inward]
        policy.write_text(POLICY.replace("[53, 500]", "53"))
        bench.reload()
        bench.advance(0.1)
        assert bench.send(inward) == bench.send(outward) == []

    def test_who_keeps_trying_gets_through_once_the_policy_allows(
        self, bench: Bench, policy: Path
    ) -> None:
        ntp = bench.udp(HOME, PEER, 123)
        assert not ntp.client_sends(b"time?")
        policy.write_text(POLICY.replace("[53, 500]", "[53, 123]"))
        bench.reload()
        bench.advance(0.1)
        assert ntp.client_sends(b"time?")
        assert ntp.server_sends(b"noon")

    def test_reject_answers_with_an_icmp_error(self, bench: Bench) -> None:
        syslog = bench.udp(HOME, PEER, 514)
        assert not syslog.client_sends(b"log")
        assert syslog.client_reset
        assert syslog.verdict == Verdict.REJECT

    def test_other_protocols_by_number(self, bench: Bench) -> None:
        ends = packed(HOME), packed(PEER)
        outward, inward = _ip(47, *ends), _ip(47, *reversed(ends))
        assert bench.send(inward) == []
        assert bench.send(outward) == [outward]
        assert bench.send(inward) == [inward]
        esp = _ip(50, *ends)
        assert bench.send(esp) == []


class TestIcmp:
    @pytest.mark.parametrize(("home", "peer"), [(HOME, PEER), (HOME6, PEER6)])
    def test_echo_out_and_its_reply(self, bench: Bench, home: str, peer: str) -> None:
        ask, answer = echo(home, peer), echo(peer, home, reply=True)
        assert bench.send(answer) == []  # nobody asked yet
        assert bench.send(ask) == [ask]
        assert bench.send(answer) == [answer]

    @pytest.mark.parametrize(("home", "peer"), [(HOME, PEER), (HOME6, PEER6)])
    def test_echo_in_is_blocked_and_blocks_nothing_else(
        self, bench: Bench, home: str, peer: str
    ) -> None:
        stranger = echo(peer, home)
        assert bench.send(stranger) == []
        ask, answer = echo(home, peer), echo(peer, home, reply=True)
        assert bench.send(ask) == [ask]
        assert bench.send(answer) == [answer]
        assert bench.send(stranger) == []
        leak = echo(home, peer, reply=True)
        assert bench.send(leak) == []

    def test_each_verdict_is_reported_once(self, bench: Bench) -> None:
        for sequence in range(3):
            bench.send(echo(HOME, PEER, sequence=sequence))
            bench.send(echo(PEER, HOME, reply=True, sequence=sequence))
            bench.send(echo(PEER, HOME, sequence=sequence))
        assert verdicts(bench) == [("allow", "ping"), ("allow", "related"), ("block", "default")]

    @pytest.mark.parametrize(("type_", "code"), [(3, 4), (3, 1), (11, 0), (12, 0)])
    def test_errors_about_an_allowed_flow_pass(self, bench: Bench, type_: int, code: int) -> None:
        packet = build_udp(packed(HOME), packed(PEER), 40000, 53, payload=b"query")
        bench.send(packet)
        told = error(ROUTER, packet, type_=type_, code=code)
        assert bench.send(told) == [told]

    @pytest.mark.parametrize("type_", [1, 2, 3, 4])
    def test_icmpv6_errors_about_an_allowed_flow_pass(self, bench: Bench, type_: int) -> None:
        web = bench.tcp(HOME6, PEER6, 443, client_port=40000)
        assert web.client_sends(b"hello")
        packet = build_tcp(packed(HOME6), packed(PEER6), 40000, 443, seq=1006, flags=ACK)
        told = error("2001:db8:ffff::1", packet, type_=type_, code=0)
        assert bench.send(told) == [told]

    def test_errors_about_an_allowed_ping_pass(self, bench: Bench) -> None:
        ask = echo(HOME, PEER)
        bench.send(ask)
        told = error(ROUTER, ask, type_=11, code=0)
        assert bench.send(told) == [told]
        stranger = echo(PEER, HOME)
        bench.send(stranger)
        assert bench.send(error(ROUTER, stranger, type_=11, code=0)) == []

    def test_errors_about_nothing_known_are_dropped(self, bench: Bench) -> None:
        unknown = build_udp(packed(HOME), packed(PEER), 40000, 53, payload=b"never sent")
        assert bench.send(error(ROUTER, unknown)) == []
        assert ("drop", "related") in verdicts(bench)

    def test_errors_about_a_blocked_flow_are_dropped(self, bench: Bench) -> None:
        tcp = build_tcp(packed(HOME), packed(PEER), 40000, 25, seq=1, flags=SYN)
        udp = build_udp(packed(HOME), packed(PEER), 40000, 123, payload=b"time?")
        stranger = build_udp(packed(PEER), packed(HOME), 500, 500, payload=b"stranger")
        for blocked in (tcp, udp, stranger):
            assert bench.send(blocked) == []
            assert bench.send(error(ROUTER, blocked)) == []
        bench.restart()
        assert bench.send(error(ROUTER, udp)) == []

    def test_errors_about_a_flow_that_the_other_end_opened_pass(self, bench: Bench) -> None:
        inward = build_udp(packed(PEER), packed(HOME), 500, 500, payload=b"stranger")
        outward = build_udp(packed(HOME), packed(PEER), 500, 500, payload=b"home")
        bench.send(inward)
        assert bench.send(error(ROUTER, outward)) == []
        bench.send(outward)
        told = error(ROUTER, outward)
        assert bench.send(told) == [told]

    def test_errors_to_someone_outside_the_flow_are_dropped(self, bench: Bench) -> None:
        packet = build_udp(packed(HOME), packed(PEER), 40000, 53, payload=b"query")
        bench.send(packet)
        astray = build_icmp(packed(ROUTER), packed("10.20.0.77"), 3, 1, bytes(4) + packet)
        assert bench.send(astray) == []

    @pytest.mark.parametrize(
        ("source", "target", "type_"),
        [
            (PEER, HOME, 5),
            (PEER, HOME, 4),
            (HOME, PEER, 9),
            (PEER6, HOME6, 137),
            (HOME6, PEER6, 134),
        ],
    )
    def test_messages_between_neighbours_never_cross(
        self, bench: Bench, source: str, target: str, type_: int
    ) -> None:
        assert bench.send(build_icmp(packed(source), packed(target), type_, 0, bytes(12))) == []

    def test_a_fragmented_echo_is_judged_as_a_whole(self, bench: Bench) -> None:
        big = build_icmp(packed(HOME), packed(PEER), 8, 0, bytes(4) + bytes(3000))
        assert [p for f in fragment_packet(big, 1500) for p in bench.send(f)] == fragment_packet(
            big, 1500
        )
        stranger = build_icmp(packed(OTHER), packed(HOME), 8, 0, bytes(4) + bytes(3000))
        assert [p for f in fragment_packet(stranger, 1500) for p in bench.send(f)] == []

    def test_no_fragment_of_an_answer_that_nobody_asked_for_passes(self, bench: Bench) -> None:
        answer = build_udp(packed(PEER), packed(HOME), 53, 5000, payload=bytes(3000))
        assert [p for f in fragment_packet(answer, 1500) for p in bench.send(f)] == []
        question = build_udp(packed(HOME), packed(PEER), 5000, 53, payload=bytes(2000))
        asked = fragment_packet(question, 1500)
        assert [p for f in asked for p in bench.send(f)] == asked

    def test_a_reload_takes_the_answers_away_too(self, bench: Bench, policy: Path) -> None:
        answer = echo(PEER, HOME, reply=True)
        bench.send(echo(HOME, PEER))
        assert bench.send(answer) == [answer]
        policy.write_text(POLICY.replace('["icmp", "icmpv6"]', '"icmpv6"'))
        bench.reload()
        bench.advance(0.1)
        assert bench.send(answer) == []


class TestLimit:
    def test_new_flows_of_one_source_are_limited(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text("[limit]\nnew_flows_per_second = 5\nburst = 5\n" + _without_home())
        bench = Bench(Firewall, policy=str(path))
        opened = [bench.udp(HOME, PEER, 53).client_sends(b"q") for _ in range(8)]
        assert opened == [True] * 5 + [False] * 3
        assert bench.udp("10.20.0.11", PEER, 53).client_sends(b"q")
        assert hits(bench)["new-flow-limit"] == 3
        bench.advance(1)
        assert bench.udp(HOME, PEER, 53).client_sends(b"q")

    def test_a_flow_over_the_limit_is_not_kept_and_may_try_again(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text("[limit]\nnew_flows_per_second = 1\nburst = 1\n" + _without_home())
        bench = Bench(Firewall, policy=str(path))
        bench.udp(HOME, PEER, 53).client_sends(b"q")
        late = bench.udp(HOME, PEER, 53)
        assert not late.client_sends(b"q")
        assert late.flow is None
        bench.advance(1)
        assert late.client_sends(b"q")

    def test_whoever_sends_is_charged_not_whom_it_names(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text(
            "midstream = 'block'\n[limit]\nnew_flows_per_second = 1\nburst = 1\n" + _without_home()
        )
        bench = Bench(Firewall, policy=str(path))
        for port in range(40000, 40005):  # as if a server answered: HOME would be the client
            ack = build_tcp(packed(PEER), packed(HOME), 443, port, seq=1, ack=1, flags=ACK)
            assert bench.send(ack) == []
        assert bench.udp(HOME, PEER, 53).client_sends(b"q")


class TestReload:
    def test_flows_that_are_still_allowed_live_on(self, bench: Bench, policy: Path) -> None:
        web, dns = bench.tcp(HOME, PEER, 443), bench.udp(HOME, PEER, 53)
        assert dns.client_sends(b"query")
        policy.write_text(POLICY + "# nothing that matters\n")
        bench.reload()
        bench.advance(0.1)
        assert web.client_sends(b"still here")
        assert web.server_sends(b"me too")
        assert dns.server_sends(b"answer")

    def test_flows_that_are_forbidden_now_get_the_new_verdict(
        self, bench: Bench, policy: Path
    ) -> None:
        web, kept = bench.tcp(HOME, PEER, 443), bench.tcp(HOME, PEER, 80)
        policy.write_text(
            POLICY.replace("[80, 443]", "80").replace("port = 23", "port = [23, 443]")
        )
        bench.reload()
        bench.advance(0.1)
        assert web.verdict == Verdict.REJECT
        assert not web.client_sends(b"gone")
        assert web.client_reset
        assert kept.client_sends(b"still here")
        assert hits(bench)["no-telnet"] == 1

    def test_the_policy_in_force_is_reported_with_its_warnings(
        self, bench: Bench, policy: Path
    ) -> None:
        policy.write_text(POLICY + _rule("again", "port = 80"))
        bench.reload()
        first, second = [e for e in bench.events if isinstance(e, PolicyLoaded)]
        assert (first.rules, first.warnings) == (6, [])
        assert second.rules == 7
        assert second.warnings == []
        policy.write_text(POLICY + _rule("again", 'port = 80\nopened_by = "home"'))
        bench.reload()
        assert "`again` is never reached" in str(bench.events[-1])

    def test_a_broken_policy_is_refused_and_the_old_one_stays(
        self, bench: Bench, policy: Path
    ) -> None:
        policy.write_text(POLICY + _rule("x", 'prot = "tcp"'))
        with pytest.raises((ConfigError, PluginError), match="did you mean `protocol`"):
            bench.reload()
        assert bench.tcp(HOME, PEER, 443).client_sends(b"hello")


class TestRestart:
    def test_flows_live_on(self, bench: Bench) -> None:
        web = bench.tcp(HOME, PEER, 443)
        inward = build_udp(packed(PEER), packed(HOME), 500, 500, payload=b"stranger")
        outward = build_udp(packed(HOME), packed(PEER), 500, 500, payload=b"home")
        bench.send(inward)
        bench.send(outward)
        bench.send(echo(HOME, PEER))
        bench.restart()
        bench.advance(2)
        assert web.server_sends(b"still here")
        assert bench.send(inward) == [inward]
        answer = echo(PEER, HOME, reply=True)
        assert bench.send(answer) == [answer]

    def test_a_policy_changed_meanwhile_counts(self, bench: Bench, policy: Path) -> None:
        web = bench.tcp(HOME, PEER, 443)
        policy.write_text(POLICY.replace("[80, 443]", "80"))
        bench.restart()
        bench.advance(2)
        assert not web.server_sends(b"still here")
        assert web.verdict == Verdict.BLOCK


class TestZones:
    def test_rules_of_another_zone_do_not_count(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text(
            _rule("prod-only", 'port = 80\nzone = "prod"')
            + _rule("here", 'port = 81\nzone="default"')
        )
        bench = Bench(Firewall, policy=str(path))
        assert bench.tcp(HOME, PEER, 80).verdict == Verdict.BLOCK
        assert bench.tcp(HOME, PEER, 81).client_sends(b"hello")


class TestReporting:
    def test_by_default_only_rules_that_ask_for_it_are_reported(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        path.write_text(_rule("quiet", "port = 80") + _rule("loud", "port = 81\nlog = true"))
        for log, expected in (("rules", ["loud"]), ("nothing", []), ("all", ["quiet", "loud"])):
            bench = Bench(Firewall, policy=str(path), log=log)
            bench.tcp(HOME, PEER, 80)
            bench.tcp(HOME, PEER, 81)
            assert [rule for _, rule in verdicts(bench)] == expected

    def test_a_verdict_event_names_its_flow(self, bench: Bench) -> None:
        bench.tcp(HOME, PEER, 23)
        (event,) = [e for e in bench.events if isinstance(e, FirewallVerdict)]
        assert event.flow is not None
        assert (event.flow.client_ip, event.flow.server_port) == (HOME, 23)
        assert event.reason == "tcp to port 23 is rejected"

    def test_the_end_of_a_refused_flow_names_rule_and_reason(self, bench: Bench) -> None:
        bench.tcp(HOME, PEER, 23)
        bench.close()
        (ended,) = [e for e in bench.events if isinstance(e, FlowEnded)]
        assert (ended.verdict, ended.rule) == ("reject", "no-telnet")


def test_without_a_policy_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, PluginError), match="no such file"):
        Bench(Firewall, policy=str(tmp_path / "none.toml"))


def _rule(name: str, more: str) -> str:
    return f'\n[[rule]]\nname = "{name}"\naction = "allow"\nprotocol = "tcp"\n{more}\n'


def _without_home() -> str:
    return '[[rule]]\nname = "dns"\naction = "allow"\nprotocol = "udp"\nport = 53\n'


def _ip(protocol: int, source: bytes, destination: bytes) -> bytes:
    return build_ip(source, destination, protocol, b"payload!")
