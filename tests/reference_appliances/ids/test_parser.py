"""Rules as text: what is understood, what is refused and how, and that nothing else happens."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance_sdk import ConfigError
from reference_appliances.ids.keywords import KEYWORDS
from reference_appliances.ids.problems import RuleError
from reference_appliances.ids.rule import Rule

from .conftest import parse

FULL = (
    'drop tcp $HOME_NET [1024:,!6000] <> [192.0.2.1, 192.0.2.9] 80 (msg:"A \\"bad\\"\\; thing"; '
    'flow:established,to_server; content:"x"; nocase; reference:url,example.com; '
    "reference:cve,2024-1; classtype:trojan-activity; metadata: a 1, b 2, a 3; "
    "sid:2000001; gid:3; rev:7; priority:5; noalert;)"
)


def test_everything_that_a_rule_says_about_itself() -> None:
    rule = parse(FULL)
    assert (rule.action, rule.protocol, rule.both_ways) == ("drop", "tcp", True)
    assert (rule.sid, rule.gid, rule.rev, rule.priority) == (2000001, 3, 7, 5)
    assert rule.message == 'A "bad"; thing'
    assert rule.category == "Trojan activity"
    assert rule.metadata == {"a": ["1", "3"], "b": ["2"]}
    assert rule.references == ("url,example.com", "cve,2024-1")
    assert rule.noalert
    assert (rule.path, rule.line) == ("test.rules", 7)


def test_the_class_gives_the_priority_unless_the_rule_does() -> None:
    def priority(body: str) -> int:
        return parse(f"alert ip any any -> any any ({body} sid:1;)").priority

    assert priority("") == 3
    assert priority("classtype:attempted-admin;") == 1
    assert priority("classtype:attempted-admin; priority:4;") == 4


@pytest.mark.parametrize("protocol", ["ip", "IP", "ipv6", "tcp", "tcp-pkt", "tcp-stream", "icmp"])
def test_protocols(protocol: str) -> None:
    rule = parse(f"alert {protocol} any any -> any any (sid:1;)")
    assert rule.protocol == protocol.lower()


@pytest.mark.parametrize(
    ("text", "keyword", "message"),
    [
        ('alert tcp any any -> any any (contents:"a"; sid:9;)', "contents", "`content`?"),
        ('alert tcp any any -> any any (http.uri; content:"a"; sid:9;)', "http.uri", "docs/ids.md"),
        ("alert http any any -> any any (sid:9;)", "protocol http", "`http` is not supported"),
        ('alert tcp any any -> any any (pcre:"/a/U"; sid:9;)', "pcre", "modifier `U`"),
        ("drop:flow tcp any any -> any any (sid:9;)", "action drop:flow", "`drop:flow` is not"),
        ("rejectboth tcp any any -> any any (sid:9;)", "action rejectboth", "is not supported"),
        ('alert tcp any any -> any any (content:"a"; depth:x; sid:9;)', "depth", "byte_extract"),
    ],
)
def test_what_is_not_supported_names_file_line_sid_and_keyword(
    text: str, keyword: str, message: str
) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    error = caught.value
    assert (error.path, error.line, error.sid, error.keyword) == ("test.rules", 7, 9, keyword)
    assert error.unsupported
    assert str(error).startswith(f"test.rules:7: sid 9: `{keyword}`: ")
    assert message in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alert tcp any any -> any any", "has no options"),
        ("alert tcp any any -> any any (sid:1;", "does not end with `)`"),
        ("alert tcp any any -> any (sid:1;)", "6 parts instead of 7"),
        ("alert tcp any any any any (sid:1;)", "6 parts instead of 7"),
        ("alert tcp any any <- any any (sid:1;)", "`<-` is no direction"),
        ("alrt tcp any any -> any any (sid:1;)", "did you mean `alert`?"),
        ("alert tpc any any -> any any (sid:1;)", "did you mean `tcp`?"),
        ('alert tcp any any -> any any (msg:"a";)', "has no sid"),
        ("alert tcp any any -> any any (sid:1)", "does not end with `;`"),
        ("alert tcp any any -> any any (sid:1; sid:2;)", "stands twice"),
        ("alert tcp any any -> any any (sid:0;)", "0 is not in"),
        ("alert tcp any any -> any any (sid:1; rev:x;)", "`x` is no number"),
        ("alert tcp any any -> any any (sid:1; classtype:trojan-activty;)", "`trojan-activity`?"),
        ("alert tcp any any -> any any (sid:1; reference:url;)", "needs a system"),
        ("alert tcp any any -> any any (sid:1; msg:bare;)", "double quotes"),
        ("alert tcp any any -> $HOMENET any (sid:1;)", "did you mean `HOME_NET`?"),
        ("alert tcp any any -> any any (sid:1; noalert:1;)", "takes no value"),
        ("alert tcp any any -> any any (" + 'content:"a"; ' * 300 + "sid:1;)", "more than 256"),
        ("alert tcp any any -> any any (sid:1;" + " " * 70_000 + ")", "longer than"),
        ("alert tcp any any -> any any (sid:1; \udfff\ud800;)", "is not text"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert not caught.value.unsupported


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alert udp any any -> any any (flow:only_stream; sid:1;)", "needs tcp"),
        ("alert tcp-stream any any -> any any (dsize:1; sid:1;)", "only about streams"),
        ("alert tcp any any -> any any (flow:only_stream; flags:S; sid:1;)", "only about streams"),
        ("alert tcp-stream any any -> any any (flow:no_stream; sid:1;)", "contradicts"),
        ("alert tcp-pkt any any -> any any (flow:only_stream; sid:1;)", "contradicts"),
        ("alert udp any any -> any any (flags:S; sid:1;)", "only tcp has flags"),
        ("alert icmp any any -> any 80 (sid:1;)", "ports of `icmp`"),
        ("alert sctp any 1 -> any any (sid:1;)", "ports of `sctp`"),
    ],
)
def test_a_rule_that_would_never_match_is_refused(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    assert message in str(caught.value)


PIECES = st.sampled_from(
    (
        *KEYWORDS,
        *'()[]!$:;,"|/\\-<>',
        *("alert", "tcp", "any", "->", "$HOME_NET", " ", "\n", "1", "|0", "\udc80", "é"),
        *("sid:1;", 'content:"|00|";', 'pcre:"/(a+)+$/R";', "10.0.0.0/8"),
    )
)
WORDS = st.lists(PIECES | st.text(max_size=5), max_size=25).map("".join)
BODIES = WORDS.map(lambda text: f"alert tcp any any -> any any ({text}sid:1;)")
VALUES = st.tuples(st.sampled_from([*KEYWORDS]), WORDS).map(
    lambda pair: f'alert tcp any any -> any any (content:"ab"; {pair[0]}:{pair[1]}; sid:1;)'
)


@given(WORDS | BODIES | VALUES)
@example('alert tcp any any -> any any (pcre:"/(?u)a/"; sid:1;)')
@example('alert tcp any any -> any any (pcre:"/a{99999999999}/"; sid:1;)')
@example('alert tcp any any -> any any (content:"|٣٣|"; sid:1;)')
@example("alert tcp any ٣ -> any any (dsize:٣; sid:1;)")
@example("alert tcp any any -> any any (content; sid:1;)")
def test_any_text_is_a_rule_or_a_configuration_error(text: str) -> None:
    try:
        rule = parse(text)
    except ConfigError as error:
        message = str(error)
    else:
        message = f"test.rules:{rule.line}: "
        assert isinstance(rule, Rule)
    assert message.startswith("test.rules:7: ")
    assert message.encode()
