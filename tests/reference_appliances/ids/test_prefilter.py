"""The automaton and the header index find what trying every rule would find."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_appliances.ids.classification import BUILT_IN
from reference_appliances.ids.compiled import CompiledRule
from reference_appliances.ids.detector import Detector
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.header import Ends
from reference_appliances.ids.header_index import HeaderIndex
from reference_appliances.ids.parser import parse_rule
from reference_appliances.ids.prefilter import Prefilter
from reference_appliances.ids.rule import ACTIONS, Ruleset
from reference_appliances.ids.settings import VARIABLES


def compiled(*texts: str) -> tuple[list[CompiledRule], Ruleset]:
    groups = Groups(VARIABLES)
    rules = [parse_rule(t, groups, BUILT_IN, path="t", line=n) for n, t in enumerate(texts)]
    ruleset = Ruleset(tuple(rules), groups.addresses, groups.ports)
    return Detector(ruleset, ACTIONS).rules, ruleset


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        ('content:"ab"; content:"LONG"; nocase;', b"long"),
        ('content:"aaaa"; content:"abcd";', b"abcd"),
        ('content:"ab"; fast_pattern; content:"longer";', b"ab"),
        ('content:"abcdef"; fast_pattern:2,3;', b"cde"),
        ('content:!"longer"; content:"ab";', b"ab"),
        ('content:!"ab";', None),
        ('pcre:"/a/";', None),
    ],
)
def test_the_fast_pattern(body: str, pattern: bytes | None) -> None:
    ((rule,), _) = compiled(f"alert tcp any any -> any any ({body} sid:1;)")
    assert rule.fast == pattern


@given(
    st.lists(st.text("abB", min_size=1, max_size=4), min_size=1, max_size=8),
    st.text("abB", max_size=12).map(str.encode),
)
def test_every_pattern_is_found_also_within_another(patterns: list[str], data: bytes) -> None:
    texts = [
        f'alert tcp any any -> any any (content:"{pattern}"; nocase; sid:{n};)'
        for n, pattern in enumerate(patterns, 1)
    ]
    rules, _ = compiled(*texts)
    hits = {rule.rule.sid: at for rule, at in Prefilter(rules).scan(data.lower()).items()}
    wanted = {
        n: data.lower().rfind(pattern.lower().encode())
        for n, pattern in enumerate(patterns, 1)
        if pattern.lower().encode() in data.lower()
    }
    assert hits == wanted


GROUPS = st.sampled_from(
    (
        *("any", "10.0.0.1", "[10.0.0.0/30,192.0.2.1]", "!10.0.0.2", "$HOME_NET"),
        *("10.0.0.2-10.0.0.5", "2001:db8::/126", "[2001:db8::1,10.0.0.3]"),
    )
)
PORTS = st.sampled_from(["any", "80", "[80,443]", "1024:", "!80", "78:82"])
HEADERS = st.tuples(GROUPS, PORTS, st.sampled_from(["->", "<>"]), GROUPS, PORTS)
V4 = st.integers(0, 6).map(lambda n: ipaddress.ip_address(f"10.0.0.{n}").packed)
V6 = st.integers(0, 4).map(lambda n: ipaddress.ip_address(f"2001:db8::{n}").packed)
PAIRS = st.tuples(V4, V4) | st.tuples(V6, V6)


@given(
    st.lists(HEADERS, max_size=12),
    st.lists(st.tuples(PAIRS, st.sampled_from([79, 80, 81, 443, 5000])), max_size=8),
)
def test_the_index_finds_every_header_that_matches(
    headers: list[tuple[str, ...]], packets: list[tuple[tuple[bytes, bytes], int]]
) -> None:
    texts = [
        f"alert tcp {source} {port} {arrow} {target} {to} (flow:to_server; sid:{n};)"
        for n, (source, port, arrow, target, to) in enumerate(headers, 1)
    ]
    rules, ruleset = compiled(*texts)
    index = HeaderIndex(rules, ruleset)
    assert bool(index) is bool(rules)
    for (source, destination), port in packets:
        ends = Ends(6, source, destination, 1024, port)
        assert index.candidates(ends) == [rule for rule in rules if rule.header.matches(ends)]


def test_protocols_and_families() -> None:
    def matches(head: str, ends: Ends) -> bool:
        ((rule,), _) = compiled(f"alert {head} (sid:1;)")
        return rule.header.matches(ends)

    v4 = Ends(6, b"\x0a\0\0\1", b"\x0a\0\0\2", 1000, 80)
    v6 = Ends(17, b"\xfd" + b"\0" * 15, b"\xfd" + b"\1" * 15, 1000, 80)
    icmp = Ends(1, b"\x0a\0\0\1", b"\x0a\0\0\2", 0, 0)
    assert matches("tcp any any -> any 80", v4)
    assert matches("ip any any -> any 80", v6)
    assert not matches("ip any any -> any 80", icmp)
    assert matches("ip any any -> any any", icmp)
    assert matches("icmp any any -> any any", icmp)
    assert not matches("udp any any -> any any", v4)
    assert matches("ipv6 any any -> any any", v6)
    assert not matches("ipv6 any any -> any any", v4)
    assert matches("tcp any 80 <> any any", v4)
    assert not matches("tcp any 80 -> any any", v4)
