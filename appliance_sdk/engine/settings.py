"""The limits and policies of the engine, each with its default and the reason for it."""

from __future__ import annotations

import msgspec

from appliance_sdk.engine.holding import HoldLimits
from appliance_sdk.engine.recording import RecordLimits
from appliance_sdk.engine.shared import SharedLimits
from appliance_sdk.flow.reassembly import StreamLimits
from appliance_sdk.plugin.verdict import Policy


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[engine]` table. Times in seconds."""

    origins: tuple[str, ...] = ()
    """Networks that GENEVE is taken from: the GWLB subnets. Empty means nobody, not anybody."""
    strict: bool = False
    """Drop GENEVE headers that are legal but that GWLB has never been seen to send."""
    mtu_bytes: int = 8500
    """Inner packets longer than this are dropped: GWLB would not take them back."""
    max_flows: int = 262_144
    """Flows in the table; 1 kB each, 1.4 kB with a small handler."""
    table_full: Policy = "drop"
    """New flows when the table is full and nothing half-open can go."""
    unknown_endpoint: Policy = "continue"
    """Packets of endpoints that no zone lists: "continue" puts them into the default zone."""
    tcp_idle_s: float = 350
    """GWLB's `tcp.idle_timeout.seconds`; set both alike."""
    other_idle_s: float = 120
    """GWLB's fixed idle time of all other protocols."""
    idle_margin_s: float = 10
    """Flows live this much longer here than in GWLB, which must be the first to forget them."""
    half_open_s: float = 30
    """TCP without a complete handshake; GWLB expects an answer within the same time."""
    closed_s: float = 2
    """A closed TCP flow stays for late packets of its last exchange."""
    stream: StreamLimits = StreamLimits()
    """Reassembly, per direction of a flow."""
    stream_total_bytes: int = 256 * 1024 * 1024
    """Reassembly, all flows together."""
    rejects_per_s: float = 1000
    """RSTs and ICMP errors made here a second: a flood must not be amplified."""
    hold: HoldLimits = HoldLimits()
    """Flows that wait for a verdict."""
    record: RecordLimits = RecordLimits()
    """Packets that are kept for `flow.save()`."""
    shared: SharedLimits = SharedLimits()
    """What plugins share over the workers."""
    error_budget: int = 100
    """Errors of one plugin within `error_window_s` after which it counts as broken."""
    error_window_s: float = 60
    recheck_batch: int = 256
    """Live flows judged again in one go between packets."""
    expiry_batch: int = 128
    """Idle timers looked at in one go between packets."""
