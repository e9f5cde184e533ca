"""Flows written as text."""

from __future__ import annotations

import pytest

from appliance_sdk import ConfigError, Verdict
from reference_appliances.firewall.matcher import Matcher
from reference_appliances.firewall.probe import judge_probe, parse_probe
from reference_appliances.firewall.ruleset import Rule, Ruleset


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tcp 10.0.0.5:4000 -> 192.0.2.4:443", "tcp 10.0.0.5:4000 -> 192.0.2.4:443"),
        ("udp 10.0.0.5 ->192.0.2.4:53", "udp 10.0.0.5 -> 192.0.2.4:53"),
        ("tcp [fd00::5]:4000 -> [2001:db8::4]:443", "tcp [fd00::5]:4000 -> [2001:db8::4]:443"),
        ("icmp 10.0.0.5 -> 192.0.2.4", "icmp 10.0.0.5 -> 192.0.2.4"),
        ("icmpv6 fd00::5 -> [2001:db8::4]", "icmpv6 fd00::5 -> 2001:db8::4"),
        ("47 10.0.0.5 -> 192.0.2.4", "47 10.0.0.5 -> 192.0.2.4"),
    ],
)
def test_read_and_shown(text: str, shown: str) -> None:
    assert str(parse_probe(text)) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no flow"),
        ("tcp 10.0.0.5 192.0.2.4", "no flow"),
        ("tpc 10.0.0.5:1 -> 192.0.2.4:2", r"unknown protocol `tpc` \(did you mean `tcp`"),
        ("256 10.0.0.5 -> 192.0.2.4", "unknown protocol"),
        ("² 10.0.0.5 -> 192.0.2.4", "unknown protocol"),
        ("tcp 10.0.0.5:² -> 192.0.2.4:443", "`²` is no port"),
        ("tcp 10.0.0.5:1 -> 192.0.2.4", "to which port"),
        ("tcp 10.0.0.5:x -> 192.0.2.4:1", "`x` is no port"),
        ("tcp 10.0.0.5:1 -> 192.0.2.4:70000", "`70000` is no port"),
        ("tcp 10.0.0.300:1 -> 192.0.2.4:70", "`10.0.0.300` is no address"),
        ("tcp 10.0.0.5:1 -> [fd00::1]:70", "different IP versions"),
        ("icmp 10.0.0.5:1 -> 192.0.2.4", "only tcp and udp"),
        ("icmp fd00::1 -> fd00::2", "did you mean `icmpv6`"),
        ("icmpv6 10.0.0.5 -> 192.0.2.4", "did you mean `icmp`"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_probe(text)


def test_midstream_is_a_matter_of_tcp() -> None:
    matcher = Matcher(Ruleset(rules=(Rule(name="all", action="allow", reason=""),)), "default")
    tcp, udp = (parse_probe(f"{p} 10.0.0.5:1 -> 192.0.2.4:2") for p in ("tcp", "udp"))
    assert judge_probe(matcher, tcp).allowed
    assert judge_probe(matcher, tcp, midstream=True).verdict == Verdict.REJECT
    assert judge_probe(matcher, udp, midstream=True).allowed
