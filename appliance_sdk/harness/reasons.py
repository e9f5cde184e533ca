"""Why the local Gateway Load Balancer drops a packet: what to do about it, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Reason(NamedTuple):
    """A reason for which a packet is dropped."""

    meaning: str
    """What it means, and what to do about it."""
    source: str
    """What it follows: a page of AWS, an RFC, what others have observed, or that nobody says; then
    the switch."""

    def __str__(self) -> str:
        return f"{self.meaning} [{self.source}]"


_GUIDE = 'AWS guide, "Gateway Load Balancers"'

REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        # On the way in, from an endpoint.
        "unknown_endpoint": Reason(
            "No such endpoint is attached to this load balancer.", "the harness's own"
        ),
        "malformed": Reason(
            "The packet cannot be read as IPv4 or IPv6.", "RFC 791, RFC 8200: no router forwards it"
        ),
        "too_big": Reason(
            "Packets over 8,500 bytes do not enter GWLB, and it sends no ICMP error: clamp the MSS "
            "or lower the MTU of the hosts.",
            f"{_GUIDE}, MTU; gwlb-xdp's README saw larger ones enter: switch `ingress_limit_bytes`",
        ),
        "fragment": Reason(
            "GWLB does not support IP fragments: lower the MTU of the hosts.",
            f"{_GUIDE}, MTU; what becomes of them is not documented: switch `fragments`",
        ),
        "no_entry": Reason(
            "TCP without SYN and without a flow: the flow ended, idled out, or its first packet "
            "took another way. Both directions must be routed through the same endpoint.",
            f"{_GUIDE}, idle timeout and asymmetric flows; older texts differ: switch `midstream`",
        ),
        "no_target": Reason(
            "No target is registered in the endpoint's zone (and cross-zone is off).",
            'AWS guide, "Health checks": zones are independent of each other',
        ),
        "table_full": Reason(
            "The harness holds as many flows as `max_flows` allows.", "the harness's own"
        ),
        # On the way back, from a target.
        "unknown_target": Reason(
            "GENEVE from an address that is not a registered target.", "not documented"
        ),
        "bad_ports": Reason(
            "The UDP ports of a reply stay as they were: from the port that GWLB sent from, to "
            "6081. An ordinary socket answers with the ports swapped.",
            "observed: gwlbtun, gwlb-xdp, flowdog and libdaq keep them; switch `check_source_port`",
        ),
        "bad_geneve": Reason(
            "The reply's GENEVE header cannot be read, or its options are missing. Send back the "
            "header that came with the packet, byte for byte.",
            "RFC 8926 §3.4 and §3.5; observed: gwlbtun and libdaq echo it; switch "
            "`check_protocol_type`",
        ),
        "unknown_flow": Reason(
            "No flow of this endpoint has this cookie: an appliance cannot open flows through "
            "GWLB.",
            "observed: gwlbtun issue 2",
        ),
        "stale_cookie": Reason(
            "The cookie is that of a flow which ended. The 5-tuple was used again or idled out: "
            "answer each packet with its own header, never with an older one.",
            "observed: gwlbtun PR 15",
        ),
        "attachment_changed": Reason(
            "The attachment id is not the one that was sent.",
            "not documented: switch `check_attachment`",
        ),
        "wrong_node": Reason(
            "The reply went to another node than the one that the packet came from.",
            "observed: gwlbtun answers the node that asked; switch `check_node`",
        ),
        "node_gone": Reason(
            "The reply went to a node that has been replaced: answer each packet where it came "
            "from, and what has no packet where the flow's newest came from.",
            "observed: gwlbtun and gwlb-xdp keep the newest address",
        ),
        "wrong_target": Reason(
            "The flow belongs to another target.", "not documented: switch `accept_former_target`"
        ),
        "late_first_answer": Reason(
            "The flow's first answer came after more than 30 seconds.",
            f'{_GUIDE}: "within 30 seconds"; whose answer is not said: switches `first_answer_s`, '
            "`first_answer_from`",
        ),
        "reply_malformed": Reason(
            "The returned packet cannot be read as IPv4 or IPv6.",
            "RFC 791, RFC 8200: no router forwards it",
        ),
        "reply_too_big": Reason(
            "Returned packets over 8,500 bytes are dropped silently: an appliance that adds bytes "
            "must stay below.",
            f"{_GUIDE}, MTU; observed: gwlb-xdp's README",
        ),
        "reply_tuple_mismatch": Reason(
            "The returned packet is not of the flow in whose encapsulation it came: addresses, "
            "ports and protocol must stay as they were.",
            "F5 DevCentral 290821, after AWS; what becomes of it is not documented: switches "
            "`check_tuple`, `accept_icmp_errors`",
        ),
        "made_reset": Reason(
            "The target ended a connection with a RST that none of its ends sent.",
            "observed to work: libdaq and flowdog; not documented: switch `accept_resets`",
        ),
    }
)
"""Every reason."""

ROUTE_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no_route": "No route of the table leads to the destination.",
        "blackhole": "The route leads nowhere: its target is gone, or somebody wanted it so.",
        "zone_not_attached": "The subnet's zone has no subnet that is attached to the transit "
        "gateway; its route leads there all the same.",
        "routing_loop": "The packet has passed 16 route tables: they lead in a circle.",
        "no_public_address": "IPv4 leaves by the internet gateway only with a public address.",
        "no_host": "Nobody has the destination's address, in the VPC that the packet came to.",
        "reset": "A load balancer answered with a TCP reset, as its attributes tell it to.",
    }
)
"""Why a packet ends between route tables, before or behind a load balancer."""
