"""The policy that the suite hands over: rules for a firewall, and what an IDS shall look for.

`policy.json` is for programs, `policy.txt` for people (and for programs that rather read a table),
`alerts.rules` for an IDS that knows Suricata's language. The latter two are made from the first.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

RuleAction: TypeAlias = Literal["allow", "drop", "reject"]
SignatureAction: TypeAlias = Literal["alert", "drop", "reject"]
Protocol: TypeAlias = Literal["any", "tcp", "udp", "icmp"]
ANY = "any"

FOLDER = Path(str(resources.files("appliance_sdk.conformance") / "policy"))
"""Where the three files lie."""
POLICY = FOLDER / "policy.json"
"""What CONFORMANCE_POLICY names in the environment of a command that the suite starts."""
TEXT, RULES = "policy.txt", "alerts.rules"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of the firewall's list; the first that matches the first packet of a flow counts."""

    name: str
    action: RuleAction
    protocol: Protocol
    """"icmp" is echo, of IPv4 or IPv6 as the addresses are."""
    source: str
    """The network of whoever opens the flow, or "any"."""
    destination: str
    port: int
    """The destination's, 0 for any."""
    endpoint: str
    """The GWLB endpoint behind which it holds, or "any"."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that an IDS shall find in one packet, or in a TCP stream."""

    sid: int
    action: SignatureAction
    protocol: Literal["tcp", "udp"]
    port: int
    """The server's."""
    direction: Literal["to_server", "to_client"]
    content_hex: str
    nocase: bool
    """ASCII letters count in either case."""
    message: str

    @property
    def content(self) -> bytes:
        """The bytes."""
        return bytes.fromhex(self.content_hex)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of it."""

    version: int
    default: RuleAction
    rules: tuple[Rule, ...]
    signatures: tuple[Signature, ...]


def read_policy() -> Policy:
    """The policy of this suite."""
    return msgspec.json.decode(POLICY.read_bytes(), type=Policy)


def policy_text(policy: Policy) -> str:
    """The rules as a table of words between blanks, one rule a line; `#` begins a comment."""
    head = ("action", "protocol", "source", "destination", "port", "endpoint", "name")
    rows: list[tuple[str, ...]] = [
        (r.action, r.protocol, r.source, r.destination, _port(r.port), r.endpoint, r.name)
        for r in policy.rules
    ]
    rows.append((policy.default, *[ANY] * 5, "default"))
    signatures: list[tuple[str, ...]] = [
        ("sid", "action", "protocol", "port", "direction", "nocase", "content")
    ]
    for s in policy.signatures:
        nocase = "yes" if s.nocase else "no"
        signatures.append(
            (str(s.sid), s.action, s.protocol, str(s.port), s.direction, nocase, s.content_hex)
        )
    table = "\n".join(_aligned([("# " + head[0], *head[1:]), *rows]))
    looked_for = "\n".join("# " + line for line in _aligned(signatures))
    return f"{_HEAD}\n{table}\n{_SIGNATURES}\n{looked_for}\n"


def rules_text(policy: Policy) -> str:
    """The signatures as Suricata rules."""
    return _RULES_HEAD + "".join(_rule(signature) for signature in policy.signatures)


def _rule(signature: Signature) -> str:
    ends = "any any -> any {}" if signature.direction == "to_server" else "any {} -> any any"
    content = "".join(chr(b) if chr(b) in _PLAIN else f"|{b:02x}|" for b in signature.content)
    options = [
        f'msg:"conformance: {signature.message}"',
        f"flow:{signature.direction}",
        f'content:"{content}"',
        *(["nocase"] if signature.nocase else []),
        f"sid:{signature.sid}",
        "rev:1",
    ]
    head = f"{signature.action} {signature.protocol} {ends.format(signature.port)}"
    return f"{head} ({'; '.join(options)};)\n"


def _port(port: int) -> str:
    return str(port) if port else ANY


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return [line.rstrip() for line in lines]


_PLAIN = "abcdefghijklmnopqrstuvwxyz-"
_HEAD = """\
# The policy of the conformance suite, for a firewall under test. policy.json beside this file has
# the same for programs, alerts.rules what an IDS shall look for.
#
# Of a flow's first packet: the first line that matches decides, for the whole flow, both ways.
#   source       who opens the flow (IPv4 or IPv6 as written; "any" is both), destination: to whom
#   port         the destination's
#   icmp         echo requests, ICMP or ICMPv6; their answers pass because they were asked for
#   endpoint     a line with one holds behind that GWLB endpoint only; leave it out if your
#                appliance cannot tell endpoints apart (feature `endpoints`)
#   allow        the flow passes
#   drop         nothing is returned and nobody is told
#   reject       dropped, and the sender is told (feature `reject`; without it, as drop): TCP with a
#                RST, UDP with an ICMP error
# An ICMP error passes if it quotes an allowed flow. Fragments share the fate of their datagram.
"""
_SIGNATURES = """
# What an IDS shall look for, once for each flow; `content` in hex, `port` is the server's:
#"""
_RULES_HEAD = """\
# What the conformance suite has an IDS look for, as Suricata rules. policy.json has the same for
# programs. Without the feature `prevention`, drop and reject only report.
"""
