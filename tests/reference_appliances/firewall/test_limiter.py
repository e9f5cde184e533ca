"""The new-flow limiter, with a clock made of numbers."""

from __future__ import annotations

from reference_appliances.firewall.limiter import NewFlowLimiter
from reference_appliances.firewall.ruleset import Limit

A, B, C = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), bytes((10, 0, 0, 3))


def taken(limiter: NewFlowLimiter, source: bytes, now: float, tries: int = 20) -> int:
    return sum(limiter.take(source, now) for _ in range(tries))


def test_burst_then_rate() -> None:
    limiter = NewFlowLimiter(Limit(new_flows_per_second=2, burst=5))
    assert taken(limiter, A, 0) == 5
    assert taken(limiter, A, 0.5) == 1
    assert taken(limiter, A, 1.5) == 2
    assert taken(limiter, A, 1000) == 5


def test_the_burst_defaults_to_two_seconds() -> None:
    assert taken(NewFlowLimiter(Limit(new_flows_per_second=3)), A, 0) == 6


def test_sources_do_not_share() -> None:
    limiter = NewFlowLimiter(Limit(new_flows_per_second=1, burst=1))
    assert (taken(limiter, A, 0), taken(limiter, B, 0)) == (1, 1)


def test_an_ipv6_host_is_its_64() -> None:
    limiter = NewFlowLimiter(Limit(new_flows_per_second=1, burst=1))
    prefix = bytes.fromhex("20010db800000001")
    assert limiter.take(prefix + bytes(7) + b"\1", 0)
    assert not limiter.take(prefix + bytes(7) + b"\2", 0)
    assert limiter.take(bytes.fromhex("20010db800000002") + bytes(8), 0)


def test_zero_is_no_limit_and_remembers_nobody() -> None:
    limiter = NewFlowLimiter(Limit(new_flows_per_second=0))
    assert taken(limiter, A, 0, 5000) == 5000
    assert len(limiter) == 0


def test_the_table_is_bounded_and_forgets_the_longest_silent() -> None:
    limiter = NewFlowLimiter(Limit(new_flows_per_second=1, burst=1, sources=2))
    assert limiter.take(A, 0)
    assert limiter.take(B, 0)
    assert not limiter.take(A, 0)
    assert limiter.take(C, 0)  # B goes, A spoke after it
    assert len(limiter) == 2
    assert not limiter.take(A, 0)
    assert limiter.take(B, 0)


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    limiter = NewFlowLimiter(Limit(new_flows_per_second=1, burst=1))
    assert limiter.take(A, 100)
    assert not limiter.take(A, 50)
