"""Traffic that breaks a rule: reported in sum once a second, so that floods make few events."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from appliance_sdk.plugin.events import Anomaly

if TYPE_CHECKING:
    from appliance_sdk.engine.host import Host

_PERIOD_S = 1.0


class Anomalies:
    """What one engine saw and has not reported yet."""

    def __init__(self, host: Host, now: float) -> None:
        self._host = host
        self._reported_at = now
        self.counts: Counter[tuple[str, str]] = Counter()
        """By layer and reason."""

    def add(self, layer: str, reason: str) -> None:
        """Remember one more."""
        self.counts[layer, reason] += 1

    def next_deadline(self) -> float:
        """When they are to be reported, math.inf if there is nothing to report."""
        return self._reported_at + _PERIOD_S if self.counts else math.inf

    def report(self, now: float) -> None:
        """Report all of them."""
        for (layer, reason), count in self.counts.items():
            self._host.report(Anomaly(layer=layer, reason=reason, count=count), None, "")
        self.counts.clear()
        self._reported_at = now
