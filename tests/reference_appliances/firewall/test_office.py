"""The shipped capture under the shipped policy: recorded programs, known verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from appliance_sdk import FlowEnded
from appliance_sdk.testing import Bench
from reference_appliances.firewall import Firewall
from reference_appliances.firewall.policy_file import read_policy
from reference_appliances.firewall.report import Row, flow_rows, hit_rows

EXAMPLES = files("reference_appliances.firewall") / "examples"


@pytest.fixture(scope="module")
def office() -> Iterator[Bench]:
    with as_file(EXAMPLES / "office.pcap") as capture, as_file(EXAMPLES / "policy.toml") as policy:
        bench = Bench(Firewall, policy=str(policy), log="all")
        bench.replay(capture)
        bench.close()
        yield bench


def rows(office: Bench, *, rule: str) -> list[Row]:
    return [row for row in flow_rows(office.events) if row.rule == rule]


def test_the_capture_is_small_and_has_all_sorts() -> None:
    with as_file(EXAMPLES / "office.pcap") as capture:
        assert 100_000 < Path(capture).stat().st_size < 250_000


@pytest.mark.parametrize(
    ("rule", "verdict", "flows"),
    [
        ("dns", "allow", 3),
        ("web", "allow", 5),
        ("admin-ssh", "allow", 1),
        ("time", "allow", 1),
        ("ping", "allow", 2),
        ("traceroute", "allow", 6),
        ("no-telnet", "reject", 1),
        ("guests-web-only", "reject", 2),
        ("no-plain-mail", "block", 1),
        ("no-smb", "reject", 1),
        ("no-inbound", "block", 4),
        ("midstream", "reject", 1),
        ("default", "block", 1),
    ],
)
def test_each_rule_decides_what_it_is_there_for(
    office: Bench, rule: str, verdict: str, flows: int
) -> None:
    found = rows(office, rule=rule)
    assert len(found) == flows
    assert {row.verdict for row in found} == {verdict}
    assert office.engine.metrics[f"firewall.hits.{rule}"] == flows


def test_errors_pass_with_the_flow_that_they_are_about(office: Bench) -> None:
    related = {(row.flow, row.verdict, row.reason) for row in rows(office, rule="related")}
    passed, dropped = "an error about an allowed flow", "an error about no allowed flow"
    assert ("icmp 10.20.0.1 -> 10.20.0.10", "allow", passed) in related  # too big, time exceeded
    assert ("icmpv6 fd00:20::1 -> fd00:20::10", "allow", passed) in related
    assert ("icmp 10.30.0.80 -> 10.20.0.10", "allow", passed) in related  # port unreachable
    assert ("icmp 10.30.0.10 -> 10.20.0.10", "drop", dropped) in related  # 4433 was blocked
    assert ("icmp 10.20.0.10 -> 10.30.0.99", "drop", "an answer nobody asked for") in related


def test_a_datagram_from_port_53_is_no_answer(office: Bench) -> None:
    (row,) = [r for r in rows(office, rule="no-inbound") if r.flow.startswith("udp")]
    assert row.flow == "udp 10.30.0.99:53 -> 10.20.0.10:5353"
    assert row.verdict == "block"


def test_allowed_connections_came_to_their_own_end(office: Bench) -> None:
    ended = [e for e in office.events if isinstance(e, FlowEnded) and e.flow is not None]
    tcp = [e for e in ended if e.flow and e.flow.protocol == "tcp" and e.verdict == "forward"]
    assert len(tcp) == 7  # five web, ssh, dns over tcp
    assert {e.end_reason for e in tcp} == {"fin"}


def test_nothing_failed_and_everything_is_accounted_for(office: Bench) -> None:
    engine = office.engine
    assert set(engine.drops) == {"plugin_block", "plugin_drop", "plugin_reject"}
    assert engine.received == engine.forwarded + sum(engine.drops.values())
    assert not engine.degraded
    assert not any(name.endswith("error") for name in engine.metrics)


def test_hits_are_listed_in_the_order_of_the_policy(office: Bench) -> None:
    with as_file(EXAMPLES / "policy.toml") as policy:
        ruleset = read_policy(policy)
    hits = hit_rows(ruleset, office.engine.metrics)
    names = [rule.name for rule in ruleset.rules]
    assert [row.rule for row in hits] == [*names, "(default)", "(midstream)", "(related)"]
    assert ("5", "allow", "web") in hits
    assert hit_rows(ruleset, {})[0] == ("0", "reject", "no-telnet")


def test_the_shipped_policy_has_no_warnings() -> None:
    with as_file(EXAMPLES / "policy.toml") as policy:
        assert read_policy(policy).warnings == ()
