"""The key under which a flow is found: endpoint, protocol, addresses and ports of a packet."""

from __future__ import annotations

import struct
from typing import TypeAlias

FlowKey: TypeAlias = tuple[int, int, bytes, bytes, int, int]
"""(endpoint id, protocol, source, destination, source port, destination port) of one packet.

The endpoint is part of it since VPC address ranges overlap: the same tuple behind two endpoints is
two flows. Ports are 0 where the protocol has none.
"""

_PORTS = struct.Struct(">HH")
_PORTS_BYTES = 4


def pack_ends(source: bytes, destination: bytes, source_port: int, destination_port: int) -> bytes:
    """Both ends of a packet in one: as they stand in an IPv4 packet without options."""
    return source + destination + _PORTS.pack(source_port, destination_port)


def unpack_ends(ends: bytes) -> tuple[bytes, bytes, int, int]:
    """Source, destination and their ports."""
    size = len(ends) - _PORTS_BYTES
    half = size // 2
    return (ends[:half], ends[half:size], *_PORTS.unpack_from(ends, size))


def swap_ends(ends: bytes) -> bytes:
    """Both ends of the answering packets."""
    size = len(ends) - _PORTS_BYTES
    half = size // 2
    return ends[half:size] + ends[:half] + ends[size + 2 :] + ends[size : size + 2]
