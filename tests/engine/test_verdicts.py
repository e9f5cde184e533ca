"""What the engine does with what plugins say."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from appliance_sdk.engine import EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.config import PluginConfig
from appliance_sdk.plugin.events import Dropped, FlowEnded
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_icmp, build_tcp, build_udp
from appliance_sdk.wire.packet import ACK, RST, SYN, parse_packet

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


class Says(Plugin):
    """Answers flow_opened with what the test put here."""

    answer: ClassVar[Opening] = None
    asked: ClassVar[list[str]] = []

    def flow_opened(self, flow: Flow) -> Opening:
        Says.asked.append(str(flow))
        answer = type(self).answer
        return type(answer)() if isinstance(answer, FlowHandler) else answer

    def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
        Says.asked.append(f"closed {flow.end_reason}")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Says.answer = None
    Says.asked = []


def test_block_is_silent_and_lasts() -> None:
    Says.answer = Verdict.BLOCK.because("no", rule="r1")
    bench = Bench(Says)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert not web.client_sends(b"x")
    assert not web.server_sends(b"x")
    assert bench.injected == []
    assert len(Says.asked) == 1
    assert bench.engine.drops["plugin_block"] == 3
    drop = [e for e in bench.events if isinstance(e, Dropped)]
    assert [(d.action, d.reason, d.rule, d.plugin) for d in drop] == [("block", "no", "r1", "says")]


def test_drop_from_flow_opened_keeps_no_flow_and_asks_again() -> None:
    Says.answer = Verdict.DROP
    bench = Bench(Says)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.verdict == Verdict.DROP
    assert bench.flows == []
    web.handshake()
    assert len(Says.asked) == 2
    Says.answer = None
    assert web.handshake()
    bench.close()
    assert Says.asked[3:] == ["closed shutdown"]


def test_a_rejected_syn_is_answered_with_the_numbers_of_rfc_9293() -> None:
    Says.answer = Verdict.REJECT
    bench = Bench(Says)
    (rst,) = bench.send(build_tcp(A, B, 4000, 23, seq=77, flags=SYN))
    h = parse_packet(rst, 0, len(rst))
    assert (h.source, h.destination, h.source_port, h.destination_port) == (B, A, 23, 4000)
    assert (h.seq, h.ack, h.flags) == (0, 78, RST | ACK)
    assert len(bench.send(build_tcp(A, B, 4000, 23, seq=77, flags=SYN))) == 1
    assert bench.send(build_tcp(A, B, 4000, 23, seq=77, flags=RST)) == []


def test_reject_in_mid_stream_resets_both_ends_with_the_numbers_they_expect() -> None:
    class Reject(FlowHandler["Says"]):
        def data(self, chunk: Chunk) -> Outcome:
            return Verdict.REJECT if b"evil" in chunk else None

    Says.answer = Reject()
    bench = Bench(Says)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"fine")
    assert not web.client_sends(b"evil")
    assert web.client_reset
    assert web.server_reset
    to_client, to_server = (parse_packet(p, 0, len(p)) for p in bench.injected)
    assert (to_client.destination, to_client.seq) == (A, 500_001)
    assert (to_server.destination, to_server.seq) == (B, 1001 + 4)


def test_a_rejected_udp_flow_gets_an_icmp_error_that_quotes_it() -> None:
    Says.answer = Verdict.REJECT
    bench = Bench(Says)
    packet = build_udp(A, B, 5000, 53, payload=b"query")
    (error,) = bench.send(packet)
    h = parse_packet(error, 0, len(error))
    assert (h.source, h.destination, h.icmp_type) == (B, A, 3)
    assert error[h.transport + 8 :].startswith(packet[:28])


def test_an_icmp_error_is_never_answered() -> None:
    Says.answer = Verdict.REJECT
    quoted = build_udp(B, A, 53, 5000, payload=b"x")[:28]
    assert Bench(Says).send(build_icmp(A, B, 3, 3, b"\0\0\0\0" + quoted)) == []


def test_rejects_are_limited_in_rate() -> None:
    Says.answer = Verdict.REJECT
    bench = Bench(Says, settings=EngineSettings(rejects_per_s=5))
    answers = sum(
        len(bench.send(build_tcp(A, B, port, 23, flags=SYN))) for port in range(4000, 4020)
    )
    assert answers == 5
    assert bench.engine.answers.suppressed == 15


def test_drop_with_reply_answers_a_datagram() -> None:
    class Sunk(FlowHandler["Says"]):
        def packet(self, packet: Packet) -> Outcome:
            if packet.to_server:
                return Verdict.DROP.because("sinkholed").reply(b"0.0.0.0")
            return None

    Says.answer = Sunk()
    bench = Bench(Says)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert not dns.client_sends(b"bad.example")
    assert dns.client_received == b"0.0.0.0"
    assert dns.verdict == Verdict.CONTINUE


def test_reject_with_reply_ends_a_tcp_flow_with_a_page() -> None:
    class Page(FlowHandler["Says"]):
        def data(self, chunk: Chunk) -> Outcome:
            return Verdict.REJECT.because("category").reply(b"HTTP/1.1 403 No\r\n\r\n")

    Says.answer = Page()
    bench = Bench(Says)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert not web.client_sends(b"GET / HTTP/1.1\r\n\r\n")
    assert web.client_received == b"HTTP/1.1 403 No\r\n\r\n"
    assert web.server_reset
    assert not web.client_reset


def test_the_first_terminal_verdict_ends_the_asking() -> None:
    seen: list[str] = []

    class First(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            seen.append("first")
            return Verdict.BLOCK.because("first says so")

        def flow_closed(self, flow: Flow, handler: Any) -> None:
            seen.append("first closed")

    class Second(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            seen.append("second")
            return None

        def flow_closed(self, flow: Flow, handler: Any) -> None:
            seen.append("second closed")

    bench = Bench(First, Second)
    assert bench.tcp("10.0.0.1", "10.0.0.2", 80).flow.decided_by == "first"  # type: ignore[union-attr]
    bench.close()
    assert seen == ["first", "first closed"]


def test_a_packet_dropped_by_one_plugin_did_not_happen_for_the_next() -> None:
    seen: list[bytes] = []

    class Picky(FlowHandler["Says"]):
        def packet(self, packet: Packet) -> Outcome:
            return Verdict.DROP if b"no" in packet.payload else None

    class Watcher(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Watch()

    class Watch(FlowHandler["Watcher"]):
        def data(self, chunk: Chunk) -> Outcome:
            seen.append(chunk.data)
            return None

    Says.answer = Picky()
    bench = Bench(Says, Watcher)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert not web.client_sends(b"no")
    assert web.client_sends(b"yes")
    assert seen == [b"yes"]


def test_done_bypasses_the_flow_but_timers_and_the_end_go_on() -> None:
    calls: list[str] = []

    class Once(FlowHandler["Says"]):
        def packet(self, packet: Packet) -> Outcome:
            calls.append("packet")
            self.wake(5)
            return Verdict.DONE

        def woken(self) -> Outcome:
            calls.append("woken")
            return Verdict.REJECT.because("time is up")

    Says.answer = Once()
    bench = Bench(Says)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"x")
    assert calls == ["packet"]
    bench.advance(5)
    assert calls == ["packet", "woken"]
    assert not web.client_sends(b"x")
    assert web.verdict.reason == "time is up"
    bench.advance(1000)
    ended = [e for e in bench.events if isinstance(e, FlowEnded)]
    assert [(e.verdict, e.reason) for e in ended] == [("reject", "time is up")]


def test_drop_from_tcp_data_counts_as_block() -> None:
    class Drops(FlowHandler["Says"]):
        def data(self, chunk: Chunk) -> Outcome:
            return Verdict.DROP

    Says.answer = Drops()
    web = Bench(Says).tcp("10.0.0.1", "10.0.0.2", 80)
    assert not web.client_sends(b"x")
    assert web.verdict == Verdict.BLOCK


def test_set_decides_from_anywhere() -> None:
    class Setter(FlowHandler["Says"]):
        def packet(self, packet: Packet) -> Outcome:
            if packet.payload:
                self.flow.set(Verdict.BLOCK.because("set"))
            return None

    Says.answer = Setter()
    web = Bench(Says).tcp("10.0.0.1", "10.0.0.2", 80)
    assert not web.client_sends(b"x")
    assert web.verdict == Verdict.BLOCK


class Fails(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        raise ZeroDivisionError("by design")


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        ("continue", Verdict.CONTINUE),
        ("drop", Verdict.DROP),
        ("block", Verdict.BLOCK),
        ("reject", Verdict.REJECT),
    ],
)
def test_a_plugin_that_raises_is_answered_by_its_policy(policy: str, verdict: Verdict) -> None:
    bench = Bench(Fails, on_error=policy)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.verdict == verdict
    assert bench.engine.guard.errors["fails"] >= 1


def test_nonsense_is_an_error_too() -> None:
    Says.answer = "yes"  # type: ignore[assignment]
    assert Bench(Says).tcp("10.0.0.1", "10.0.0.2", 80).verdict == Verdict.BLOCK


def test_a_failing_plugin_leaves_other_plugins_and_flows_alone() -> None:
    class Sometimes(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            if flow.server_port == 81:
                raise ValueError("81")
            return Verdict.DONE

    Says.answer = None
    bench = Bench(Sometimes, Says, on_error="continue")
    broken = bench.tcp("10.0.0.1", "10.0.0.2", 81)
    fine = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert broken.client_sends(b"x")
    assert fine.client_sends(b"x")
    assert len(Says.asked) == 2


def test_over_its_budget_a_plugin_that_may_fail_open_is_taken_out() -> None:
    bench = Bench(Fails, on_error="continue", settings=EngineSettings(error_budget=3))
    for port in range(10):
        assert bench.tcp("10.0.0.1", "10.0.0.2", 1000 + port).client_sends(b"x")
    assert bench.engine.guard.errors["fails"] == 3
    assert bench.engine.degraded == {"fails": "too many errors: taken out"}


def test_over_its_budget_a_fail_closed_plugin_keeps_its_policy_and_health_fails() -> None:
    bench = Bench(Fails, settings=EngineSettings(error_budget=3))
    for port in range(10):
        assert bench.tcp("10.0.0.1", "10.0.0.2", 1000 + port).verdict == Verdict.BLOCK
    assert bench.engine.degraded == {"fails": "too many errors"}


class Strict(PluginConfig, frozen=True):
    pass


def test_midstream_is_the_plugins_policy() -> None:
    for policy, verdict in (("continue", Verdict.CONTINUE), ("reject", Verdict.REJECT)):
        Says.asked = []
        bench = Bench(Says, midstream=policy)
        web = bench.tcp("10.0.0.1", "10.0.0.2", 80, midstream=True)
        assert web.client_sends(b"x") is (policy == "continue")
        assert web.verdict == verdict
        assert web.flow is not None
        assert web.flow.midstream
        assert (web.client_reset, web.server_reset) == (policy == "reject", policy == "reject")
        assert bool(Says.asked) is (policy == "continue")


def test_a_kept_packet_is_refused() -> None:
    kept: list[Packet] = []

    class Keeps(FlowHandler["Says"]):
        def packet(self, packet: Packet) -> Outcome:
            if kept and kept[0] is not packet:
                kept[0].payload  # noqa: B018
            kept.append(packet)
            return None

    Says.answer = Keeps()
    bench = Bench(Says)
    bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert bench.engine.guard.errors["says"] > 0


def test_blocking_calls_raise_on_the_bench() -> None:
    import time

    class Sleeps(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            time.sleep(0.001)
            return None

    bench = Bench(Sleeps)
    assert bench.tcp("10.0.0.1", "10.0.0.2", 80).verdict == Verdict.BLOCK
    assert bench.engine.guard.errors["sleeps"] == 1


def test_what_a_plugin_counts_and_says_of_itself() -> None:
    class Counts(Plugin):
        def start(self) -> None:
            self.wake(1)

        def woken(self) -> None:
            self.count("ticks")
            self.count("bytes", 5)
            self.degraded("feed is old")
            self.wake(1)

    bench = Bench(Counts)
    bench.advance(3.5)
    assert dict(bench.engine.metrics) == {"counts.ticks": 3, "counts.bytes": 15}
    assert bench.engine.degraded == {"counts": "feed is old"}
    bench.plugin(Counts).degraded(None)
    assert bench.engine.degraded == {}


class Unspeakable:
    """Not even its name can be had."""

    def __repr__(self) -> str:
        raise RuntimeError


class Frozen(FlowHandler[Any], frozen=True):  # type: ignore[misc]
    def data(self, chunk: Chunk) -> Outcome:
        return None


@pytest.mark.parametrize("answer", [Unspeakable(), Frozen(), 5, "block"])
def test_whatever_a_plugin_returns_is_answered_by_its_policy(answer: Any) -> None:
    class Returns(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return answer  # type: ignore[no-any-return]

    bench = Bench(Returns)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.verdict == Verdict.BLOCK
    assert bench.engine.guard.errors == {"returns": 1}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_reply_that_fits_into_no_packet_is_a_mistake_of_the_plugin(protocol: str) -> None:
    class TellsAll(FlowHandler[Any]):
        def data(self, chunk: Chunk) -> Outcome:
            return Verdict.REJECT.reply(bytes(70_000))

    class Tells(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return TellsAll()

    bench = Bench(Tells)
    peers = getattr(bench, protocol)("10.0.0.1", "10.0.0.2", 80)
    assert not peers.client_sends(b"x")
    assert bench.engine.guard.errors == {"tells": 1}
    assert bench.injected == []


def test_what_a_plugin_tells_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    class Tells(Plugin):
        def start(self) -> None:
            self.log("the feed is new", plugin="x", name="y", event="z", error=1)

    caplog.set_level("WARNING", logger="appliance_sdk.bench")
    bench = Bench(Tells)
    (record,) = caplog.records
    assert record.args == (
        "plugin.said",
        {
            "plugin": "tells",
            "zone": "default",
            "message": "the feed is new",
            "fields": {"plugin": "x", "name": "y", "event": "z", "error": 1},
        },
    )
    assert not bench.engine.guard.errors
