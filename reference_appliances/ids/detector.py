"""All rules, sorted into what a packet of some protocol and direction has to be held against."""

from __future__ import annotations

from collections.abc import Sequence

from reference_appliances.ids.compiled import CompiledRule
from reference_appliances.ids.header import Sets
from reference_appliances.ids.header_index import HeaderIndex
from reference_appliances.ids.prefilter import Prefilter
from reference_appliances.ids.rule import (
    ICMP,
    ICMPV6,
    PROTOCOLS,
    TCP,
    UDP,
    Rule,
    RuleAction,
    Ruleset,
)

_OTHERS = 0
_NUMBERS = (TCP, UDP, ICMP, ICMPV6, _OTHERS)


class Matchers:
    """Rules of one kind: those with a fast pattern, and the others by their header."""

    __slots__ = ("index", "prefilter")

    def __init__(self, rules: Sequence[CompiledRule], ruleset: Ruleset) -> None:
        self.prefilter = Prefilter(rules)
        self.index = HeaderIndex([rule for rule in rules if rule.fast is None], ruleset)

    def __bool__(self) -> bool:
        return bool(self.prefilter) or bool(self.index)


class Group:
    """The rules for one protocol and one direction of its flows."""

    __slots__ = ("ip_only", "packets", "stream")

    def __init__(self, rules: Sequence[CompiledRule], ruleset: Ruleset, *, tcp: bool) -> None:
        self.ip_only = HeaderIndex([rule for rule in rules if rule.ip_only], ruleset)
        others = [rule for rule in rules if not rule.ip_only]
        if tcp:
            of_packets = [rule for rule in others if rule.in_packets]
            of_streams = [rule for rule in others if rule.in_stream]
        else:
            of_packets, of_streams = [r for r in others if r.about_flow or not r.stream_only], []
        self.packets = Matchers(of_packets, ruleset)
        self.stream = Matchers(of_streams, ruleset)

    def __bool__(self) -> bool:
        return bool(self.ip_only) or bool(self.packets) or bool(self.stream)


class Detector:
    """A ruleset, compiled."""

    def __init__(self, ruleset: Ruleset, action_order: Sequence[RuleAction]) -> None:
        sets = Sets(ruleset)
        ordered = sorted(
            ruleset.rules, key=lambda rule: (action_order.index(rule.action), rule.priority)
        )
        negated = {name for name, group in ruleset.addresses.items() if group.negated}
        self.rules = [
            CompiledRule(
                rule, order, sets, negated=not negated.isdisjoint((rule.source, rule.destination))
            )
            for order, rule in enumerate(ordered)
        ]
        self._groups = {
            (number, to_server): Group(
                [
                    rule
                    for rule in self.rules
                    if _is_about(rule.rule, number) and rule.to_server in (None, to_server)
                ],
                ruleset,
                tcp=number == TCP,
            )
            for number in _NUMBERS
            for to_server in (True, False)
        }

    def group(self, protocol: int, to_server: bool) -> Group:
        """The rules to try on packets of an IP protocol, in one direction of their flow."""
        return self._groups[protocol if protocol in _NUMBERS else _OTHERS, to_server]


def _is_about(rule: Rule, number: int) -> bool:
    numbers = PROTOCOLS[rule.protocol].numbers
    if number == _OTHERS:
        return not numbers or any(n not in _NUMBERS for n in numbers)
    return not numbers or number in numbers
