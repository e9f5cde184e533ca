"""A rule as it was understood: plain data that one process reads and another one applies."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from reference_appliances.ids.keywords import AnyOption

RuleAction: TypeAlias = Literal["alert", "drop", "reject", "pass"]
ACTIONS: tuple[RuleAction, ...] = ("alert", "drop", "reject", "pass")

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
WITH_PORTS = (TCP, UDP)


_NUMBERS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "icmpv6": ICMPV6}


def protocol_number(name: str) -> int:
    """The number of a protocol as a `Flow` names it: "tcp", "udp", … or digits."""
    return _NUMBERS[name] if name in _NUMBERS else int(name)


class Addresses(msgspec.Struct, frozen=True):
    """An address group, resolved: ranges of packed addresses, both ends included."""

    v4: tuple[tuple[bytes, bytes], ...]
    v6: tuple[tuple[bytes, bytes], ...]
    negated: bool = False
    """It is written with a `!`, which makes a difference to when a rule is tried."""


class Ports(msgspec.Struct, frozen=True):
    """A port group, resolved."""

    ranges: tuple[tuple[int, int], ...]


class Protocol(msgspec.Struct, frozen=True):
    """What stands behind the action: which packets, and whether streams or packets are meant."""

    name: str
    numbers: tuple[int, ...] = ()
    """IP protocol numbers; empty = all."""
    version: int = 0
    """4 or 6; 0 = both."""
    packets: bool = False
    """`tcp-pkt`: each packet's own payload."""
    streams: bool = False
    """`tcp-stream`: the stream only."""


class Rule(msgspec.Struct, frozen=True):
    """One rule. The groups are names into `Ruleset.addresses` and `ports`; "" matches all."""

    action: RuleAction
    protocol: str
    source: str
    source_port: str
    destination: str
    destination_port: str
    both_ways: bool
    sid: int
    gid: int = 1
    rev: int = 0
    message: str = ""
    classtype: str = ""
    priority: int = 3
    category: str = ""
    references: tuple[str, ...] = ()
    metadata: dict[str, list[str]] = {}
    noalert: bool = False
    options: tuple[AnyOption, ...] = ()
    """What must hold, in the order of the rule."""
    line: int = 0
    path: str = ""


class Ruleset(msgspec.Struct, frozen=True):
    """Everything that was loaded; plain data with `msgspec.to_builtins`."""

    rules: tuple[Rule, ...] = ()
    addresses: dict[str, Addresses] = {}
    ports: dict[str, Ports] = {}
    problems: tuple[str, ...] = ()
    """What was skipped, if that is allowed."""


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("ip"),
        Protocol("pkthdr"),
        Protocol("ip4", version=4),
        Protocol("ipv4", version=4),
        Protocol("ip6", version=6),
        Protocol("ipv6", version=6),
        Protocol("tcp", (TCP,)),
        Protocol("tcp-pkt", (TCP,), packets=True),
        Protocol("tcp-stream", (TCP,), streams=True),
        Protocol("udp", (UDP,)),
        Protocol("icmp", (ICMP, ICMPV6)),
        Protocol("icmpv4", (ICMP,)),
        Protocol("icmpv6", (ICMPV6,)),
        Protocol("sctp", (132,)),
    )
}

APP_PROTOCOLS = frozenset(
    (
        *("http", "http1", "http2", "tls", "ssl", "dns", "doh2", "smtp", "imap"),
        *("ftp", "ftp-data", "ssh", "telnet", "smb", "nfs", "dcerpc", "dhcp", "ike"),
        *("krb5", "ldap", "mqtt", "ntp", "quic", "rdp", "rfb", "sip", "snmp"),
        *("tftp", "pgsql", "modbus", "dnp3", "enip", "websocket"),
    )
)
"""Suricata's: what a rule may name and this version does not parse."""
