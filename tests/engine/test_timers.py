"""When handlers are woken, and of which flows."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.testing import Bench


class Sleeper(FlowHandler["Wakes"]):
    on_packet_s: float = 0.0

    def packet(self, packet: Packet) -> Outcome:
        if self.on_packet_s:
            self.wake(self.on_packet_s)
        return None

    def woken(self) -> Outcome:
        Wakes.times.append(self.plugin.now - 1000)
        return None


class Wakes(Plugin):
    """Its handlers are woken `at_opening_s` after the flow opens."""

    at_opening_s: ClassVar[Any] = None
    on_packet_s: ClassVar[float] = 0.0
    last: ClassVar[Sleeper]
    times: ClassVar[list[float]] = []

    def flow_opened(self, flow: Flow) -> Opening:
        handler = Wakes.last = Sleeper(on_packet_s=self.on_packet_s)
        if self.at_opening_s is not None:
            handler.wake(self.at_opening_s)
        return handler

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        return handler


class Later(Plugin):
    """Moves the timer of the handler that was attached before it is asked."""

    answer: ClassVar[Opening] = None

    def flow_opened(self, flow: Flow) -> Opening:
        Wakes.last.wake(2)
        return self.answer


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Wakes.at_opening_s, Wakes.on_packet_s, Wakes.times = None, 0.0, []
    Later.answer = None


def opened(*plugins: type[Plugin], port: int = 53) -> Bench:
    """A bench with one flow, that one packet has come of."""
    bench = Bench(*plugins)
    bench.udp("10.0.0.1", "10.0.0.2", port).client_sends(b"x")
    return bench


def rechecked(bench: Bench, kind: type[Plugin] = Wakes) -> None:
    bench.plugin(kind).recheck_flows()
    bench.advance(0)


def test_a_recheck_that_keeps_the_handler_keeps_its_timer() -> None:
    Wakes.on_packet_s = 10
    bench = opened(Wakes)
    bench.advance(1)
    rechecked(bench)
    assert bench.engine.agenda._timers.deadline(Wakes.last) == 1010
    bench.advance(100)
    assert Wakes.times == [10]


def test_a_handler_that_was_woken_is_not_woken_again_for_a_recheck() -> None:
    Wakes.at_opening_s = 1
    bench = opened(Wakes)
    bench.advance(1.5)
    rechecked(bench)
    bench.advance(20)
    assert Wakes.times == [1]


def test_a_later_plugin_moves_the_timer_of_a_handler_in_the_same_opening() -> None:
    Wakes.at_opening_s = 1
    bench = opened(Wakes, Later)
    bench.advance(20)
    assert Wakes.times == [2]


def test_a_handler_asks_at_once_before_it_has_a_flow_and_afterwards() -> None:
    Wakes.at_opening_s = 0
    bench = opened(Wakes)
    bench.advance(1)
    assert Wakes.times == [0]


def test_a_time_that_is_no_number_is_an_error_of_the_plugin() -> None:
    Wakes.at_opening_s = "soon"
    bench = opened(Wakes)
    assert bench.engine.guard.errors["wakes"] == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_flow_that_is_dropped_at_its_opening_has_no_timers(late: bool) -> None:
    Later.answer = Verdict.DROP
    bench = opened(Wakes, Later)
    if late:
        Wakes.last.wake(5)
    assert bench.engine.flow_count == 0
    assert len(bench.engine.agenda._timers) == 0
    bench.advance(20)
    assert Wakes.times == []


class Decides(Wakes):
    """Blocks a flow and returns a handler all the same."""

    def flow_opened(self, flow: Flow) -> Opening:
        if flow.server_port == 53:
            return None
        return self.recheck(flow, None)

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        flow.set(Verdict.BLOCK)
        return super().flow_opened(flow)


@pytest.mark.parametrize("port", [53, 54])
def test_a_handler_that_is_returned_for_a_flow_just_decided_has_no_timer(port: int) -> None:
    Wakes.at_opening_s = 1
    bench = opened(Decides, port=port)
    if port == 53:
        rechecked(bench, Decides)
    (flow,) = bench.flows
    assert flow.verdict == Verdict.BLOCK
    assert len(bench.engine.agenda._timers) == 0
    bench.advance(20)
    assert Wakes.times == []


class Replaces(Wakes):
    """Gives the flow another handler at each recheck."""

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        return Sleeper()


def test_a_handler_that_another_one_has_replaced_has_no_timer_any_more() -> None:
    bench = opened(Replaces)
    rechecked(bench, Replaces)
    Wakes.last.wake(5)
    assert len(bench.engine.agenda._timers) == 0
