"""The key under which a flow is found: endpoint, protocol, addresses and ports of a packet."""

from __future__ import annotations

from typing import TypeAlias

FlowKey: TypeAlias = tuple[int, int, bytes, bytes, int, int]
"""(endpoint id, protocol, source, destination, source port, destination port) of one packet.

The endpoint is part of it since VPC address ranges overlap: the same tuple behind two endpoints is
two flows. Ports are 0 where the protocol has none.
"""


def reverse_key(key: FlowKey) -> FlowKey:
    """The key of the answering packets."""
    endpoint_id, protocol, source, destination, source_port, destination_port = key
    return endpoint_id, protocol, destination, source, destination_port, source_port
