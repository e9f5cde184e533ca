"""Verdicts that are waited for: what waits, what overtakes, and what comes of it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from appliance_sdk import (
    Chunk,
    Flow,
    FlowHandler,
    Opening,
    Outcome,
    Packet,
    Plugin,
    PluginConfig,
    Verdict,
)
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.dataplane.memory import MemoryPlane
from appliance_sdk.engine import EngineSettings
from appliance_sdk.engine.holding import HoldLimits
from appliance_sdk.testing import Bench
from appliance_sdk.wire import build_geneve, build_udp, fragment_packet


async def after(seconds: float, answer: Any) -> Any:
    await asyncio.sleep(seconds)
    if isinstance(answer, Exception):
        raise answer
    return answer


REJECT = Verdict.REJECT.because("no answer", rule="slow")


class Reputation(Plugin):
    """Asks about new flows; the server's port says what comes of it."""

    def answer(self, flow: Flow) -> Awaitable[Any]:
        answers: dict[int, Any] = {
            1: Verdict.DONE,
            2: Verdict.BLOCK.because("bad", rule="b"),
            3: Verdict.REJECT.because("bad", rule="r"),
            4: Verdict.DROP,
            5: Counting(),
            6: ValueError("the database is gone"),
            7: "nonsense",
            8: None,
        }
        return after(100 if flow.server_port == 9 else 0.25, answers.get(flow.server_port))

    def flow_opened(self, flow: Flow) -> Opening:
        return flow.hold(self.answer(flow), timeout_s=0.3, otherwise=REJECT)


class Counting(FlowHandler["Reputation"]):
    packets: int = 0

    def packet(self, packet: Packet) -> Outcome:
        self.packets += 1
        return None


def held(port: int, **settings: Any) -> tuple[Bench, Any]:
    limits = HoldLimits(**settings)
    bench = Bench(Reputation, settings=EngineSettings(hold=limits))
    dns = bench.udp("10.0.0.1", "10.0.0.2", port)
    assert not dns.client_sends(b"one")
    assert not dns.client_sends(b"two")
    assert not dns.server_sends(b"three")
    assert dns.server_received == b""
    assert bench.engine.holding.packets == 3
    assert bench.engine.forwarded == 0
    return bench, dns


@pytest.mark.parametrize("port", [1, 5, 8])
def test_packets_wait_for_the_answer_and_go_on_in_order(port: int) -> None:
    bench, dns = held(port)
    bench.advance(0.24)
    assert dns.server_received == b""
    bench.advance(0.02)
    assert dns.server_received == b"onetwo"
    assert dns.client_received == b"three"
    assert bench.engine.forwarded == 3
    assert bench.engine.holding.packets == bench.engine.holding.flows == 0
    assert dns.client_sends(b"four")


def test_the_answer_may_be_a_handler_which_sees_what_has_waited() -> None:
    bench, dns = held(5)
    bench.advance(0.3)
    assert dns.client_sends(b"four")
    (handler,) = dns.flow._inspection.handlers.values()
    assert handler.packets == 4


@pytest.mark.parametrize(("port", "answered"), [(2, False), (3, True)])
def test_a_flow_that_is_refused_loses_what_has_waited(port: int, answered: bool) -> None:
    bench, dns = held(port)
    bench.advance(0.3)
    assert (dns.server_received, dns.client_received) == (b"", b"")
    assert dns.verdict.rule == ("r" if answered else "b")
    assert dns.client_reset is answered
    assert sum(bench.engine.drops.values()) == 3
    assert not dns.client_sends(b"four")


def test_a_drop_keeps_no_flow_and_the_next_packet_asks_again() -> None:
    bench, dns = held(4)
    bench.advance(0.3)
    assert dns.server_received == b""
    assert bench.engine.flow_count == 0
    assert bench.engine.drops == {"plugin_drop": 3}
    assert dns.flow.end_reason == "dropped"
    assert not dns.client_sends(b"again")
    assert bench.engine.holding.flows == 1


def test_without_an_answer_in_time_the_other_verdict_counts() -> None:
    bench, dns = held(9)
    bench.advance(0.29)
    assert not dns.client_reset
    bench.advance(0.02)
    assert dns.verdict == Verdict.REJECT
    assert dns.verdict.rule == "slow"
    assert dns.client_reset
    assert bench.engine.metrics["reputation.hold_timeout"] == 1


@pytest.mark.parametrize("port", [6, 7])
def test_an_answer_that_fails_is_the_plugins_error(port: int) -> None:
    bench, dns = held(port)
    bench.advance(0.3)
    assert bench.engine.guard.errors["reputation"] == 1
    assert dns.verdict == Verdict.BLOCK
    assert dns.verdict.rule == "on_error"


def test_other_flows_do_not_wait() -> None:
    class OnlyOne(Reputation):
        def flow_opened(self, flow: Flow) -> Opening:
            return super().flow_opened(flow) if flow.server_port == 9 else Verdict.DONE

    bench = Bench(OnlyOne)
    slow = bench.udp("10.0.0.1", "10.0.0.2", 9)
    slow.client_sends(b"wait")
    assert bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")


def test_tcp_waits_with_its_handshake() -> None:
    bench = Bench(Reputation)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 1)
    bench.advance(0.3)
    assert web.handshake()
    assert web.client_sends(b"hello")
    assert web.server_received == b"hello"


def test_each_packet_goes_back_in_its_own_encapsulation() -> None:
    bench = Bench(Reputation)
    plane = MemoryPlane(bench.engine)
    ends = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
    sent = []
    for number in range(3):
        packet = build_udp(*ends, 5000, 1, payload=b"%d" % number)
        peer = (61000 + number).to_bytes(2, "big") + bytes((10, 9, 0, 11 + number))
        payload = build_geneve(7, 100 + number) + packet
        sent.append((peer, b"\x0a\x09\x01\x15", payload))
        assert plane.deliver(payload, peer, b"\x0a\x09\x01\x15", bench.now) == []
    assert [tuple(d) for d in plane.advance(bench.now + 0.26)] == sent


def test_a_flow_that_waits_too_long_in_line_loses_packets_not_the_appliance() -> None:
    bench, dns = held(1, packets=3)
    assert not dns.client_sends(b"four")
    assert bench.engine.drops == {"hold_full": 1}
    bench.advance(0.3)
    assert dns.server_received == b"onetwo"


def test_without_room_the_other_verdict_counts_at_once() -> None:
    bench = Bench(Reputation, settings=EngineSettings(hold=HoldLimits(flows=1)))
    first = bench.udp("10.0.0.1", "10.0.0.2", 1)
    second = bench.udp("10.0.0.3", "10.0.0.2", 1)
    first.client_sends(b"x")
    assert not second.client_sends(b"x")
    assert second.verdict == Verdict.REJECT
    assert second.client_reset
    assert bench.engine.metrics["reputation.hold_refused"] == 1


def test_bytes_are_bounded_over_all_flows() -> None:
    bench = Bench(Reputation, settings=EngineSettings(hold=HoldLimits(total_bytes=3000)))
    flows = [bench.udp(f"10.0.0.{n}", "10.0.0.99", 1) for n in range(1, 9)]
    for flow in flows:
        flow.client_sends(bytes(900))
    assert bench.engine.holding.packets == 3
    assert bench.engine.metrics["reputation.hold_refused"] == 5
    assert [flow.verdict.rule for flow in flows] == [""] * 3 + ["slow"] * 5


def test_no_wait_is_longer_than_the_longest() -> None:
    class Patient(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return flow.hold(after(1000, None), timeout_s=999, otherwise=Verdict.BLOCK)

    bench = Bench(Patient, settings=EngineSettings(hold=HoldLimits(longest_s=2)))
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    dns.client_sends(b"x")
    bench.advance(2.01)
    assert dns.verdict == Verdict.BLOCK


class First(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return flow.hold(after(0.1, Verdict.DONE), timeout_s=1, otherwise=Verdict.BLOCK)


class Second(Plugin):
    asked = 0

    def flow_opened(self, flow: Flow) -> Opening:
        self.asked += 1
        assert flow.packet is not None
        assert flow.packet.payload == b"x"
        return flow.hold(after(0.1, Verdict.DONE), timeout_s=1, otherwise=Verdict.BLOCK)


class Third(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Verdict.BLOCK if flow.server_port == 666 else Verdict.DONE


@pytest.mark.parametrize(("port", "passes"), [(53, True), (666, False)])
def test_plugins_are_asked_one_behind_the_other_also_if_each_waits(port: int, passes: bool) -> None:
    bench = Bench(First, Second, Third)
    dns = bench.udp("10.0.0.1", "10.0.0.2", port)
    dns.client_sends(b"x")
    assert bench.plugin(Second).asked == 0
    bench.advance(0.11)
    assert bench.plugin(Second).asked == 1
    assert dns.server_received == b""
    bench.advance(0.11)
    assert dns.server_received == (b"x" if passes else b"")
    assert dns.verdict == (Verdict.CONTINUE if passes else Verdict.BLOCK)


class PerPacket(Plugin):
    seen = 0

    def flow_opened(self, flow: Flow) -> Opening:
        return Looks()


class Looks(FlowHandler["PerPacket"]):
    def packet(self, packet: Packet) -> Outcome:
        self.plugin.seen += 1
        answer = {b"bad": Verdict.BLOCK, b"drop": Verdict.DROP}.get(packet.payload)
        if packet.payload in (b"bad", b"drop", b"slow"):
            return self.flow.hold(after(0.1, answer), timeout_s=1, otherwise=Verdict.BLOCK)
        return None


def test_a_packet_waits_and_those_behind_it_keep_their_place() -> None:
    bench = Bench(PerPacket)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert dns.client_sends(b"one ")
    for data in (b"slow", b" two ", b"slow", b" three"):
        assert not dns.client_sends(data)
    bench.advance(0.11)
    assert dns.server_received == b"one slow two "
    bench.advance(0.11)
    assert dns.server_received == b"one slow two slow three"
    assert bench.plugin(PerPacket).seen == 5  # nobody is asked twice about a packet


def test_a_packet_that_is_dropped_in_the_end_is_the_only_one() -> None:
    bench = Bench(PerPacket)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    dns.client_sends(b"drop")
    dns.client_sends(b"next")
    bench.advance(0.11)
    assert dns.server_received == b"next"
    assert bench.engine.drops == {"plugin_drop": 1}


def test_a_packet_may_end_its_flow() -> None:
    bench = Bench(PerPacket)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    dns.client_sends(b"bad")
    dns.client_sends(b"next")
    bench.advance(0.11)
    assert dns.server_received == b""
    assert dns.verdict == Verdict.BLOCK


class Hasty(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return HastyHandler()


class HastyHandler(FlowHandler["Hasty"]):
    def packet(self, packet: Packet) -> Outcome:
        return Verdict.BLOCK if packet.payload == b"slow" else None


def test_another_plugin_need_not_wait_to_say_no() -> None:
    bench = Bench(PerPacket, Hasty)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert not dns.client_sends(b"slow")
    assert dns.verdict == Verdict.BLOCK
    assert bench.engine.holding.flows == 0


class Reads(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Reader()


class Reader(FlowHandler["Reads"]):
    text: bytes = b""

    def data(self, chunk: Chunk) -> Outcome:
        self.text += chunk.data
        if b"?" in chunk:
            bad = b"evil" in self.text
            answer = Verdict.REJECT if bad else None
            return self.flow.hold(after(0.1, answer), timeout_s=1, otherwise=Verdict.BLOCK)
        return None


@pytest.mark.parametrize(("text", "passes"), [(b"good?", True), (b"evil?", False)])
def test_stream_bytes_are_asked_about_and_wait(text: bytes, passes: bool) -> None:
    bench = Bench(Reads)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"hello ")
    assert not web.client_sends(text)
    bench.advance(0.11)
    assert web.server_received == b"hello " + (text if passes else b"")
    assert web.server_reset is not passes
    if passes:
        assert web.client_sends(b" more")
        assert web.server_received == b"hello good? more"


def test_a_flow_that_ends_meanwhile_takes_its_packets_along() -> None:
    bench, dns = held(1)
    bench.close()
    assert bench.engine.drops == {"hold_ended": 3}
    assert bench.engine.holding.flows == 0
    assert dns.server_received == b""


class Impatient(Reputation):
    def start(self) -> None:
        self.wake(0.1)

    def flow_opened(self, flow: Flow) -> Opening:
        self.last = flow
        return super().flow_opened(flow)

    def woken(self) -> None:
        self.last.set(Verdict.BLOCK)


def test_a_decision_from_elsewhere_ends_the_waiting() -> None:
    bench = Bench(Impatient)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 1)
    dns.client_sends(b"x")
    bench.advance(0.3)
    assert dns.verdict == Verdict.BLOCK
    assert dns.server_received == b""
    assert bench.engine.drops == {"plugin_block": 1}


def test_an_answer_that_is_there_at_once_costs_no_packet_any_time() -> None:
    class Cached(Plugin):
        async def ask(self) -> Verdict:
            return Verdict.DONE

        def flow_opened(self, flow: Flow) -> Opening:
            return flow.hold(self.ask(), timeout_s=1, otherwise=Verdict.BLOCK)

    assert Bench(Cached).udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")


def test_ten_thousand_flows_wait_and_others_pass() -> None:
    class Most(Reputation):
        def flow_opened(self, flow: Flow) -> Opening:
            return super().flow_opened(flow) if flow.server_port == 1 else Verdict.DONE

    bench = Bench(Most)
    for number in range(10_000):
        packet = build_udp(number.to_bytes(4, "big"), b"\x0a\0\0\x02", 5000, 1, payload=b"x")
        assert bench.send(packet) == []
    assert bench.engine.holding.flows == 10_000
    other = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert other.client_sends(b"x")
    bench.advance(0.31)
    assert bench.engine.holding.flows == 0
    assert bench.engine.forwarded == 10_001


def test_a_fragment_does_not_slip_by() -> None:
    bench = Bench(Reputation)
    packet = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 5000, 1, payload=bytes(2000))
    for piece in fragment_packet(numbered(packet, 1), 1280):
        assert bench.send(piece) == []
    assert bench.engine.drops["hold_fragment"] == 1
    assert bench.engine.drops["fragment_verdict"] >= 1


def test_what_nobody_will_wait_for_is_let_go() -> None:
    answers = []

    class Late(Plugin):
        def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> Any:
            answers.append(after(1, None))
            return flow.hold(answers[0], timeout_s=1, otherwise=Verdict.BLOCK)

    bench = Bench(Late)
    assert bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
    bench.close()
    (answer,) = answers
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        answer.send(None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"answer": None, "timeout_s": 1, "otherwise": Verdict.BLOCK},
        {"answer": after(1, None), "timeout_s": 0, "otherwise": Verdict.BLOCK},
        {"answer": after(1, None), "timeout_s": 1, "otherwise": None},
    ],
)
def test_a_hold_that_makes_no_sense_is_the_plugins_error(arguments: Any) -> None:
    class Wrong(Plugin):
        config: PluginConfig

        def flow_opened(self, flow: Flow) -> Opening:
            return flow.hold(arguments["answer"], **{k: arguments[k] for k in list(arguments)[1:]})

    bench = Bench(Wrong)
    assert not bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
    assert bench.engine.guard.errors["wrong"] == 1
