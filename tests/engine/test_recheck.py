"""Live flows judged again after a reload."""

from __future__ import annotations

from typing import Any

from appliance_sdk.engine import EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.events import FlowEnded
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.testing import Bench


class Scan(FlowHandler["Ports"]):
    def data(self, chunk: Chunk) -> Outcome:
        return Verdict.BLOCK if b"evil" in chunk else None


class Ports(Plugin):
    """Blocks the ports in `bad`, scans those in `scanned`."""

    bad: frozenset[int] = frozenset()
    scanned: frozenset[int] = frozenset()

    def flow_opened(self, flow: Flow) -> Opening:
        if flow.server_port in self.bad:
            return Verdict.BLOCK.because("bad")
        if flow.server_port in self.scanned:
            return Scan()
        return Verdict.DONE.because("fine", rule="default")

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        return self.flow_opened(flow)


def plugin(bench: Bench) -> Ports:
    found: Ports = bench.plugin(Ports)
    return found


def test_a_flow_is_blocked_scanned_and_let_go_as_the_rules_change() -> None:
    bench = Bench(Ports)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"evil")
    plugin(bench).scanned = frozenset({80})
    plugin(bench).recheck_flows()
    bench.advance(0)
    assert not web.client_sends(b"evil")
    assert web.verdict == Verdict.BLOCK


def test_a_blocked_flow_that_is_allowed_again_begins_anew() -> None:
    bench = Bench(Ports)
    plugin(bench).bad = frozenset({53})
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert not dns.client_sends(b"1")
    plugin(bench).bad = frozenset()
    plugin(bench).recheck_flows()
    bench.advance(0)
    assert dns.client_sends(b"2")
    ended = [e for e in bench.events if isinstance(e, FlowEnded)]
    assert [(e.end_reason, e.verdict) for e in ended] == [("rejudged", "block")]


def test_many_flows_are_judged_some_at_a_time() -> None:
    bench = Bench(Ports, settings=EngineSettings(recheck_batch=10))
    peers = [bench.udp("10.0.0.1", "10.0.0.2", 53) for _ in range(35)]
    assert all(p.client_sends(b"x") for p in peers)
    plugin(bench).bad = frozenset({53})
    plugin(bench).recheck_flows()
    blocked = []
    for _ in range(4):
        bench.engine.advance(bench.now)
        blocked.append(sum(f.verdict == Verdict.BLOCK for f in bench.flows))
    assert blocked == [10, 20, 30, 35]


def test_why_a_flow_was_let_through_stays_on_it() -> None:
    bench = Bench(Ports)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    web.close()
    bench.advance(5)
    (ended,) = [e for e in bench.events if isinstance(e, FlowEnded)]
    assert (ended.verdict, ended.reason, ended.rule, ended.decided_by) == (
        "forward",
        "fine",
        "default",
        "ports",
    )


def test_a_round_that_is_asked_for_during_a_round_takes_place() -> None:
    seen: list[int] = []

    class Again(Plugin):
        asked = False

        def flow_opened(self, flow: Flow) -> Opening:
            return None

        def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
            seen.append(flow.id)
            if not self.asked:
                self.asked = True
                self.recheck_flows()
            return None

    bench = Bench(Again)
    for _ in range(3):
        bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
    bench.plugin(Again).recheck_flows()
    bench.advance(0)
    assert sorted(seen) == [1, 1, 2, 2, 3, 3]
