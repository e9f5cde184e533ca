from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.flow.expiry import Expiry, Tracked
from appliance_sdk.flow.key import FlowKey, pack_ends
from appliance_sdk.flow.lane import Lane
from appliance_sdk.flow.table import FlowTable


def key(port: int) -> FlowKey:
    return (7, 6, b"\x0a\0\0\x01", b"\x0a\0\0\x02", port, 443)


ANSWER: FlowKey = (7, 6, b"\x0a\0\0\x02", b"\x0a\0\0\x01", 443, 1)
"""The key of what answers packets of `key(1)`."""


def flow(port: int, now: float = 0.0, timeout_s: float = 30.0, lane: Any = None) -> Tracked:
    return Tracked(lane or Lane(7, 6), pack_ends(*key(port)[2:]), now, timeout_s)


def test_one_look_up_gives_flow_and_direction() -> None:
    table: FlowTable[Tracked] = FlowTable(10)
    f = flow(1, lane=table.lane(7, 6))
    table.add(f, True)
    assert f.key == key(1)
    assert table.get(f.key) == (f, True)
    assert table.get(ANSWER) == (f, False)
    assert table.get(key(2)) is None
    assert list(table) == [f]
    table.remove(f)
    assert table.get(f.key) is None
    assert table.get(ANSWER) is None
    assert len(table) == 0


def test_the_same_tuple_behind_two_endpoints_is_two_flows() -> None:
    table: FlowTable[Tracked] = FlowTable(10)
    one = flow(1, lane=table.lane(7, 6))
    other = flow(1, lane=table.lane(8, 6))
    assert one.ends == other.ends
    table.add(one, True)
    table.add(other, True)
    assert table.get(one.key) == (one, True)
    assert table.get(other.key) == (other, True)


def test_room_is_made_by_the_oldest_half_open_flow_and_never_by_an_established_one() -> None:
    table: FlowTable[Tracked] = FlowTable(3)
    flows = [flow(port, lane=table.lane(7, 6)) for port in (1, 2, 3)]
    for f in flows:
        table.add(f, True)
    assert table.full
    table.established(flows[0], 350)
    assert table.make_room() is flows[1]
    table.remove(flows[1])
    assert table.make_room() is flows[2]
    table.remove(flows[2])
    assert table.make_room() is None


def test_a_closing_flow_goes_first_again_and_sooner() -> None:
    table: FlowTable[Tracked] = FlowTable(3)
    f = flow(1, now=100.0, lane=table.lane(7, 6))
    table.add(f, True)
    table.established(f, 350)
    table.closing(f, 2)
    assert table.make_room() is f
    assert table.expiry.due(102.0, 100) == [f]


def test_a_half_open_flow_that_closes_keeps_its_turn() -> None:
    table: FlowTable[Tracked] = FlowTable(3)
    first, second, third = (flow(port, lane=table.lane(7, 6)) for port in (1, 2, 3))
    for f in (first, second):
        table.add(f, True)
    table.add(third, False)
    table.closing(third, 2)
    table.closing(first, 2)
    given_up = []
    while (oldest := table.make_room()) is not None:
        table.remove(oldest)
        given_up.append(oldest)
    assert given_up == [first, second, third]


def test_a_flow_whose_time_grows_shorter_with_its_answer_ends_in_that_time() -> None:
    table: FlowTable[Tracked] = FlowTable(3)
    f = flow(1, now=100.0, timeout_s=30.0, lane=table.lane(7, 6))
    table.add(f, True)
    table.established(f, 5)
    assert table.expiry.due(104.0, 100) == []
    assert table.expiry.due(105.0, 100) == [f]


@pytest.mark.parametrize("protocol", [6, 17, 1, 132])
def test_every_flow_is_told_once_whatever_its_protocol(protocol: int) -> None:
    table: FlowTable[Tracked] = FlowTable(1000)
    lane = table.lane(7, protocol)
    flows = {flow(port, lane=lane) for port in range(1, 500)}
    for f in flows:
        table.add(f, True)
    told = list(table)
    assert len(told) == len(flows)
    assert set(told) == flows


def test_a_flow_that_ends_is_held_by_nothing() -> None:
    table: FlowTable[Tracked] = FlowTable(10)
    flows = [flow(port, lane=table.lane(7, 6)) for port in (1, 2, 3)]
    alone = sys.getrefcount(flows[1])
    for f in flows:
        table.add(f, True)
    del f
    table.remove(flows[1])
    held = sys.getrefcount(flows[1])
    assert held == alone
    assert table.expiry.due(1e6, 100) == [flows[0], flows[2]]


def test_endpoints_that_have_no_flows_any_more_are_forgotten() -> None:
    table: FlowTable[Tracked] = FlowTable(10)
    kept = flow(1, lane=table.lane(1, 6))
    table.add(kept, True)
    for endpoint in range(2, 5000):
        f = flow(1, lane=table.lane(endpoint, 6))
        table.add(f, True)
        table.meet(f.lane, b"header of %d" % endpoint)
        table.remove(f)
    assert len(table.usual[6]) < 1000
    assert table.get((1, *kept.key[1:])) == (kept, True)
    assert list(table) == [kept]


def test_a_busy_flow_is_looked_at_once_an_idle_time() -> None:
    expiry: Expiry[Tracked] = Expiry()
    f = flow(1, timeout_s=30)
    expiry.add(f)
    looks = 0
    for second in range(1, 301):
        f.last_seen = float(second)
        if expiry.next_deadline() <= second:
            looks += 1
            assert expiry.due(float(second), 100) == []
    assert looks <= 11
    assert expiry.due(329.0, 100) == []
    assert expiry.due(330.0, 100) == [f]


def test_a_discarded_flow_never_comes_up() -> None:
    expiry: Expiry[Tracked] = Expiry()
    f = flow(1)
    expiry.add(f)
    expiry.discard(f)
    assert expiry.due(1e6, 100) == []


def test_due_looks_at_no_more_than_its_limit() -> None:
    expiry: Expiry[Tracked] = Expiry()
    flows = [flow(port) for port in range(100)]
    for f in flows:
        expiry.add(f)
    first = expiry.due(1000.0, 30)
    assert len(first) == 30
    assert len(expiry.due(1000.0, 100)) == 70


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20), st.floats(0, 500), st.sampled_from([2.0, 30.0, 130.0, 360.0])
        ),
        max_size=60,
    )
)
def test_every_flow_comes_up_exactly_once_and_not_before_its_time(
    steps: list[tuple[int, float, float]],
) -> None:
    expiry: Expiry[Tracked] = Expiry()
    live: dict[int, Tracked] = {}
    ended: Counter[int] = Counter()
    now = 0.0
    for port, at, timeout_s in sorted(steps, key=lambda s: s[1]):
        now = at
        for f in expiry.due(now, 1000):
            assert f.last_seen + f.timeout_s <= now
            ended[f.key[4]] += 1
            del live[f.key[4]]
        if port in live:
            live[port].last_seen = now
            if timeout_s < live[port].timeout_s:
                live[port].timeout_s = timeout_s
                expiry.add(live[port])
        else:
            live[port] = flow(port, now, timeout_s)
            expiry.add(live[port])
    rest = expiry.due(now + 1000, 10_000)
    assert {f.key[4] for f in rest} == set(live)
    assert len(rest) == len(live)


def test_a_flood_of_endpoints_takes_little_for_each_and_finds_every_flow() -> None:
    table: FlowTable[Tracked] = FlowTable(2000)
    flows = []
    for endpoint in range(1000):
        flows.append(flow(1, lane=table.lane(endpoint, 6)))
        table.add(flows[-1], True)
    dictionaries = [len({id(shard) for shard in one.lane.shards}) for one in flows]
    assert dictionaries[0] == 64  # one that has many flows must not stop for all when it grows
    assert dictionaries[-1] == 8
    assert set(table) == set(flows)
    assert all(table.get(one.key) == (one, True) for one in flows)
    for one in flows:
        table.remove(one)
    assert not list(table)


def test_endpoints_without_flows_are_forgotten_a_few_at_a_time() -> None:
    table: FlowTable[Tracked] = FlowTable(2000)
    flows = []
    for endpoint in range(1000):
        flows.append(flow(1, lane=table.lane(endpoint, 6)))
        table.add(flows[-1], True)
    for one in flows:
        table.remove(one)
    assert not any(one.lane.gone for one in flows)
    table.forget_lanes()
    assert 0 < sum(one.lane.gone for one in flows) < 10
    for _ in range(1000):
        table.forget_lanes()
    assert 400 < sum(one.lane.gone for one in flows) < 500  # the few are kept
    assert table.lane(0, 6) is not flows[0].lane
    assert table.lane(999, 6) is flows[999].lane
