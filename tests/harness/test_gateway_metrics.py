"""CloudWatch's data points of a load balancer: names, units, dimensions, and when there are any."""

from __future__ import annotations

import json

import pytest
from gateway_transcript import CLIENT, OTHER, REBALANCE, SERVER, Gateway, handshake, tcp, udp

from appliance_sdk.harness.metrics import NAMESPACE, OWN_NAMESPACE, DataPoint
from appliance_sdk.wire import build_udp
from appliance_sdk.wire.packet import ACK

FAILED = "Target.FailedHealthChecks"


def values(gateway: Gateway, metric: str, zone: str = "", **wanted: object) -> dict[float, float]:
    """A metric over time, of one zone or the whole load balancer."""
    return {
        point.time: point.value
        for point in gateway.lb.cloudwatch(gateway.now)
        if point.metric == metric
        and point.namespace == wanted.get("namespace", NAMESPACE)
        and point.dimensions.get("AvailabilityZone", "") == zone
        and point.statistic == wanted.get("statistic", point.statistic)
    }


def sized(size: int, port: int = 5000) -> bytes:
    return build_udp(CLIENT, SERVER, port, 53, payload=bytes(size - 28))


UNITS = {
    "ActiveFlowCount": ("Count", {"Average", "Minimum", "Maximum"}),
    "NewFlowCount": ("Count", {"Sum"}),
    "ProcessedBytes": ("Bytes", {"Sum"}),
    "HealthyHostCount": ("Count", {"Minimum", "Maximum"}),
    "UnHealthyHostCount": ("Count", {"Minimum", "Maximum"}),
    "PeakBytesPerSecond": ("Bytes/Second", {"Maximum"}),
    "PeakPacketsPerSecond": ("Count/Second", {"Maximum"}),
    "TCP_ELB_Reset_Count": ("Count", {"Sum"}),
}


def test_names_units_and_dimensions_are_those_of_cloudwatch() -> None:
    gateway = Gateway({"listener": {"send_tcp_reset.on_idle_timeout.enabled": True}})
    gateway.through(udp())
    gateway.enter(tcp(ACK))
    gateway.wait(10)
    points = [p for p in gateway.lb.cloudwatch(gateway.now) if p.namespace == NAMESPACE]
    seen: dict[str, tuple[str, set[str]]] = {}
    for point in points:
        unit, statistics = seen.setdefault(point.metric, (point.unit, set()))
        assert unit == point.unit
        statistics.add(point.statistic)
        assert point.dimensions["LoadBalancer"].startswith("gateway/gwlb/")
        hosts = point.metric.endswith("HostCount")
        assert point.dimensions.get("TargetGroup", "").startswith("targetgroup/gwlb/") is hosts
        assert set(point.dimensions) <= {"AvailabilityZone", "LoadBalancer", "TargetGroup"}
    assert seen == UNITS
    assert {p.dimensions.get("AvailabilityZone") for p in points} == {None, "a", "b"}


def test_a_data_point_is_written_with_cloudwatchs_keys() -> None:
    point = DataPoint(
        NAMESPACE, "NewFlowCount", {"LoadBalancer": "gateway/x/y"}, 60, "Sum", 3, "Count"
    )
    assert json.loads(json.dumps(point.as_json())) == {
        "Namespace": "AWS/GatewayELB",
        "MetricName": "NewFlowCount",
        "Dimensions": [{"Name": "LoadBalancer", "Value": "gateway/x/y"}],
        "Timestamp": 60,
        "Period": 60,
        "Statistic": "Sum",
        "Value": 3,
        "Unit": "Count",
    }


def test_sums_are_per_minute_and_zone() -> None:
    gateway = Gateway()
    gateway.through(sized(1000, 1))
    gateway.wait(59)
    gateway.through(sized(500, 2), OTHER)
    gateway.wait(1)
    gateway.through(sized(100, 1))
    gateway.sent(sized(40, 3))  # and it does not come back
    assert values(gateway, "NewFlowCount", "a") == {0: 1, 60: 1}
    assert values(gateway, "NewFlowCount", "b") == {0: 1}  # not reported when there are none
    assert values(gateway, "NewFlowCount") == {0: 2, 60: 1}
    assert values(gateway, "ProcessedBytes", "a") == {0: 2000, 60: 240}
    assert values(gateway, "ProcessedBytes") == {0: 3000, 60: 240}


def test_peaks_are_the_highest_ten_seconds_and_always_reported() -> None:
    gateway = Gateway()
    for second, size in ((5, 100), (12, 1000), (18, 500), (40, 700)):
        gateway.wait(second - gateway.now)
        gateway.through(sized(size))
    gateway.wait(200 - gateway.now)
    gateway.through(sized(100), OTHER)
    assert values(gateway, "PeakBytesPerSecond", "a") == {0: 300, 60: 0, 120: 0, 180: 0}
    assert values(gateway, "PeakPacketsPerSecond", "a") == {0: 0.4, 60: 0, 120: 0, 180: 0}
    assert values(gateway, "PeakBytesPerSecond") == {0: 300, 60: 0, 120: 0, 180: 20}


def test_the_peak_of_the_whole_is_not_the_sum_of_peaks() -> None:
    gateway = Gateway()
    gateway.through(sized(1000))
    gateway.wait(20)
    gateway.through(sized(1000), OTHER)
    assert values(gateway, "PeakBytesPerSecond") == {0: 200}


def test_active_flows_are_sampled() -> None:
    gateway = Gateway()
    gateway.through(sized(100, 1))
    gateway.through(sized(100, 2))
    gateway.wait(30)
    gateway.through(sized(100, 2))
    gateway.through(sized(100, 3), OTHER)
    gateway.wait(90)  # the first has idled out
    assert len(gateway.lb.flows) == 2
    gateway.wait(40)  # and the second
    gateway.wait(100)
    active = {s: values(gateway, "ActiveFlowCount", statistic=s) for s in ("Minimum", "Maximum")}
    assert active == {"Minimum": {0: 2, 60: 3, 120: 0}, "Maximum": {0: 3, 60: 3, 120: 2}}
    assert values(gateway, "ActiveFlowCount", statistic="Average")[0] == 2.5
    assert list(values(gateway, "ActiveFlowCount", "b", statistic="Maximum")) == [0, 60, 120]


def test_hosts_are_counted_per_zone_and_once_in_all() -> None:
    gateway = Gateway({"load_balancer": {"load_balancing.cross_zone.enabled": True}})
    gateway.wait(60)
    gateway.probe("b-1", FAILED, times=2)
    gateway.wait(60)
    worst = {
        zone: values(gateway, "HealthyHostCount", zone, statistic="Minimum")
        for zone in ("", "a", "b")
    }
    assert worst == {zone: {0: 3, 60: 2, 120: 2} for zone in ("", "a", "b")}
    assert values(gateway, "UnHealthyHostCount", statistic="Maximum") == {0: 0, 60: 1, 120: 1}


def test_what_cloudwatch_does_not_show() -> None:
    gateway = Gateway({"target_group": REBALANCE})
    first = handshake(gateway)
    gateway.reason(tcp(ACK, port=9))
    gateway.probe(first.target.name, FAILED, times=2)
    gateway.through(tcp(ACK, seq=101, ack=901))
    gateway.back(first)
    gateway.wait(60)
    gateway.reason(tcp(ACK, port=9))
    gateway.reason(tcp(ACK, port=9))
    own = {
        (p.metric, *(v for n, v in p.dimensions.items() if n != "LoadBalancer"), p.time): p.value
        for p in gateway.lb.cloudwatch(gateway.now)
        if p.namespace == OWN_NAMESPACE
    }
    other = {"a-1": "a-2", "a-2": "a-1"}[first.target.name]
    assert own == {
        ("DroppedPackets", "no_entry", 0): 1,
        ("DroppedPackets", "wrong_target", 0): 1,
        ("DroppedPackets", "no_entry", 60): 2,
        ("NewFlowCount", first.target.name, 0): 1,
        ("ActiveFlowCount", other, 0): 1,
        ("ActiveFlowCount", other, 60): 1,
        ("MovedFlowCount", 0): 1,
    }


def test_resets_are_counted() -> None:
    gateway = Gateway({"listener": {"send_tcp_reset.on_idle_timeout.enabled": True}})
    for port in (1, 2):
        gateway.enter(tcp(ACK, port=port))
    gateway.enter(tcp(ACK), OTHER)
    assert values(gateway, "TCP_ELB_Reset_Count", "a") == {0: 2}
    assert values(gateway, "TCP_ELB_Reset_Count") == {0: 3}


@pytest.mark.parametrize("start", [0.0, 1.7e9])
def test_a_day_is_kept_and_any_clock_will_do(start: float) -> None:
    gateway = Gateway()
    gateway.now = start
    for _ in range(2000):
        gateway.through(sized(100))
        gateway.wait(60)
    minutes = values(gateway, "NewFlowCount", "a")
    peaks = values(gateway, "PeakBytesPerSecond", "a")
    assert len(peaks) == 24 * 60 + 1
    assert max(peaks) - min(peaks) == 24 * 3600
    assert not minutes  # the one flow is older
    gateway.wait(1e9)
    gateway.through(sized(100))
    assert sum(values(gateway, "NewFlowCount", "a").values()) == 1


def test_asking_changes_nothing() -> None:
    gateway = Gateway()
    gateway.through(sized(100))
    gateway.wait(65)
    assert gateway.lb.cloudwatch(gateway.now) == gateway.lb.cloudwatch(gateway.now)
    assert gateway.lb.metrics["ProcessedBytes"] == 200
    assert values(gateway, "ProcessedBytes") == {0: 200}
