"""Flows written as text, to ask a policy about: `tcp 10.0.0.5:4000 -> 192.0.2.4:443`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from appliance_sdk import ConfigError, near_miss, show_end
from reference_appliances.firewall.matcher import Judgement, Matcher
from reference_appliances.firewall.ruleset import (
    ICMP,
    ICMPV6,
    PROTOCOL_NUMBERS,
    TCP,
    WITH_PORTS,
    is_number,
    protocol_name,
)

_FLOW = re.compile(r"\s*(\S+)\s+(\S+)\s*->\s*(\S+)\s*\Z")
_BRACKETS = re.compile(r"\[([^\]]+)\](?::(\d{1,9}))?\Z")
_EXAMPLE = "such as 'tcp 10.0.0.5:4000 -> 192.0.2.4:443' or 'icmp 10.0.0.5 -> 192.0.2.4'"


class Probe(NamedTuple):
    """A flow that somebody asks about."""

    protocol: int
    client: bytes
    server: bytes
    client_port: int
    server_port: int

    def __str__(self) -> str:
        client = show_end(str(ipaddress.ip_address(self.client)), self.client_port)
        server = show_end(str(ipaddress.ip_address(self.server)), self.server_port)
        return f"{protocol_name(self.protocol)} {client} -> {server}"


def parse_probe(text: str) -> Probe:
    """Read `PROTOCOL ADDRESS[:PORT] -> ADDRESS[:PORT]`; IPv6 with a port in brackets.

    The port of the client may be left out, that of the server may not where there are ports.
    Raises ConfigError with a hint.
    """
    match = _FLOW.match(text)
    if not match:
        raise ConfigError(f"`{text}` is no flow", hint=_EXAMPLE)
    protocol = _protocol(match[1])
    client, client_port = _end(match[2])
    server, server_port = _end(match[3])
    if len(client) != len(server):
        raise ConfigError(f"`{text}`: the addresses are of different IP versions")
    if protocol not in WITH_PORTS and (client_port or server_port):
        raise ConfigError(f"`{text}`: only tcp and udp have ports")
    if protocol in WITH_PORTS and not server_port:
        raise ConfigError(f"`{text}`: to which port?", hint=_EXAMPLE)
    if protocol in (ICMP, ICMPV6) and (protocol == ICMP) is not (len(client) == 4):
        wanted = "icmp" if len(client) == 4 else "icmpv6"
        raise ConfigError(f"`{text}`: the addresses do not fit", hint=f"did you mean `{wanted}`?")
    return Probe(protocol, client, server, client_port, server_port)


def judge_probe(matcher: Matcher, probe: Probe, *, midstream: bool = False) -> Judgement:
    """What the firewall would say to the first packet of this flow (for ICMP: to an echo)."""
    if midstream and probe.protocol == TCP and matcher.midstream is not None:
        return matcher.midstream
    return matcher.judge(probe.protocol, probe.client, probe.server, probe.server_port)


def _protocol(text: str) -> int:
    if text in PROTOCOL_NUMBERS:
        return PROTOCOL_NUMBERS[text]
    if is_number(text) and int(text) <= 255:
        return int(text)
    raise ConfigError(f"unknown protocol `{text}`", hint=near_miss(text, list(PROTOCOL_NUMBERS)))


def _end(text: str) -> tuple[bytes, int]:
    port = 0
    address = text
    if match := _BRACKETS.match(text):
        address, port = match[1], int(match[2] or 0)
    elif text.count(":") == 1:
        address, _, digits = text.partition(":")
        if not is_number(digits):
            raise ConfigError(f"`{text}`: `{digits}` is no port", hint="1 to 65535")
        port = int(digits)
    if port > 65535:
        raise ConfigError(f"`{text}`: `{port}` is no port", hint="1 to 65535")
    try:
        return ipaddress.ip_address(address).packed, port
    except ValueError:
        raise ConfigError(f"`{text}`: `{address}` is no address", hint=_EXAMPLE) from None
