"""The new-flow limiter: per source, per window, over all workers."""

from __future__ import annotations

from appliance_sdk import Plugin
from appliance_sdk.testing import Bench
from reference_appliances.firewall.limiter import NewFlowLimiter
from reference_appliances.firewall.ruleset import Limit

A, B = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))


class Holder(Plugin):
    """Has what is shared."""


class Limiting:
    """A limiter, and a clock that the test moves."""

    def __init__(self, **limit: float) -> None:
        self.bench = Bench(Holder)
        self.bench.advance(1000 - self.bench.now % 1000)  # where windows of all lengths begin
        self._limiter = NewFlowLimiter(Limit(**limit), self.bench.plugin(Holder).shared)

    def taken(self, source: bytes, tries: int = 20) -> int:
        return sum(self._limiter.take(source) for _ in range(tries))


def test_a_burst_in_each_window_that_the_rate_takes_for_it() -> None:
    limit = Limiting(new_flows_per_second=2, burst=5)
    assert limit.taken(A) == 5
    limit.bench.advance(2.4)
    assert limit.taken(A) == 0
    limit.bench.advance(0.2)
    assert limit.taken(A) == 5


def test_the_burst_defaults_to_two_seconds() -> None:
    limit = Limiting(new_flows_per_second=3)
    assert limit.taken(A) == 6
    limit.bench.advance(1.9)
    assert limit.taken(A) == 0
    limit.bench.advance(0.2)
    assert limit.taken(A) == 6


def test_sources_do_not_share() -> None:
    limit = Limiting(new_flows_per_second=1, burst=1)
    assert (limit.taken(A), limit.taken(B)) == (1, 1)


def test_an_ipv6_host_is_its_64() -> None:
    limit = Limiting(new_flows_per_second=1, burst=1)
    prefix = bytes.fromhex("20010db800000001")
    assert limit.taken(prefix + bytes(7) + b"\1") == 1
    assert limit.taken(prefix + bytes(7) + b"\2") == 0
    assert limit.taken(bytes.fromhex("20010db800000002") + bytes(8)) == 1


def test_zero_is_no_limit() -> None:
    assert Limiting(new_flows_per_second=0).taken(A, 5000) == 5000


def test_less_than_one_flow_a_second_is_one_flow_in_its_time() -> None:
    limit = Limiting(new_flows_per_second=0.1)
    assert limit.taken(A) == 1
    limit.bench.advance(9.9)
    assert limit.taken(A) == 0
    limit.bench.advance(0.2)
    assert limit.taken(A) == 1
