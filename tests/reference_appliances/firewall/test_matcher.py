"""First match wins, checked against the plainest reading of the rules there is."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk import Verdict
from reference_appliances.firewall.matcher import Matcher
from reference_appliances.firewall.ruleset import Default, Rule, Ruleset

HOME = ("10.0.0.0/8", "fd00::/8")
ADDRESSES = ["10.0.0.1", "10.1.0.1", "192.0.2.1", "192.0.2.200", "fd00::1", "2001:db8::1"]
NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/25", "0.0.0.0/0", "fd00::/16", "::/0"]


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def rule(name: str, action: str = "allow", **fields: object) -> Rule:
    return Rule(name=name, action=action, reason=f"because {name}", **fields)  # type: ignore[arg-type]


def plain(ruleset: Ruleset, zone: str, protocol: int, source: str, target: str, port: int) -> str:
    """The name of the deciding rule, looked for one by one."""

    def within(address: str, cidrs: tuple[str, ...] | None) -> bool:
        ip = ipaddress.ip_address(address)
        return cidrs is None or any(ip in ipaddress.ip_network(cidr) for cidr in cidrs)

    for r in ruleset.rules:
        home = within(source, ruleset.home)
        if (
            (r.zones is None or zone in r.zones)
            and (r.protocols is None or protocol in r.protocols)
            and (r.ports is None or any(low <= port <= high for low, high in r.ports))
            and within(source, r.sources)
            and within(target, r.destinations)
            and r.opened_by in ("any", "home" if home else "outside")
        ):
            return r.name
    return "default"


ranges = st.tuples(st.integers(1, 9), st.integers(0, 5)).map(lambda t: (t[0], t[0] + t[1]))
cidrs = st.none() | st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3).map(tuple)
rules = st.lists(
    st.builds(
        Rule,
        name=st.uuids().map(str),
        action=st.sampled_from(["allow", "block", "reject"]),
        reason=st.just("r"),
        zones=st.sampled_from([None, ("a",), ("a", "b"), ("b",)]),
        sources=cidrs,
        destinations=cidrs,
        protocols=st.sampled_from([None, (6,), (6, 17), (47,)]),
        ports=st.none() | st.lists(ranges, min_size=1, max_size=2).map(tuple),
        opened_by=st.sampled_from(["home", "outside", "any"]),
    ),
    max_size=8,
).map(tuple)


@given(
    rules,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([6, 17, 47, 50]),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.integers(0, 16),
)
def test_the_index_agrees_with_reading_the_rules_in_order(
    given_rules: tuple[Rule, ...], zone: str, protocol: int, source: str, target: str, port: int
) -> None:
    ruleset = Ruleset(rules=given_rules, home=HOME)
    judgement = Matcher(ruleset, zone).judge(protocol, packed(source), packed(target), port)
    assert judgement.verdict.rule == plain(ruleset, zone, protocol, source, target, port)


def test_verdicts_carry_reason_and_rule() -> None:
    ruleset = Ruleset(
        rules=(
            rule("no", "block", protocols=(6,), ports=((23, 23),), log=True),
            rule("smb", "reject", protocols=(6,), ports=((445, 445),)),
            rule("yes", protocols=(6,)),
        ),
        default=Default("reject"),
    )
    matcher = Matcher(ruleset, "default")
    one, two = packed("10.0.0.1"), packed("10.0.0.2")
    blocked = matcher.judge(6, one, two, 23)
    assert (blocked.verdict, blocked.allowed, blocked.log) == (Verdict.BLOCK, False, True)
    assert (blocked.verdict.reason, blocked.verdict.rule) == ("because no", "no")
    assert matcher.judge(6, one, two, 445).verdict == Verdict.REJECT
    assert matcher.judge(6, one, two, 24).verdict == Verdict.DONE
    assert matcher.judge(6, one, two, 24).allowed
    other = matcher.judge(17, one, two, 23).verdict
    assert (other, other.rule, other.reason) == (Verdict.REJECT, "default", "no rule allows it")


def test_the_edges_of_port_ranges() -> None:
    ruleset = Ruleset(rules=(rule("r", protocols=(6,), ports=((1, 1), (80, 90), (65535, 65535))),))
    matcher = Matcher(ruleset, "default")
    one, two = packed("10.0.0.1"), packed("10.0.0.2")
    allowed = [p for p in range(65536) if matcher.judge(6, one, two, p).allowed]
    assert allowed == [1, *range(80, 91), 65535]


def test_midstream_is_judged_by_the_rules_only_if_the_policy_says_so() -> None:
    assert Matcher(Ruleset(rules=(), midstream="allow"), "default").midstream is None
    rejecting = Matcher(Ruleset(rules=()), "default").midstream
    assert rejecting is not None
    assert rejecting.verdict == Verdict.REJECT
    assert rejecting.verdict.rule == "midstream"
