"""Why the engine drops a packet: every reason that is counted, in one list."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance_sdk.wire.reasons import MALFORMED

DROP_REASONS: Mapping[str, str] = MappingProxyType(
    {
        **MALFORMED,
        "origin": "The datagram does not come from one of the configured `origins`.",
        "unknown_endpoint": "No zone lists the endpoint, and `unknown_endpoint` is not continue.",
        "multicast": "The inner destination is multicast or broadcast, which a VPC does not carry.",
        "land": "Source and destination of the inner packet are the same end.",
        "table_full": "The flow table is full of established flows, and so says `table_full`.",
        "fragment_overlap": "The fragment overlaps one that came before, or its datagram has such.",
        "fragment_tiny": "The fragment is too small to be honest.",
        "fragment_before_first": "The fragment came before the first one, which names the flow.",
        "fragment_table_full": "Too many datagrams are incomplete.",
        "fragment_too_big": "The fragment reaches beyond the largest possible packet.",
        "fragment_verdict": "The first fragment was dropped, or its flow has ended.",
        "fragment_edited": "A plugin edited a fragmented packet, which has left in part already.",
        "stream_conflict": "The segment contradicts bytes that were judged before.",
        "stream_full": "Too many bytes wait for a missing segment; the sender repeats them.",
        "stream_out_of_order": "Out of order in a flow that is edited, or not yet confirmed.",
        "stream_ignored": "No receiver takes the segment: its checksum is wrong, or it has no ACK.",
        "plugin_drop": "A plugin or its policy dropped the packet.",
        "plugin_block": "A plugin or its policy blocked the flow.",
        "plugin_reject": "A plugin or its policy rejected the flow.",
        "hold_full": "Too many packets of the flow wait for a verdict; the ends send them again.",
        "hold_fragment": "A fragment of a flow that waits for a verdict; datagrams are sent again.",
        "hold_ended": "The packet waited for a verdict when its flow ended.",
        "too_long": "The inner packet is longer than GWLB takes back: 8,500 bytes.",
    }
)
