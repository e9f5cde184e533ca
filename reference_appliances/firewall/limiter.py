"""How fast one source may open flows, over all workers."""

from __future__ import annotations

from appliance_sdk import Shared
from reference_appliances.firewall.ruleset import Limit


class NewFlowLimiter:
    """So many flows of each source in each window; for IPv6 of each /64, which one host gets.

    A window is as long as the rate takes for a burst. When more sources are counted than
    `[engine.shared] counters` holds, those with the fewest flows begin anew: never the loudest.
    """

    __slots__ = ("_burst", "_shared", "_window_s")

    def __init__(self, limit: Limit, shared: Shared) -> None:
        rate = limit.new_flows_per_second
        self._burst = max(1.0, limit.burst or 2 * rate)
        self._window_s = self._burst / rate if rate else 0.0
        self._shared = shared

    def take(self, source: bytes) -> bool:
        """Whether `source` (packed) may open one more flow now."""
        if not self._window_s:
            return True
        key = source if len(source) == 4 else source[:8]
        return self._shared.count(b"new:" + key, window_s=self._window_s) <= self._burst
