"""What Gateway Load Balancer checks of a datagram that comes back from an appliance."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.flows import FlowEntry, Key, flow_key
from appliance_sdk.harness.targets import Target
from appliance_sdk.wire import Headers, parse_geneve, parse_packet, parse_quoted
from appliance_sdk.wire.geneve import PORT, format_endpoint
from appliance_sdk.wire.packet import ICMP, ICMPV6

if TYPE_CHECKING:
    from appliance_sdk.harness.balancer import GatewayLoadBalancer

REPLY_LIMIT_BYTES = 8500
"""Larger returned packets are dropped silently (AWS guide, "MTU")."""

_USUAL_BYTES = 40
_ICMP_ERRORS = {ICMP: (3, 4, 5, 11, 12), ICMPV6: (1, 2, 3, 4)}


class Refusal(NamedTuple):
    """Why a datagram is not accepted."""

    reason: str
    detail: str = ""


def check_reply(
    balancer: GatewayLoadBalancer,
    source: tuple[str, int],
    destination: tuple[str, int],
    payload: bytes,
    now: float,
) -> Refusal | tuple[FlowEntry, Target, Headers, bytes]:
    """The flow that a datagram belongs to, who sent it, its inner headers and the inner packet.

    Or why it is not accepted.
    """
    undocumented = balancer.settings.undocumented
    target = balancer.targets.by_address.get(source[0])
    if target is None:
        return Refusal("unknown_target", source[0])
    if destination[1] != PORT:
        return Refusal("bad_ports", f"from {source[1]} to {destination[1]}, not to {PORT}")
    # Mostly the header is the one that was sent, byte for byte. Any other is read.
    length, size = _USUAL_BYTES, len(payload)
    entry = balancer.flows.by_header.get(payload[:length])
    as_sent = entry is not None and size > length and payload[length] >> 4 == entry.version
    if entry is None or not as_sent or now >= entry.ends:
        found = _by_options(balancer, payload, now)
        if isinstance(found, Refusal):
            return found
        entry, length = found
    node = entry.attachment.zone.node
    if destination[0] != node and undocumented.check_node:
        return Refusal("wrong_node", f"{destination[0]}, not {node}")
    if source[1] != entry.source_port and undocumented.check_source_port:
        return Refusal("bad_ports", f"from port {source[1]}, not from {entry.source_port}")
    if target != entry.target and not (undocumented.accept_former_target and entry.moved):
        return Refusal("wrong_target", f"{target.name}, not {entry.target.name}")
    if not entry.returned and now - entry.created > undocumented.first_answer_s:
        return Refusal("late_first_answer", f"after {now - entry.created:.1f} s")
    try:
        headers = parse_packet(payload, length, size)
    except MalformedPacket as error:
        return Refusal("reply_malformed", error.reason)
    if size - length > REPLY_LIMIT_BYTES:
        return Refusal("reply_too_big", f"{size - length} bytes")
    key: Key = headers[1:6]
    if headers.more_fragments or headers.fragment_offset:
        key = flow_key(headers)
    if (
        key != entry.key
        and key != entry.reverse
        and not (undocumented.accept_icmp_errors and _quotes(entry, headers, payload))
    ):
        return Refusal("reply_tuple_mismatch", f"cookie {entry.cookie:08x}")
    return entry, target, headers, payload[length:]


def _by_options(
    balancer: GatewayLoadBalancer, payload: bytes, now: float
) -> Refusal | tuple[FlowEntry, int]:
    """The flow that the GENEVE options name, and the header's length."""
    try:
        geneve = parse_geneve(payload, 0, len(payload))
    except MalformedPacket as error:
        return Refusal("bad_geneve", error.reason)
    attachment = balancer.attachment(geneve.endpoint_id)
    if attachment is None:
        return Refusal("unknown_flow", f"endpoint {format_endpoint(geneve.endpoint_id)}")
    entry = attachment.cookies.get(geneve.cookie)
    if entry is not None and now >= entry.ends:
        balancer.flows.remove(entry)
        entry = None
    if entry is None:
        stale = balancer.flows.was(attachment, geneve.cookie)
        which = f"{attachment.endpoint}, cookie {geneve.cookie:08x}"
        return Refusal("stale_cookie" if stale else "unknown_flow", which)
    settings = balancer.settings
    if geneve.attachment_id != settings.attachment_id and settings.undocumented.check_attachment:
        return Refusal("attachment_changed", f"{geneve.attachment_id:x}")
    return entry, geneve.length


def _quotes(entry: FlowEntry, headers: Headers, payload: bytes) -> bool:
    """Whether an ICMP error is about the flow."""
    if headers.icmp_type not in _ICMP_ERRORS.get(headers.protocol, ()):
        return False
    try:
        quoted = parse_quoted(payload, headers.payload, headers.end)
    except MalformedPacket:
        return False
    return flow_key(quoted) in (entry.key, entry.reverse)
