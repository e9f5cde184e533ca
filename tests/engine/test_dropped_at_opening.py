"""A flow that a plugin drops before it is one: nobody keeps anything of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from appliance_sdk import Chunk, Flow, FlowHandler, Opening, Outcome, Packet, Plugin, Verdict
from appliance_sdk.testing import Bench


class Watch(FlowHandler["Watches"]):
    def packet(self, packet: Packet) -> Outcome:
        return None

    def data(self, chunk: Chunk) -> Outcome:
        return None

    def woken(self) -> Outcome:
        self.plugin.woken_of.append(self.flow)
        return None


class Watches(Plugin):
    """Wants to see every flow, and keeps a list."""

    def start(self) -> None:
        self.woken_of: list[Flow] = []
        self.watching: list[Watch] = []

    def flow_opened(self, flow: Flow) -> Opening:
        handler = Watch()
        handler.wake(1.0)
        self.watching.append(handler)
        return handler


class Drops(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        flow.record(3)
        return Verdict.DROP


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def flows() -> list[Any]:
    return [one for one in gc.get_objects() if isinstance(one, (Flow, Watch))]


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_it_is_gone_without_the_collector(no_collector: None, kind: str) -> None:
    bench = Bench(Watches, Drops)
    before = len(flows())
    for number in range(1, 50):
        if kind == "udp":
            assert not bench.udp(f"10.0.0.{number}", "10.0.0.99", 53).client_sends(b"x")
        else:
            assert not bench.tcp(f"10.0.0.{number}", "10.0.0.99", 80).handshake()
    bench.plugin(Watches).watching.clear()
    bench.events.clear()
    assert bench.flows == []
    assert len(flows()) == before


def test_its_handler_is_not_woken() -> None:
    bench = Bench(Watches, Drops)
    assert not bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
    (handler,) = bench.plugin(Watches).watching
    assert handler.flow.end_reason == "dropped"
    handler.wake(1.0)
    bench.advance(5)
    assert bench.plugin(Watches).woken_of == []
    assert bench.engine.recording.bytes == 0
