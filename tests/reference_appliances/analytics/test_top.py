"""The summary against an exact count."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_appliances.analytics.top import SpaceSaving, Top

STREAMS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1500)), max_size=300)


@given(STREAMS, st.integers(1, 50))
def test_what_is_promised_about_every_stream(stream: list[tuple[int, int]], capacity: int) -> None:
    exact: Counter[int] = Counter()
    times = Counter(key for key, _ in stream)
    summary: SpaceSaving[int] = SpaceSaving(capacity)
    for key, weight in stream:
        exact[key] += weight
        summary.add(key, weight)
        assert len(summary) <= capacity
    assert summary.total == exact.total()
    assert summary.bound <= summary.total / capacity
    kept = {top.key: top for top in summary.top(capacity)}
    for key, top in kept.items():
        assert top.weight - top.over <= exact[key] <= top.weight
        assert top.over <= summary.bound
        assert top.times <= times[key]
        assert top.over or top.times == times[key]
    assert all(exact[key] <= summary.bound for key in exact.keys() - kept.keys())
    if len(exact) <= capacity:
        assert summary.bound == 0
        assert {key: top.weight for key, top in kept.items()} == dict(exact)


@given(STREAMS)
def test_heaviest_first(stream: list[tuple[int, int]]) -> None:
    summary: SpaceSaving[int] = SpaceSaving(10)
    for key, weight in stream:
        summary.add(key, weight)
    weights = [top.weight for top in summary.top(5)]
    assert weights == sorted(weights, reverse=True)
    assert len(weights) == min(5, len(summary))


def test_the_heavy_one_stays_among_many_light_ones() -> None:
    summary: SpaceSaving[str] = SpaceSaving(100)
    for number in range(100_000):
        summary.add(f"light {number}", 10)
        if not number % 10:
            summary.add("heavy", 10)
    (heavy,) = summary.top(1)
    assert heavy.key == "heavy"
    assert heavy.weight - heavy.over <= 100_000 <= heavy.weight
    assert len(summary._heap) == len(summary) == 100


def test_a_summary_of_nothing() -> None:
    summary: SpaceSaving[str] = SpaceSaving(1)
    assert summary.top(3) == []
    summary.add("a", 5)
    summary.add("b", 1)
    assert summary.top(3) == [Top("b", 6, 5, 1)]
    with pytest.raises(ValueError, match="at least 1"):
        SpaceSaving(0)
