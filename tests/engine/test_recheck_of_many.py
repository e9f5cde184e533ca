"""A recheck of many flows: a few at a time, however the table changes meanwhile."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Any

from appliance_sdk import Flow, FlowHandler, Outcome, Plugin
from appliance_sdk.engine import EngineSettings
from appliance_sdk.testing import Bench
from appliance_sdk.wire import build_udp

BATCH, FLOWS = 50, 2000


class Judges(Plugin):
    def start(self) -> None:
        self.judged: Counter[bytes] = Counter()

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Outcome:
        self.judged[flow.client_ip] += 1
        return None


def address(number: int) -> bytes:
    return (int(ipaddress.ip_address("10.0.0.0")) + number).to_bytes(4, "big")


def open_flow(bench: Bench, number: int) -> None:
    assert bench.send(build_udp(address(number), b"\x0b\0\0\1", 5000, 53, payload=b"x"))


def test_who_is_there_all_the_while_is_judged_once() -> None:
    settings = EngineSettings(recheck_batch=BATCH, max_flows=10 * FLOWS)
    bench = Bench(Judges, settings=settings)
    for number in range(FLOWS):
        open_flow(bench, number)
    plugin = bench.plugin(Judges)
    plugin.recheck_flows()
    assert not plugin.judged
    rounds = closed = 0
    while bench.engine.next_deadline() <= bench.now:
        before = plugin.judged.total()
        bench.engine.advance(bench.now)
        assert plugin.judged.total() - before <= BATCH
        rounds += 1
        for number in (closed, FLOWS - 1 - closed):
            flow = next(f for f in bench.flows if f.client_ip == address(number))
            bench.engine.lifecycle.close(flow, "idle")
        closed += 1
        for number in range(4):
            open_flow(bench, FLOWS + 10 * rounds + number)
    assert rounds >= FLOWS // BATCH
    staying = [address(number) for number in range(closed, FLOWS - closed)]
    assert {plugin.judged[one] for one in staying} == {1}
    assert max(plugin.judged.values()) == 1


def test_a_second_round_takes_the_place_of_the_first() -> None:
    bench = Bench(Judges, settings=EngineSettings(recheck_batch=BATCH))
    for number in range(200):
        open_flow(bench, number)
    plugin = bench.plugin(Judges)
    plugin.recheck_flows()
    bench.engine.advance(bench.now)
    assert plugin.judged.total() == BATCH
    plugin.recheck_flows()
    while bench.engine.next_deadline() <= bench.now:
        bench.engine.advance(bench.now)
    assert plugin.judged.total() == BATCH + 200
