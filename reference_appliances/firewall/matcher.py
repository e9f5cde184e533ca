"""First match wins: a ruleset turned into an index by protocol and server port."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from appliance_sdk import CidrSet, Verdict
from reference_appliances.firewall.ruleset import DEFAULT, MIDSTREAM, Rule, RuleAction, Ruleset

_VERDICTS = {"allow": Verdict.DONE, "block": Verdict.BLOCK, "reject": Verdict.REJECT}


class Judgement(NamedTuple):
    """What the policy says about a flow, and why."""

    verdict: Verdict
    """DONE, BLOCK or REJECT, with reason and rule."""
    log: bool

    @property
    def allowed(self) -> bool:
        """Whether the flow may be."""
        return not self.verdict.terminal


class _Candidate(NamedTuple):
    sources: CidrSet | None
    destinations: CidrSet | None
    opened_by_home: bool | None
    judgement: Judgement


class _Ports(NamedTuple):
    """Of one protocol: `candidates[i]` are for ports from `starts[i]` to before the next start."""

    starts: list[int]
    candidates: list[tuple[_Candidate, ...]]


class Matcher:
    """The rules of one zone, ready to judge.

    The port range is cut where any rule's ports begin or end; for each piece the rules that can
    match there are kept, in their order. One bisection replaces the walk past all others.
    """

    def __init__(self, ruleset: Ruleset, zone: str) -> None:
        self._home = CidrSet(ruleset.home)
        self._default = _judgement(
            ruleset.default.action, _default_reason(ruleset), DEFAULT, ruleset.default.log
        )
        self.midstream: Judgement | None = None
        """For flows whose beginning was not seen; None = judge them by the rules."""
        if ruleset.midstream != "allow":
            reason = "the beginning of this connection was not seen"
            log = ruleset.default.log
            self.midstream = _judgement(ruleset.midstream, reason, MIDSTREAM, log)
        sets: dict[tuple[str, ...], CidrSet] = {}
        pairs = [
            (rule, _candidate(rule, sets))
            for rule in ruleset.rules
            if rule.zones is None or zone in rule.zones
        ]
        listed = {number for rule, _ in pairs for number in rule.protocols or ()}
        self._by_protocol = {
            number: _index([p for p in pairs if _has_protocol(p[0], number)]) for number in listed
        }
        self._others = _index([p for p in pairs if p[0].protocols is None])

    def judge(self, protocol: int, opener: bytes, target: bytes, port: int) -> Judgement:
        """Judge a flow by who opened it (packed address), to whom, and the server port (0 = none).

        Each end of a flow may be asked about as opener; nothing is remembered here.
        """
        ports = self._by_protocol.get(protocol, self._others)
        for sources, destinations, by_home, judgement in ports.candidates[
            bisect_right(ports.starts, port) - 1
        ]:
            if (
                (by_home is None or (opener in self._home) is by_home)
                and (sources is None or opener in sources)
                and (destinations is None or target in destinations)
            ):
                return judgement
        return self._default


def _candidate(rule: Rule, sets: dict[tuple[str, ...], CidrSet]) -> _Candidate:
    def shared(cidrs: tuple[str, ...] | None) -> CidrSet | None:
        if cidrs is None:
            return None
        if cidrs not in sets:
            sets[cidrs] = CidrSet(cidrs)
        return sets[cidrs]

    return _Candidate(
        shared(rule.sources),
        shared(rule.destinations),
        None if rule.opened_by == "any" else rule.opened_by == "home",
        _judgement(rule.action, rule.reason, rule.name, rule.log),
    )


def _judgement(action: RuleAction, reason: str, rule: str, log: bool) -> Judgement:
    return Judgement(_VERDICTS[action].because(reason, rule=rule), log)


def _default_reason(ruleset: Ruleset) -> str:
    return "no rule forbids it" if ruleset.default.action == "allow" else "no rule allows it"


def _has_protocol(rule: Rule, number: int) -> bool:
    return rule.protocols is None or number in rule.protocols


def _index(pairs: Sequence[tuple[Rule, _Candidate]]) -> _Ports:
    starts = {0}
    for rule, _ in pairs:
        for low, high in rule.ports or ():
            starts.update((low, high + 1))
    ordered = sorted(starts)
    return _Ports(
        ordered,
        [tuple(c for rule, c in pairs if _has_port(rule, start)) for start in ordered],
    )


def _has_port(rule: Rule, port: int) -> bool:
    return rule.ports is None or any(low <= port <= high for low, high in rule.ports)
