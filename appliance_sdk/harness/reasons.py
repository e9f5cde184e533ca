"""Why the local Gateway Load Balancer drops a packet, each reason with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        # On the way in, from an endpoint.
        "unknown_endpoint": "No such endpoint is attached to this load balancer.",
        "malformed": "The packet cannot be read as IPv4 or IPv6.",
        "too_big": "Packets over 8,500 bytes do not enter GWLB, and it sends no ICMP error: "
        "clamp the MSS or lower the MTU of the hosts.",
        "fragment": "GWLB does not support fragments (AWS); the switch is `fragments`.",
        "no_entry": "TCP without SYN and without a flow: the flow ended, idled out, or its first "
        "packet took another way. Both directions must be routed through the same endpoint.",
        "no_target": "No target is registered in the endpoint's zone (and cross-zone is off).",
        "table_full": "The harness holds as many flows as `max_flows` allows.",
        # On the way back, from a target.
        "unknown_target": "GENEVE from an address that is not a registered target.",
        "bad_ports": "The UDP ports of a reply stay as they were: from the port that GWLB sent "
        "from, to 6081. An ordinary socket answers with the ports swapped.",
        "bad_geneve": "The reply's GENEVE header cannot be read, or its options are missing. "
        "Send back the header that came with the packet, byte for byte.",
        "unknown_flow": "No flow of this endpoint has this cookie: an appliance cannot open flows "
        "through GWLB.",
        "stale_cookie": "The cookie is that of a flow which ended. The 5-tuple was used again or "
        "idled out: answer each packet with its own header, never with an older one.",
        "attachment_changed": "The attachment id is not the one that was sent.",
        "wrong_node": "The reply went to another node than the one that the packet came from.",
        "wrong_target": "The flow belongs to another target.",
        "late_first_answer": "The flow's first packet came back after more than 30 seconds.",
        "reply_malformed": "The returned packet cannot be read as IPv4 or IPv6.",
        "reply_too_big": "Returned packets over 8,500 bytes are dropped silently: an appliance "
        "that adds bytes must stay below.",
        "reply_tuple_mismatch": "The returned packet is not of the flow in whose encapsulation it "
        "came: addresses, ports and protocol must stay as they were.",
    }
)
"""Every reason, with what to do about it."""

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
