"""What Gateway Load Balancer checks of a datagram that comes back from an appliance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.flows import FlowEntry, flow_key
from appliance_sdk.wire import Headers, parse_geneve, parse_packet, parse_quoted
from appliance_sdk.wire.geneve import PORT
from appliance_sdk.wire.packet import ICMP, ICMPV6

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
    endpoints: Mapping[int, str],
    source: tuple[str, int],
    destination: tuple[str, int],
    payload: bytes,
    now: float,
) -> Refusal | tuple[FlowEntry, Headers, bytes]:
    """The flow that a datagram belongs to, its inner headers and the inner packet, or why not."""
    settings = balancer.settings
    undocumented = settings.undocumented
    target = balancer.targets.at(source[0])
    if target is None:
        return Refusal("unknown_target", source[0])
    if destination[1] != PORT:
        return Refusal("bad_ports", f"from {source[1]} to {destination[1]}, not to {PORT}")
    try:
        geneve = parse_geneve(payload, 0, len(payload))
    except MalformedPacket as error:
        return Refusal("bad_geneve", error.reason)
    endpoint = endpoints.get(geneve.endpoint_id)
    cookie = f"cookie {geneve.cookie:08x}"
    if endpoint is None:
        return Refusal("unknown_flow", f"endpoint vpce-{geneve.endpoint_id:017x}")
    entry = balancer.flows.by_cookie(endpoint, geneve.cookie, now)
    if entry is None:
        stale = balancer.flows.was(endpoint, geneve.cookie)
        return Refusal("stale_cookie" if stale else "unknown_flow", f"{endpoint}, {cookie}")
    node = balancer.node_of(endpoint)
    if undocumented.check_node and destination[0] != node:
        return Refusal("wrong_node", f"{destination[0]}, not {node}")
    if undocumented.check_attachment and geneve.attachment_id != settings.attachment_id:
        return Refusal("attachment_changed", f"{geneve.attachment_id:x}")
    if undocumented.check_source_port and source[1] != entry.source_port:
        return Refusal("bad_ports", f"from port {source[1]}, not from {entry.source_port}")
    if target != entry.target and not (undocumented.accept_former_target and entry.moved):
        return Refusal("wrong_target", f"{target.name}, not {entry.target.name}")
    if not entry.returned and now - entry.created > undocumented.first_answer_s:
        return Refusal("late_first_answer", f"after {now - entry.created:.1f} s")
    try:
        headers = parse_packet(payload, geneve.length, len(payload))
    except MalformedPacket as error:
        return Refusal("reply_malformed", error.reason)
    inner = payload[geneve.length :]
    if len(inner) > REPLY_LIMIT_BYTES:
        return Refusal("reply_too_big", f"{len(inner)} bytes")
    if flow_key(endpoint, headers) != entry.key and not (
        undocumented.accept_icmp_errors and _quotes(entry, headers, payload)
    ):
        return Refusal("reply_tuple_mismatch", cookie)
    return entry, headers, inner


def _quotes(entry: FlowEntry, headers: Headers, payload: bytes) -> bool:
    """Whether an ICMP error is about the flow."""
    if headers.icmp_type not in _ICMP_ERRORS.get(headers.protocol, ()):
        return False
    try:
        quoted = parse_quoted(payload, headers.payload, headers.end)
    except MalformedPacket:
        return False
    return flow_key(entry.endpoint, quoted) == entry.key
