"""What a restart keeps of a flow, and what it had better meet anew."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgpack
import pytest

from appliance_sdk import Flow, Opening, Plugin, Verdict
from appliance_sdk.plugin.events import Dropped, Event, FlowEnded
from appliance_sdk.testing import Bench


def events(bench: Bench, kind: type[Event]) -> list[Any]:
    return [event for event in bench.events if isinstance(event, kind)]


class Slow(Plugin):
    """Has every flow wait."""

    def flow_opened(self, flow: Flow) -> Opening:
        return flow.hold(asyncio.sleep(100), timeout_s=1, otherwise=Verdict.BLOCK)


class Decides(Plugin):
    """By the port."""

    def flow_opened(self, flow: Flow) -> Opening:
        if flow.server_port == 53:
            return Verdict.BLOCK.because("no", rule="1")
        return Verdict.DONE.because("seen", rule="7")


def test_a_flow_that_waits_for_its_first_verdict_is_asked_about_again() -> None:
    bench = Bench(Slow, Decides)
    assert not bench.udp("10.0.0.1", "10.0.0.2", 80).client_sends(b"x")
    assert list(bench.engine.snapshot()) == []


def test_a_verdict_is_kept_with_its_reason_whatever_it_is() -> None:
    bench = Bench(Decides)
    flows = [bench.udp("10.0.0.1", "10.0.0.2", port) for port in (53, 80)]
    assert [flow.client_sends(b"x") for flow in flows] == [False, True]
    bench.restart()
    assert [flow.client_sends(b"x") for flow in flows] == [False, True]
    assert len(events(bench, Dropped)) == 1
    bench.close()
    told = {
        (ended.verdict, ended.reason, ended.rule, ended.decided_by)
        for ended in events(bench, FlowEnded)[-2:]
    }
    assert told == {("block", "no", "1", "decides"), ("forward", "seen", "7", "decides")}


def test_a_connection_that_has_not_begun_or_is_over_is_not_kept() -> None:
    bench = Bench(Decides)
    established = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    established.client_sends(b"x")
    over = bench.tcp("10.0.0.3", "10.0.0.2", 80)
    over.client_sends(b"x")
    over.reset()
    assert len(bench.flows) == 2
    bench.restart()
    assert [flow.client_ip for flow in bench.flows] == [b"\x0a\0\0\x01"]
    assert established.client_sends(b"y")


@pytest.mark.parametrize("ages", [(math.inf, 1.0), (1.0, math.nan), (1.0, 2.0), (1.0, -1.0)])
def test_a_record_of_an_impossible_age_costs_no_other_flow(ages: tuple[float, float]) -> None:
    bench = Bench(Decides)
    for number in (1, 3):
        assert bench.udp(f"10.0.0.{number}", "10.0.0.2", 80).client_sends(b"x")
    first, second = bench.engine.snapshot()
    record = msgpack.unpackb(first)
    record[2:4] = ages
    fresh = Bench(Decides)
    assert fresh.engine.restore([msgpack.packb(record), second], fresh.now) == 1
    assert len(fresh.flows) == 1
    assert fresh.engine.metrics["engine.state_refused"] == 1
