"""Bytes on the wire: pure functions that read, check, build and edit packets.

Capture files are read by `appliance_sdk.wire.capture`, not imported here: it takes dpkt along.
"""

from __future__ import annotations

from appliance_sdk.wire.build import (
    build_icmp,
    build_ip,
    build_tcp,
    build_udp,
    fragment_packet,
)
from appliance_sdk.wire.checksum import transport_checksum, update_checksum
from appliance_sdk.wire.edit import clamp_mss, patch_payload
from appliance_sdk.wire.geneve import (
    Geneve,
    Option,
    build_geneve,
    format_endpoint,
    parse_endpoint,
    parse_geneve,
    parse_options,
)
from appliance_sdk.wire.packet import Headers, parse_packet, parse_quoted
from appliance_sdk.wire.reasons import MALFORMED
from appliance_sdk.wire.reject import build_tcp_rst, build_tcp_rst_to, build_unreachable

__all__ = [
    "MALFORMED",
    "Geneve",
    "Headers",
    "Option",
    "build_geneve",
    "build_icmp",
    "build_ip",
    "build_tcp",
    "build_tcp_rst",
    "build_tcp_rst_to",
    "build_udp",
    "build_unreachable",
    "clamp_mss",
    "format_endpoint",
    "fragment_packet",
    "parse_endpoint",
    "parse_geneve",
    "parse_options",
    "parse_packet",
    "parse_quoted",
    "patch_payload",
    "transport_checksum",
    "update_checksum",
]
