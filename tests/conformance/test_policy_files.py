"""The policy that is handed over: its three files agree, and what is said of it is in it."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from appliance_sdk.conformance.conversation import OTHER_ENDPOINT
from appliance_sdk.conformance.policy_files import (
    FOLDER,
    RULES,
    TEXT,
    Policy,
    policy_text,
    read_policy,
    rules_text,
)
from reference_appliances.firewall.matcher import Matcher
from reference_appliances.firewall.policy_file import read_policy as read_toml_policy
from reference_appliances.ids import Ids

FIREWALL = Path(__file__).parents[2] / "reference_appliances" / "firewall"
HOSTS = [
    *("192.0.2.1", "192.0.2.191", "192.0.2.192", "192.0.2.255", "192.0.3.1"),
    *("203.0.113.7", "203.0.113.8", "203.0.113.15", "203.0.113.25", "203.0.113.26"),
    *("203.0.113.127", "203.0.113.128", "203.0.114.1", "198.18.0.1", "198.19.255.254"),
    *("2001:db8:1::1", "2001:db8:1:bad::1", "2001:db8:2::1", "2001:db8:2::25"),
    *("2001:db8:2:1::1", "2001:db8:2:2::1", "2001:db8:3::1", "2001:2:0:1::1", "2001:2:0:2::1"),
]
PROTOCOLS = {"tcp": 6, "udp": 17, "gre": 47}


def decide(policy: Policy, protocol: str, ends: tuple[str, str], port: int, endpoint: str) -> str:
    """The policy as its text explains it, in as few words as can be."""
    for rule in policy.rules:
        networks = zip((rule.source, rule.destination), ends, strict=True)
        if (
            rule.protocol in ("any", protocol)
            and rule.port in (0, port)
            and rule.endpoint in ("any", endpoint)
            and all(net == "any" or _is_in(address, net) for net, address in networks)
        ):
            return rule.action
    return policy.default


def _is_in(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


@pytest.mark.parametrize(("name", "made"), [(TEXT, policy_text), (RULES, rules_text)])
def test_what_is_made_from_the_policy_is_up_to_date(name: str, made: object) -> None:
    assert callable(made)
    assert (FOLDER / name).read_text() == made(read_policy()), "run: python tests/docs/generate.py"


def test_the_table_has_every_rule_in_words_between_blanks() -> None:
    policy = read_policy()
    lines = (FOLDER / TEXT).read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert [row[-1] for row in rows] == [*(rule.name for rule in policy.rules), "default"]
    assert {len(row) for row in rows} == {7}


@pytest.mark.parametrize("endpoint", ["", OTHER_ENDPOINT])
def test_the_reference_firewall_has_the_same_policy(endpoint: str) -> None:
    policy = read_policy()
    ruleset = read_toml_policy(FIREWALL / "examples" / "conformance.toml")
    assert ruleset.warnings == ()
    matcher = Matcher(ruleset, "other" if endpoint else "default")
    words = {"allow": "DONE", "drop": "BLOCK", "reject": "REJECT"}
    for client, server in itertools.permutations(HOSTS, 2):
        source, target = ipaddress.ip_address(client), ipaddress.ip_address(server)
        if source.version != target.version:
            continue
        numbers = PROTOCOLS | {"icmp": 1 if source.version == 4 else 58}
        for protocol, number in numbers.items():
            for port in (22, 23, 25, 53, 69, 80, 443) if protocol in ("tcp", "udp") else (0,):
                expected = decide(policy, protocol, (client, server), port, endpoint)
                judged = matcher.judge(number, source.packed, target.packed, port)
                flow = (protocol, client, server, port)
                assert judged.verdict.action.name == words[expected], flow


def test_the_reference_ids_can_use_every_rule() -> None:
    config = Ids.config_type(rules=(str(FOLDER / RULES),))  # type: ignore[call-arg]
    loaded = Ids.load(config)  # type: ignore[arg-type]
    assert not loaded["problems"]
    assert [rule["sid"] for rule in loaded["rules"]] == [s.sid for s in read_policy().signatures]
