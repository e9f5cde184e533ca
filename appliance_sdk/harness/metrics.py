"""What CloudWatch would show of a load balancer, a data point for each minute, and what it hides.

Names, units, dimensions and the rules of when something is reported are those of `AWS/GatewayELB`
(AWS guide, "CloudWatch metrics"). `ConsumedLCUs` is not among them: what a unit is, is a matter of
AWS's price list. What users miss there is in a namespace of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from appliance_sdk.harness.administration import Administration
    from appliance_sdk.harness.zones import Zone

NAMESPACE, OWN_NAMESPACE = "AWS/GatewayELB", "ApplianceSDK/Gateway"
PERIOD_S = 60
SAMPLE_S = 10
"""Peaks are the highest average over so long (AWS guide, `PeakBytesPerSecond`)."""
_KEPT = 24 * 60
"""Periods: a day."""


class DataPoint(NamedTuple):
    """One value of one metric for one period."""

    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    time: float
    """The period's beginning on the load balancer's clock, in seconds."""
    statistic: str
    """"Sum", "Average", "Minimum" or "Maximum": those that AWS calls the most useful."""
    value: float
    unit: str

    def as_json(self) -> dict[str, Any]:
        """With CloudWatch's keys."""
        return {
            "Namespace": self.namespace,
            "MetricName": self.metric,
            "Dimensions": [{"Name": n, "Value": v} for n, v in self.dimensions.items()],
            "Timestamp": self.time,
            "Period": PERIOD_S,
            "Statistic": self.statistic,
            "Value": self.value,
            "Unit": self.unit,
        }


class _Totals(NamedTuple):
    """Counters of a zone since the start."""

    new_flows: int
    packets: int
    bytes: int
    resets: int

    def since(self, other: _Totals) -> _Totals:
        return _Totals(*(now - then for now, then in zip(self, other, strict=True)))


class _Sample(NamedTuple):
    """One zone, or all, in ten seconds."""

    done: _Totals
    active: int
    healthy: int
    unhealthy: int


class _Own(NamedTuple):
    """What CloudWatch has no name for, since the start; `active` as it is."""

    drops: Counter[str]
    new_flows: Counter[str]
    active: Counter[str]
    moved: int


class _Period(NamedTuple):
    start: float
    samples: list[dict[str, _Sample]]
    """By zone; "" for the whole."""
    own: _Own


class Meter:
    """Samples a load balancer every ten seconds of its clock, whenever something happens."""

    def __init__(self, gateway: Administration, name: str, seed: int) -> None:
        digest = hashlib.blake2b(f"{name} {seed}".encode(), digest_size=8).hexdigest()
        self.load_balancer = f"gateway/{name}/{digest}"
        self.target_group = f"targetgroup/{name}/{digest[::-1]}"
        self.due = -math.inf
        """When the sample under way ends: whoever counts something later calls `roll` first."""
        self._gateway = gateway
        self._totals: dict[str, _Totals] = {}
        self._own = _Own(Counter(), Counter(), Counter(), 0)
        self._samples: list[dict[str, _Sample]] = []
        self._periods: deque[_Period] = deque(maxlen=_KEPT)

    def roll(self, now: float) -> None:
        """Take the samples that are due."""
        if self.due == -math.inf or now - self.due > _KEPT * PERIOD_S:
            self.due = now // SAMPLE_S * SAMPLE_S + SAMPLE_S  # the first, or after a long silence
            return
        while now >= self.due:
            self._samples.append(self._sample())
            self._totals = {zone.name: _totals(zone) for zone in self._gateway.zones.values()}
            if self.due % PERIOD_S == 0:
                self._periods.append(self._period())
                self._samples = []
                self._own = self._now()
            self.due += SAMPLE_S

    def points(self, now: float) -> Iterator[DataPoint]:
        """The data points of the last day, and of the period under way as far as it has come."""
        self.roll(now)
        unfinished = self._period()
        unfinished.samples.append(self._sample())
        for period in (*self._periods, unfinished):
            for zone in period.samples[-1]:
                samples = [sample[zone] for sample in period.samples if zone in sample]
                yield from self._cloudwatch(period.start, zone, samples)
            yield from self._missed(period)

    def _cloudwatch(self, start: float, zone: str, samples: list[_Sample]) -> Iterator[DataPoint]:
        dimensions = {"AvailabilityZone": zone} if zone else {}
        dimensions["LoadBalancer"] = self.load_balancer
        done = [sample.done for sample in samples]
        active = [sample.active for sample in samples]

        def point(metric: str, statistic: str, value: float, unit: str) -> DataPoint:
            return DataPoint(NAMESPACE, metric, dimensions, start, statistic, value, unit)

        if any(active):
            yield point("ActiveFlowCount", "Average", sum(active) / len(active), "Count")
            yield point("ActiveFlowCount", "Minimum", min(active), "Count")
            yield point("ActiveFlowCount", "Maximum", max(active), "Count")
        for metric, value, unit in (
            ("NewFlowCount", sum(each.new_flows for each in done), "Count"),
            ("ProcessedBytes", sum(each.bytes for each in done), "Bytes"),
            ("TCP_ELB_Reset_Count", sum(each.resets for each in done), "Count"),
        ):
            if value:
                yield point(metric, "Sum", value, unit)
        peak = max(each.bytes for each in done) / SAMPLE_S
        yield point("PeakBytesPerSecond", "Maximum", peak, "Bytes/Second")
        peak = max(each.packets for each in done) / SAMPLE_S
        yield point("PeakPacketsPerSecond", "Maximum", peak, "Count/Second")
        dimensions = {**dimensions, "TargetGroup": self.target_group}
        for metric, hosts in (
            ("HealthyHostCount", [sample.healthy for sample in samples]),
            ("UnHealthyHostCount", [sample.unhealthy for sample in samples]),
        ):
            yield point(metric, "Minimum", min(hosts), "Count")
            yield point(metric, "Maximum", max(hosts), "Count")

    def _missed(self, period: _Period) -> Iterator[DataPoint]:
        for metric, statistic, dimension, counts in (
            ("DroppedPackets", "Sum", "Reason", period.own.drops),
            ("NewFlowCount", "Sum", "Target", period.own.new_flows),
            ("ActiveFlowCount", "Maximum", "Target", period.own.active),
            ("MovedFlowCount", "Sum", "", Counter({"": period.own.moved})),
        ):
            for name, count in counts.items():
                if count:
                    where = {"LoadBalancer": self.load_balancer}
                    if dimension:
                        where[dimension] = name
                    yield DataPoint(
                        OWN_NAMESPACE, metric, where, period.start, statistic, count, "Count"
                    )

    def _sample(self) -> dict[str, _Sample]:
        """Each zone since the last sample, and the whole."""
        gateway, none = self._gateway, _Totals(0, 0, 0, 0)
        samples = {}
        for name, zone in gateway.zones.items():
            recent = _totals(zone).since(self._totals.get(name, none))
            samples[name] = _Sample(recent, zone.active, *gateway.targets.counts(name))
        done = [sample.done for sample in samples.values()]
        whole = _Totals(*(sum(column) for column in zip(*done, strict=True)))
        active = sum(sample.active for sample in samples.values())
        return {"": _Sample(whole, active, *gateway.targets.counts()), **samples}

    def _period(self) -> _Period:
        now, before = self._now(), self._own
        own = _Own(
            now.drops - before.drops,
            now.new_flows - before.new_flows,
            now.active,
            now.moved - before.moved,
        )
        start = (self.due - SAMPLE_S) // PERIOD_S * PERIOD_S
        return _Period(start, list(self._samples), own)

    def _now(self) -> _Own:
        gateway = self._gateway
        flows = gateway.flows
        return _Own(
            gateway.drops.copy(), gateway.new_flows.copy(), flows.per_target.copy(), flows.moved
        )


def _totals(zone: Zone) -> _Totals:
    return _Totals(zone.new_flows, zone.packets, zone.bytes, zone.resets)
