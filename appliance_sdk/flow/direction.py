"""Who opened a flow, told from the packet it is first seen by."""

from __future__ import annotations

import functools
from typing import NamedTuple

from appliance_sdk.wire.packet import ACK, SYN, Headers

_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_ECHO_REPLIES = {(_ICMP, 0), (_ICMPV6, 129)}
_ICMP_ERRORS = {_ICMP: frozenset((3, 4, 5, 11, 12)), _ICMPV6: frozenset((1, 2, 3, 4))}
_KNOWN_PORTS = frozenset(range(1024)) | frozenset(
    {1194, 1433, 1521, 1723, 1883, 3128, 3306, 3389, 4500, 5060, 5061, 5432, 5900, 5985, 5986}
    | {6379, 8000, 8080, 8443, 8883, 9092, 9200, 11211, 27017}
)
"""Registered ports of servers that are common behind a gateway (IANA service names)."""


class Beginning(NamedTuple):
    """How the first packet of a flow is read."""

    to_server: bool
    """The packet goes from the client to the server."""
    sure: bool
    """The packet itself says so, nothing was guessed from port numbers."""
    midstream: bool
    """The flow's real beginning was not seen here."""


@functools.cache
def one_beginning(to_server: bool, sure: bool, midstream: bool) -> Beginning:
    """The same object each time: every flow keeps its beginning."""
    return Beginning(to_server, sure, midstream)


OPENED = one_beginning(True, True, False)
"""The client's first packet, without a doubt."""
GUESSED = one_beginning(True, False, False)
"""The same by the ports."""


def beginning(headers: Headers) -> Beginning:
    """Read direction from a SYN, else a SYN+ACK, else the known or lower port.

    Only TCP says who opened. Elsewhere the first sender counts as the client, so that nobody turns
    a flow around by sending from a well-known port; such a flow is merely not sure.
    """
    if headers.protocol == _TCP:
        if headers.flags & SYN:
            is_answer = bool(headers.flags & ACK)
            return one_beginning(not is_answer, True, is_answer)
        to_server = is_served(headers.destination_port, headers.source_port)
        return one_beginning(to_server, False, True)
    if headers.protocol == _UDP:
        return one_beginning(True, is_served(headers.destination_port, headers.source_port), False)
    answer = (headers.protocol, headers.icmp_type) in _ECHO_REPLIES
    return one_beginning(not answer, not answer, answer)


def is_icmp_error(headers: Headers) -> bool:
    """Whether the packet quotes another one (RFC 792; RFC 4443 §2.1)."""
    return headers.icmp_type in _ICMP_ERRORS.get(headers.protocol, ())


def is_served(port: int, other: int) -> bool:
    """Whether it is rather this one of two ports that is a server's: the known or lower one."""
    known = port in _KNOWN_PORTS
    if known is not (other in _KNOWN_PORTS):
        return known
    return port <= other
