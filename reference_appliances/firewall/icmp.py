"""Which ICMP messages ask, answer, report errors, or never cross a router."""

from __future__ import annotations

from enum import Enum

from reference_appliances.firewall.ruleset import ICMP


class Kind(Enum):
    """What a message is to a firewall."""

    QUERY = "query"
    ANSWER = "answer"
    ERROR = "error"
    LOCAL = "local"


# https://www.iana.org/assignments/icmp-parameters: source quench (4) is deprecated by RFC 6633;
# redirects (5) and router discovery (9, 10) are between neighbours.
_V4 = {
    **dict.fromkeys((3, 11, 12), Kind.ERROR),
    **dict.fromkeys((0, 14, 16, 18), Kind.ANSWER),
    **dict.fromkeys((4, 5, 9, 10), Kind.LOCAL),
}
# https://www.iana.org/assignments/icmpv6-parameters; RFC 4890 §4.3 for what may cross a firewall.
_V6 = {
    **dict.fromkeys((1, 2, 3, 4), Kind.ERROR),
    **dict.fromkeys((129, 140), Kind.ANSWER),
    **dict.fromkeys((*range(130, 139), 141, 142, 143, 148, 149, 151, 152, 153), Kind.LOCAL),
}


def kind_of(protocol: int, icmp_type: int) -> Kind:
    """The kind of an ICMP (protocol 1) or ICMPv6 (58) message; unknown types count as queries."""
    return (_V4 if protocol == ICMP else _V6).get(icmp_type, Kind.QUERY)
