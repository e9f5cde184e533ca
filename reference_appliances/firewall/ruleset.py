"""A firewall policy as it is applied: every set resolved, every name replaced by what it means."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

RuleAction: TypeAlias = Literal["allow", "block", "reject"]
OpenedBy: TypeAlias = Literal["home", "outside", "any"]

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
PROTOCOL_NUMBERS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "icmpv6": ICMPV6}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}
WITH_PORTS = frozenset((TCP, UDP))

DEFAULT, MIDSTREAM, LIMIT, RELATED = "default", "midstream", "new-flow-limit", "related"
RESERVED_NAMES = frozenset((DEFAULT, MIDSTREAM, LIMIT, RELATED))
"""What stands for a rule in verdicts and counters when no rule decided."""


class Rule(msgspec.Struct, frozen=True):
    """One rule. None in a field means that it does not matter."""

    name: str
    action: RuleAction
    reason: str
    zones: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    """Networks of the end that opened the flow."""
    destinations: tuple[str, ...] | None = None
    protocols: tuple[int, ...] | None = None
    """IP protocol numbers."""
    ports: tuple[tuple[int, int], ...] | None = None
    """Server ports, as sorted, disjoint ranges with both ends included."""
    opened_by: OpenedBy = "any"
    log: bool = False


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[limit]` table: how fast one source may open flows, over all workers."""

    new_flows_per_second: float = 1000
    """A busy browser opens some tens a second, a scanner ten thousands; 0 = no limit."""
    burst: float = 0
    """Flows that may come at once; 0 = what two seconds allow."""


class Default(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[default]` table: what happens to flows that no rule matches."""

    action: RuleAction = "block"
    log: bool = False


class Ruleset(msgspec.Struct, frozen=True):
    """The whole policy; plain data with `msgspec.to_builtins`, so that processes can pass it on."""

    rules: tuple[Rule, ...]
    home: tuple[str, ...] = ()
    midstream: RuleAction = "reject"
    default: Default = Default()
    limit: Limit = Limit()
    warnings: tuple[str, ...] = ()


def is_number(text: str) -> bool:
    """Whether `int` takes this text, as far as ports and protocols go: "²" is a digit, too."""
    return text.isascii() and text.isdigit() and len(text) < 10


def protocol_number(name: str) -> int:
    """The number of a protocol as a `Flow` names it: "tcp", "udp", … or digits."""
    return PROTOCOL_NUMBERS[name] if name in PROTOCOL_NUMBERS else int(name)


def protocol_name(number: int) -> str:
    """ "tcp", "udp", "icmp", "icmpv6", else the number as text."""
    return PROTOCOL_NAMES.get(number, str(number))


def describe_ports(ports: tuple[tuple[int, int], ...]) -> str:
    """Port ranges as people write them: "80, 443, 8000-8080"."""
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ports)
