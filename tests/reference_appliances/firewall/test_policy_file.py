"""The policy language: what is accepted, and what people are told when something is not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from appliance_sdk import ConfigError
from reference_appliances.firewall.policy_file import parse_policy, read_policy
from reference_appliances.firewall.ruleset import Default, Limit, Ruleset

RULE = '[[rule]]\nname = "web"\naction = "allow"\n'


def parse(text: str) -> Ruleset:
    return parse_policy(tomllib.loads(text), path="p.toml")


def test_an_empty_policy_denies_everything() -> None:
    assert parse("") == Ruleset(rules=(), default=Default("block"), limit=Limit())
    assert parse("").midstream == "reject"


def test_everything_in_a_rule() -> None:
    ruleset = parse("""
        home = "10.0.0.0/8"
        midstream = "allow"
        [default]
        action = "reject"
        log = true
        [limit]
        new_flows_per_second = 10
        [sets]
        servers = ["192.0.2.4", "2001:db8::/32"]
        [ports]
        web = [443, 80, "8000-8080"]
        [[rule]]
        name = "web servers"
        action = "allow"
        reason = "the shop"
        zone = ["a", "b"]
        source = "10.1.0.0/16"
        destination = ["servers", "192.0.2.9"]
        protocol = ["tcp", "udp"]
        port = ["web", 81, "8081"]
        opened_by = "home"
        log = true
    """)
    (rule,) = ruleset.rules
    assert (rule.name, rule.action, rule.reason) == ("web servers", "allow", "the shop")
    assert rule.zones == ("a", "b")
    assert rule.sources == ("10.1.0.0/16",)
    assert rule.destinations == ("192.0.2.4", "2001:db8::/32", "192.0.2.9")
    assert rule.protocols == (6, 17)
    assert rule.ports == ((80, 81), (443, 443), (8000, 8081))
    assert (rule.opened_by, rule.log) == ("home", True)
    assert (ruleset.home, ruleset.midstream) == (("10.0.0.0/8",), "allow")
    assert ruleset.default == Default("reject", True)
    assert ruleset.limit.new_flows_per_second == 10


def test_what_a_rule_leaves_out_does_not_matter() -> None:
    (rule,) = parse(RULE).rules
    fields = (rule.zones, rule.sources, rule.destinations, rule.protocols, rule.ports)
    assert fields == (None, None, None, None, None)
    assert rule.opened_by == "any"
    assert rule.reason == "everything is allowed"


def test_a_rule_without_a_reason_tells_what_it_is_about() -> None:
    (rule,) = parse(
        'home = "10.0.0.0/8"\n' + RULE + 'protocol = "tcp"\nport = [80, "90-95"]\nopened_by="home"'
    ).rules
    assert rule.reason == "tcp to port 80, 90-95 opened from home is allowed"


def test_protocol_numbers_and_any() -> None:
    assert parse(RULE + "protocol = 47").rules[0].protocols == (47,)
    assert parse(RULE + 'protocol = ["50", "icmpv6"]').rules[0].protocols == (50, 58)
    assert parse(RULE + 'protocol = "any"').rules[0].protocols is None


@pytest.mark.parametrize(
    ("text", "key", "message", "hint"),
    [
        (RULE + 'prot = "tcp"', 'rule["web"].prot', "unknown key", "did you mean `protocol`?"),
        ("mid = 1", "mid", "unknown key", "did you mean `midstream`?"),
        (RULE + "protocol = 'tpc'", 'rule["web"].protocol', "unknown protocol", "`tcp`"),
        (RULE + 'protocol = "tcp"\nport = "²"', 'rule["web"].port', "`²` is no port", "a number"),
        (RULE + "protocol = '²'", 'rule["web"].protocol', "unknown protocol", ""),
        ("[limit]\nburst = nan", "limit.burst", "cannot be negative", "no limit"),
        (RULE + "protocol = 300", 'rule["web"].protocol', "no protocol", "0 to 255"),
        (
            RULE + 'source = "10.0.0.1/8"',
            'rule["web"].source',
            "not a network",
            "did you mean 10.0.0.0/8?",
        ),
        (RULE + 'source = ["10.0.0.0/8", "10.x/8"]', 'rule["web"].source[1]', "`10.x/8`", ""),
        (
            "[sets]\nservers = []\n" + RULE + 'source = "server"',
            'rule["web"].source',
            "no set `server`",
            "did you mean `servers`?",
        ),
        (RULE + 'source = "nowhere"', 'rule["web"].source', "no set", "there are no sets"),
        ('[sets]\na = "b"', "sets.a", "not a network", ""),
        ('[sets]\n"10.0.0.0/8" = "10.0.0.0/8"', "sets.10.0.0.0/8", "no name", "letter"),
        (
            RULE + 'protocol = "tcp"\nport = "90-80"',
            'rule["web"].port',
            "reversed",
            'did you mean "80-90"?',
        ),
        (RULE + 'protocol = "tcp"\nport = [1, 65536]', 'rule["web"].port[1]', "no port", "65535"),
        (RULE + 'protocol = "tcp"\nport = 0', 'rule["web"].port', "no port", "1 to 65535"),
        (RULE + 'protocol = "tcp"\nport = "8o"', 'rule["web"].port', "no port", "a number"),
        (
            "[ports]\nweb = 80\n" + RULE + 'protocol = "tcp"\nport = "webs"',
            'rule["web"].port',
            "no port set `webs`",
            "did you mean `web`?",
        ),
        (RULE + "port = 80", 'rule["web"].port', "only tcp and udp", '"tcp", "udp"'),
        (RULE + 'protocol = "icmp"\nport = 8', 'rule["web"].port', "only tcp and udp", ""),
        (RULE + 'opened_by = "home"', 'rule["web"].opened_by', "needs `home`", "home ="),
        (RULE + 'opened_by = "homes"', 'rule["web"].opened_by', "not possible", "`home`?"),
        (RULE + "source = []", 'rule["web"].source', "matches nothing", "leave the key out"),
        (RULE + RULE, 'rule["web"]', "name used twice", "rule[0]"),
        (RULE.replace("allow", "accept"), 'rule["web"].action', "`accept`", "allow"),
        (RULE.replace("allow", "blok"), 'rule["web"].action', "`blok`", "did you mean `block`?"),
        (RULE.replace("web", "default"), 'rule["default"].name', "is taken", "another"),
        (RULE.replace("web", "a;b"), 'rule["a;b"].name', "no rule name", "letters"),
        ('[[rule]]\naction = "allow"', "rule[0].name", "missing", ""),
        ("[[rule]]\nname = 5\naction = 'allow'", "rule[0].name", "expected `str`", ""),
        ('midstream = "continue"', "midstream", "not possible", "allow"),
        ('[default]\naction = "drop"', "default.action", "", ""),
        ("[limit]\nnew_flows_per_seconds = 5", "limit.new_flows_per_seconds", "unknown", "`new_f"),
        ("[limit]\nnew_flows_per_second = -5", "limit.new_flows_per_second", "negative", "0 ="),
        ('home = "10.0.0.0"\nhomes = 1', "homes", "unknown key", "did you mean `home`?"),
    ],
)
def test_errors_name_file_key_and_what_to_do(text: str, key: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.path == "p.toml"
    assert caught.value.key == key
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(caught.value).startswith(f"p.toml: {key}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        read_policy(tmp_path / "none.toml")
    assert "none.toml" in str(caught.value)


def test_a_ruleset_survives_the_way_to_another_process() -> None:
    ruleset = parse(RULE + 'protocol = "tcp"\nport = [80, "90-95"]\nsource = "10.0.0.0/8"')
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(msgspec.to_builtins(ruleset)))
    assert msgspec.convert(carried, Ruleset) == ruleset


@pytest.mark.parametrize(
    ("first", "second", "warning"),
    [
        ("", 'protocol = "tcp"', "never reached"),
        ('protocol = "tcp"', 'protocol = "tcp"\nport = 80', "never reached"),
        ('protocol = "tcp"\nport = "1-99"', 'protocol = "tcp"\nport = [5, "90-95"]', "reached"),
        ('source = "10.0.0.0/8"', 'source = ["10.1.0.0/16", "10.2.0.1"]', "never reached"),
        ('destination = "2001:db8::/32"', 'destination = "2001:db8:1::/48"', "never reached"),
        ("", 'opened_by = "home"', "never reached"),
        ('zone = ["a", "b"]', 'zone = "a"', "never reached"),
        ('protocol = "udp"', 'protocol = "tcp"', ""),
        ('protocol = "tcp"', "", ""),
        ('protocol = "tcp"\nport = "1-99"', 'protocol = "tcp"\nport = "90-100"', ""),
        ('protocol = "tcp"\nport = 80', 'protocol = "tcp"', ""),
        ('source = "10.1.0.0/16"', 'source = "10.0.0.0/8"', ""),
        ('source = "10.1.0.0/16"', "", ""),
        ('opened_by = "home"', "", ""),
        ('zone = "a"', "", ""),
        ('protocol = "udp"', 'source = "10.0.0.1"\ndestination = "::1"', "can never match"),
        ('protocol = "udp"', 'protocol = "icmp"\nsource = "::/0"', "icmpv6"),
        ('protocol = "udp"', 'source = "10.1.0.0/16"\nopened_by = "outside"', "all home"),
    ],
)
def test_rules_that_cannot_work_are_warned_about(first: str, second: str, warning: str) -> None:
    one = f'[[rule]]\nname = "one"\naction = "allow"\n{first}\n'
    two = f'[[rule]]\nname = "two"\naction = "block"\n{second}\n'
    warnings = parse(f'home = "10.0.0.0/8"\n{one}{two}').warnings
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)
    assert not warnings or "`two`" in warnings[0]
