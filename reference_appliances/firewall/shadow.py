"""Warnings about rules that cannot do what their author thinks they do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from reference_appliances.firewall.ruleset import ICMP, ICMPV6, Rule

_Key: TypeAlias = tuple[int, int, int]
"""IP version, first address, prefix length."""


class _Nets:
    """Networks, asked whether they hold others; None is every address."""

    def __init__(self, cidrs: Sequence[str] | None) -> None:
        networks = [ipaddress.ip_network(cidr) for cidr in cidrs or ()]
        self.every = cidrs is None
        self.keys = [(n.version, int(n.network_address), n.prefixlen) for n in networks]
        self.known = set(self.keys)
        self.versions = {4, 6} if self.every else {n.version for n in networks}

    def hold(self, other: _Nets) -> bool:
        """Whether each of the other's networks lies within one of these."""
        if self.every or other.every:
            return self.every
        return all(not self.known.isdisjoint(_around(key)) for key in other.keys)


class _Above:
    """The rules above, found by the networks that they name at one end."""

    def __init__(self) -> None:
        self._every: list[int] = []
        self._by_key: dict[_Key, list[int]] = {}

    def add(self, index: int, nets: _Nets) -> None:
        if nets.every:
            self._every.append(index)
        for key in nets.known:
            self._by_key.setdefault(key, []).append(index)

    def candidates(self, nets: _Nets) -> set[int]:
        """Those that hold the first of these networks, without which they hold not all."""
        found = set(self._every)
        for key in _around(nets.keys[0]) if nets.keys else ():
            found.update(self._by_key.get(key, ()))
        return found


def warnings_about(rules: Sequence[Rule], home: Sequence[str]) -> Iterator[str]:
    """One line for each rule that is never reached, or that can never match, in order.

    A rule counts as never reached if one single rule above it matches all that it matches; rules
    that hide another only together are not looked for.
    """
    nets: list[tuple[_Nets, _Nets]] = []
    by_source, by_destination = _Above(), _Above()
    home_nets = _Nets(tuple(home))
    for index, rule in enumerate(rules):
        sources, destinations = _Nets(rule.sources), _Nets(rule.destinations)
        nets.append((sources, destinations))
        if problem := _impossible(rule, sources, destinations, home_nets):
            yield f"rule `{rule.name}` can never match: {problem}"
            continue
        for above in sorted(
            by_source.candidates(sources) & by_destination.candidates(destinations)
        ):
            if (
                _covers(rules[above], rule)
                and nets[above][0].hold(sources)
                and nets[above][1].hold(destinations)
            ):
                same = rules[above].action == rule.action
                effect = "it changes nothing" if same else f"{rule.action} never happens"
                yield (
                    f"rule `{rule.name}` is never reached: `{rules[above].name}` above it matches "
                    f"all that it matches, so {effect}"
                )
                break
        by_source.add(index, sources)
        by_destination.add(index, destinations)


def _around(key: _Key) -> Iterator[_Key]:
    """The network itself and every one that holds it."""
    version, start, length = key
    bits = 32 if version == 4 else 128
    for shorter in range(length, -1, -1):
        shift = bits - shorter
        yield version, start >> shift << shift, shorter


def _impossible(rule: Rule, sources: _Nets, destinations: _Nets, home: _Nets) -> str:
    both = sources.versions & destinations.versions
    if not both:
        return "source and destination are of different IP versions"
    if rule.protocols == (ICMP,) and 4 not in both:
        return "icmp is IPv4 only; the IPv6 one is icmpv6"
    if rule.protocols == (ICMPV6,) and 6 not in both:
        return "icmpv6 is IPv6 only; the IPv4 one is icmp"
    if rule.opened_by == "outside" and not sources.every and home.hold(sources):
        return 'its sources are all home, yet it says opened_by = "outside"'
    return ""


def _covers(above: Rule, below: Rule) -> bool:
    """Whether `above` matches all that `below` matches, addresses aside."""
    if above.opened_by not in ("any", below.opened_by):
        return False
    if not _holds_all(above.protocols, below.protocols) or not _holds_all(above.zones, below.zones):
        return False
    if above.ports is None:
        return True
    return below.ports is not None and all(
        any(low <= start and end <= high for low, high in above.ports) for start, end in below.ports
    )


def _holds_all(above: tuple[object, ...] | None, below: tuple[object, ...] | None) -> bool:
    return above is None or (below is not None and set(below) <= set(above))
