"""Rankings of flow records by some of their fields."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from appliance_sdk import near_miss
from reference_appliances.analytics.line import FlowLine
from reference_appliances.analytics.top import SpaceSaving

FIELDS = (
    "endpoint",
    "zone",
    "protocol",
    "client_ip",
    "server_ip",
    "server_port",
    "application",
    "host",
    "end_reason",
    "verdict",
)
DEFAULT = ("endpoint", "application", "endpoint,client_ip")


class Ranking:
    """The heaviest values of some fields, in bounded memory."""

    def __init__(self, fields: str, capacity: int, measure: str = "bytes") -> None:
        self.fields = parse_fields(fields)
        self.measure = measure
        self._values = attrgetter(*self.fields, self.fields[0])  # two at least: always a tuple
        self._weigh = _MEASURES[measure]
        self.summary: SpaceSaving[tuple[str, ...]] = SpaceSaving(capacity)

    def add(self, line: FlowLine) -> None:
        """Count a flow."""
        self.summary.add(tuple(map(str, self._values(line)[:-1])), self._weigh(line))


def parse_fields(text: str) -> list[str]:
    """The fields that "endpoint,client_ip" names. Raises ValueError."""
    fields = [name.strip() for name in text.split(",")]
    for name in fields:
        if name not in FIELDS:
            raise ValueError(f"no field `{name}` ({near_miss(name, list(FIELDS))})")
    return fields


_MEASURES: dict[str, Callable[[FlowLine], int]] = {
    "bytes": lambda line: line.to_server_bytes + line.to_client_bytes,
    "packets": lambda line: line.to_server_packets + line.to_client_packets,
    "flows": lambda line: 1,
}
MEASURES = tuple(_MEASURES)
"""What can be ranked by; both directions."""
