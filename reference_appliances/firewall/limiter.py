"""How fast one source may open flows: a bounded table of token buckets."""

from __future__ import annotations

from collections import OrderedDict

from reference_appliances.firewall.ruleset import Limit


class NewFlowLimiter:
    """A bucket of flows for each source address; for IPv6 each /64, which is what one host gets.

    At most `limit.sources` are remembered. For one more, the source that has been silent longest
    is forgotten: it starts again with a full bucket, so the table costs memory, never safety of
    the others.
    """

    __slots__ = ("_buckets", "_burst", "_rate", "_size")

    def __init__(self, limit: Limit) -> None:
        self._rate = limit.new_flows_per_second
        self._burst = max(1.0, limit.burst or 2 * limit.new_flows_per_second)
        self._size = limit.sources
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: bytes, now: float) -> bool:
        """Whether `source` (packed) may open one more flow at `now` (seconds)."""
        if not self._rate:
            return True
        key = source if len(source) == 4 else source[:8]
        bucket = self._buckets.pop(key, None)
        tokens = self._burst
        if bucket is not None:
            left, since = bucket
            tokens = min(self._burst, left + max(0.0, now - since) * self._rate)
        elif len(self._buckets) >= self._size:
            self._buckets.popitem(last=False)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        return allowed
