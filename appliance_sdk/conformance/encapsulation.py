"""GENEVE headers as a load balancer sends them, and every way in which they can be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance_sdk.wire.geneve import AWS_OPTION_CLASS, ETHERTYPE_IPV4

CONTROL, CRITICAL = 0x80, 0x40
"""The O and C bits of the second byte (RFC 8926 §3.4)."""


def option(
    kind: int,
    data: bytes,
    *,
    option_class: int = AWS_OPTION_CLASS,
    words: int | None = None,
    reserved: int = 0,
) -> bytes:
    """One option; `words` is what its length field says, by default the truth (RFC 8926 §3.5)."""
    length = len(data) // 4 if words is None else words
    return struct.pack(">HBB", option_class, kind, reserved << 5 | length) + data


def endpoint_option(endpoint_id: int) -> bytes:
    """Option 1: the GWLB endpoint."""
    return option(1, endpoint_id.to_bytes(8, "big"))


def attachment_option(attachment_id: int = 0) -> bytes:
    """Option 2: the customer-visible attachment."""
    return option(2, attachment_id.to_bytes(8, "big"))


def cookie_option(cookie: int) -> bytes:
    """Option 3: the flow cookie."""
    return option(3, cookie.to_bytes(4, "big"))


def header(
    options: Sequence[bytes],
    *,
    ethertype: int = ETHERTYPE_IPV4,
    version: int = 0,
    flags: int = 0,
    vni: int = 0,
    reserved: int = 0,
    option_words: int | None = None,
) -> bytes:
    """A header of 8 bytes and its options; `option_words` is what Opt Len says, else the truth."""
    body = b"".join(options)
    words = len(body) // 4 if option_words is None else option_words
    return struct.pack(">BBHI", version << 6 | words, flags, ethertype, vni << 8 | reserved) + body
