"""Traffic analytics on the public API: a record for each flow, and who has most. Stops nothing."""

from __future__ import annotations

from reference_appliances.analytics.analytics import Analytics, AnalyticsConfig
from reference_appliances.analytics.events import FlowRecord, Talker, TopTalkers
from reference_appliances.analytics.flow_records import FlowRecords, FlowRecordsConfig

__all__ = [
    "Analytics",
    "AnalyticsConfig",
    "FlowRecord",
    "FlowRecords",
    "FlowRecordsConfig",
    "Talker",
    "TopTalkers",
]
