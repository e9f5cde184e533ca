"""What the engine makes is freed without the collector, which must not run while packets come."""

from __future__ import annotations

import gc

from appliance_sdk import Chunk, Flow, FlowHandler, Opening, Outcome, Packet, Plugin, Verdict
from appliance_sdk.testing import Bench


class Everything(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        flow.record(4)
        return Sees()


class Sees(FlowHandler["Everything"]):
    seen: int = 0

    def packet(self, packet: Packet) -> Outcome:
        self.seen += 1
        self.wake(1)
        return None

    def data(self, chunk: Chunk) -> Outcome:
        return Verdict.BLOCK if b"bad" in chunk else None


def test_flows_that_ended_leave_nothing_for_the_collector() -> None:
    bench = Bench(Everything)

    def traffic() -> None:
        for number in range(100):
            web = bench.tcp("10.0.0.1", "10.0.0.2", 80, client_port=2000 + number)
            web.client_sends(b"bad" if number % 3 == 0 else b"good")
            web.close()
        bench._peers.clear()
        bench.events.clear()
        bench.advance(1000)

    traffic()
    gc.collect()
    gc.disable()
    try:
        traffic()
        assert bench.engine.flow_count == 0
        assert gc.collect() < 100  # objects, of the thousands that 100 flows are
    finally:
        gc.enable()
