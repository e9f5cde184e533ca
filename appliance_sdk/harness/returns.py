"""What Gateway Load Balancer checks of a datagram that comes back from an appliance."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.flow_entry import FlowEntry, Key, flow_key, outer_protocol_key
from appliance_sdk.harness.states import Target
from appliance_sdk.wire import Geneve, Headers, parse_geneve, parse_packet, parse_quoted
from appliance_sdk.wire.geneve import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PORT, format_endpoint
from appliance_sdk.wire.packet import ICMP, ICMPV6, RST

if TYPE_CHECKING:
    from appliance_sdk.harness.balancer import GatewayLoadBalancer

REPLY_LIMIT_BYTES = 8500
"""Larger returned packets are dropped silently (AWS guide, "MTU")."""

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
    length, size = balancer.flows.header_bytes, len(payload)
    entry = balancer.flows.by_header.get(payload[:length])
    as_sent = entry is not None and size > length and payload[length] >> 4 == entry.version
    if entry is None or not as_sent or now >= entry.ends:
        found = _by_options(balancer, payload, now)
        if isinstance(found, Refusal):
            return found
        entry, length = found
    if undocumented.cookie_per != "flow":
        entry = _of_those_that_share(entry, payload, length, now)
    zone = entry.attachment.zone
    if destination[0] != zone.node:
        if destination[0] in zone.former_nodes:
            return Refusal("node_gone", f"{destination[0]} is now {zone.node}")
        if undocumented.check_node:
            return Refusal("wrong_node", f"{destination[0]}, not {zone.node}")
    if (
        source[1] != entry.source_port
        and source[1] not in entry.former_ports
        and undocumented.check_source_port
    ):
        return Refusal("bad_ports", f"from port {source[1]}, not from {entry.source_port}")
    if target != entry.target and not (undocumented.accept_former_target and entry.moved):
        return Refusal("wrong_target", f"{target.name}, not {entry.target.name}")
    if not entry.returned and balancer.is_late(entry, now, "target"):
        return Refusal("late_first_answer", f"after {now - entry.created:.1f} s")
    try:
        headers = parse_packet(payload, length, size)
    except MalformedPacket as error:
        return Refusal("reply_malformed", error.reason)
    if size - length > REPLY_LIMIT_BYTES:
        return Refusal("reply_too_big", f"{size - length} bytes")
    key: Key = headers[1:6]
    if key != entry.key and key != entry.reverse and undocumented.check_tuple:
        refusal = _other_tuple(balancer, entry, headers, payload, length)
        if refusal is not None:
            return refusal
    if headers.flags & RST and not undocumented.accept_resets and not entry.reset_entered:
        return Refusal("made_reset", f"cookie {entry.cookie:08x}")
    return entry, target, headers, payload[length:]


def _by_options(
    balancer: GatewayLoadBalancer, payload: bytes, now: float
) -> Refusal | tuple[FlowEntry, int]:
    """The flow that the GENEVE options name, and the header's length."""
    settings = balancer.settings
    try:
        geneve = _read(payload, settings.undocumented.check_protocol_type)
    except MalformedPacket as error:
        return Refusal("bad_geneve", error.reason)
    attachment = balancer.attachment(geneve.endpoint_id)
    if attachment is None:
        return Refusal("unknown_flow", f"endpoint {format_endpoint(geneve.endpoint_id)}")
    entry = attachment.cookies.get(geneve.cookie)
    while entry is not None and now >= entry.ends:
        balancer.flows.end(entry)
        entry = attachment.cookies.get(geneve.cookie)  # another that shares it
    if entry is None:
        which = f"{attachment.endpoint}, cookie {geneve.cookie:08x}"
        ended = balancer.flows.ended(attachment, geneve.cookie)
        if ended is None:
            return Refusal("unknown_flow", which)
        return Refusal("stale_cookie", f"{which}: {ended.told(now)}")
    if geneve.attachment_id != settings.attachment_id and settings.undocumented.check_attachment:
        return Refusal("attachment_changed", f"{geneve.attachment_id:x}")
    return entry, geneve.length


def _read(payload: bytes, check_protocol_type: bool) -> Geneve:
    """The GENEVE header, whatever its protocol type if that is not checked."""
    try:
        return parse_geneve(payload, 0, len(payload))
    except MalformedPacket as error:
        if check_protocol_type or error.reason != "inner_version_mismatch":
            raise
    other = {ETHERTYPE_IPV4: ETHERTYPE_IPV6, ETHERTYPE_IPV6: ETHERTYPE_IPV4}
    right = other[int.from_bytes(payload[2:4], "big")].to_bytes(2, "big")
    return parse_geneve(payload[:2] + right + payload[4:], 0, len(payload))


def _of_those_that_share(entry: FlowEntry, payload: bytes, length: int, now: float) -> FlowEntry:
    """Of the flows that have one cookie, the one that the inner packet is of."""
    try:
        key = flow_key(parse_packet(payload, length, len(payload)))
    except MalformedPacket:
        return entry
    own = entry.attachment.flows.get(key)
    return own if own is not None and own.cookie == entry.cookie and now < own.ends else entry


def _other_tuple(
    balancer: GatewayLoadBalancer, entry: FlowEntry, headers: Headers, payload: bytes, length: int
) -> Refusal | None:
    """Whether a packet whose ports and addresses are not simply the flow's belongs to it."""
    keys = (entry.key, entry.reverse)
    undocumented = balancer.settings.undocumented
    stops = undocumented.extension_headers == "stop"
    if flow_key(headers) in keys or (
        stops and outer_protocol_key(payload[length:], headers) in keys
    ):
        return None
    if undocumented.accept_icmp_errors and _quotes(keys, headers, payload):
        return None
    return Refusal("reply_tuple_mismatch", f"cookie {entry.cookie:08x}")


def _quotes(keys: tuple[Key, Key], headers: Headers, payload: bytes) -> bool:
    """Whether an ICMP error is about the flow."""
    if headers.icmp_type not in _ICMP_ERRORS.get(headers.protocol, ()):
        return False
    try:
        quoted = parse_quoted(payload, headers.payload, headers.end)
    except MalformedPacket:
        return False
    return flow_key(quoted) in keys
