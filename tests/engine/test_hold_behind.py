"""Who is asked behind a plugin that waits, whatever becomes of the waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance_sdk import Flow, FlowHandler, Opening, Outcome, Packet, Plugin, Verdict
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.engine import EngineSettings
from appliance_sdk.engine.holding import HoldLimits
from appliance_sdk.testing import Bench
from appliance_sdk.wire import build_udp, fragment_packet


class Behind(Plugin):
    """Is asked after another plugin's flows have waited."""

    def start(self) -> None:
        self.asked: list[int] = []

    def flow_opened(self, flow: Flow) -> Opening:
        assert flow.packet is not None
        self.asked.append(len(flow.packet.copy()))
        return Verdict.BLOCK.because("behind", rule="2")


@pytest.mark.parametrize("seconds", [0.26, 0.31], ids=["answered", "too late"])
def test_who_opens_with_a_fragment_is_asked_about_by_all(seconds: float) -> None:
    class Agrees(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            answer = asyncio.sleep(0.25 if seconds < 0.3 else 100, Verdict.CONTINUE)
            return flow.hold(answer, timeout_s=0.3, otherwise=Verdict.CONTINUE)

    bench = Bench(Agrees, Behind)
    packet = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 5000, 1, payload=bytes(2000))
    first, *_ = pieces = fragment_packet(numbered(packet, 1), 1280)
    for piece in pieces:
        assert bench.send(piece) == []
    assert bench.engine.holding.packets == 0
    bench.advance(seconds)
    (flow,) = bench.flows
    assert (flow.verdict, flow.decided_by) == (Verdict.BLOCK, "behind")
    assert bench.plugin(Behind).asked == [len(first)]
    assert bench.engine.holding._bytes == bench.engine.holding.flows == 0


def test_two_that_wait_for_one_packet_are_both_too_late() -> None:
    class Slow(Plugin):
        reason = "the first"

        def flow_opened(self, flow: Flow) -> Opening:
            return Waits()

    class Waits(FlowHandler[Any]):
        def packet(self, packet: Packet) -> Outcome:
            otherwise = Verdict.BLOCK.because(self.plugin.reason)
            return self.flow.hold(asyncio.sleep(100, None), timeout_s=0.3, otherwise=otherwise)

    class Slower(Slow):
        reason = "the second"

    bench = Bench(Slow, Slower)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert not dns.client_sends(b"one")
    bench.advance(0.31)
    assert dns.verdict == Verdict.BLOCK
    assert dns.verdict.reason == "the first"
    assert bench.engine.holding.flows == bench.engine.holding.packets == 0


@pytest.mark.parametrize("limits", [HoldLimits(flows=1), HoldLimits(total_bytes=100)])
def test_without_room_to_wait_the_plugins_behind_are_asked_all_the_same(
    limits: HoldLimits,
) -> None:
    class Trusting(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return flow.hold(asyncio.sleep(100, None), timeout_s=0.3, otherwise=Verdict.CONTINUE)

    class AlsoTrusting(Trusting):
        """Another one that there is no room for."""

    bench = Bench(Trusting, AlsoTrusting, Behind, settings=EngineSettings(hold=limits))
    flows = [bench.udp(f"10.0.0.{n}", "10.0.0.99", 1) for n in (1, 2)]
    for flow in flows:
        assert not flow.client_sends(b"x")
    assert flows[1].verdict.reason == "behind"
    refused = [name for name in bench.engine.metrics if name.endswith("hold_refused")]
    assert len(refused) == 2
    bench.advance(1)
    assert flows[0].verdict.reason == "behind"


def test_a_flow_that_was_decided_does_not_wait() -> None:
    class Undecided(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            flow.set(Verdict.BLOCK.because("set"))
            return flow.hold(asyncio.sleep(0.1, None), timeout_s=0.3, otherwise=Verdict.CONTINUE)

    bench = Bench(Undecided)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert not dns.client_sends(b"x")
    assert bench.engine.holding.flows == 0
    bench.advance(1)
    assert not dns.client_sends(b"x")
    assert dns.verdict.reason == "set"
