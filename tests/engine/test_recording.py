"""Packets on record: the last so many, what follows, and never more than there is room for."""

from __future__ import annotations

from typing import Any

import pytest

from appliance_sdk import (
    Chunk,
    Flow,
    FlowHandler,
    Opening,
    Outcome,
    Plugin,
    Recorded,
    Verdict,
)
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.engine import EngineSettings
from appliance_sdk.engine.recording import RecordLimits
from appliance_sdk.testing import Bench
from appliance_sdk.wire import build_udp, fragment_packet, parse_geneve, parse_packet


class Capture(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        flow.record(packets=3)
        return Watch()


class Watch(FlowHandler["Capture"]):
    def data(self, chunk: Chunk) -> Outcome:
        if b"/bin/sh" in chunk:
            self.flow.save("shell", and_next=2)
        if b"again" in chunk:
            self.flow.save("again", and_next=2)
        if b"bad" in chunk:
            self.flow.save("bad")
            return Verdict.BLOCK
        return None


def saved(bench: Bench) -> list[Recorded]:
    return [event for event in bench.events if isinstance(event, Recorded)]


def payloads(event: Recorded) -> list[bytes]:
    found = []
    for packet in event.packets:
        inner = packet.datagram[parse_geneve(packet.datagram, 0, len(packet.datagram)).length :]
        headers = parse_packet(inner, 0, len(inner))
        found.append(inner[headers.payload : headers.end])
    return found


def talk(bench: Bench, *words: bytes) -> Any:
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    for word in words:
        dns.client_sends(word)
        bench.advance(1)
    return dns


def test_the_last_packets_and_those_that_follow_are_saved() -> None:
    bench = Bench(Capture)
    dns = talk(bench, b"1", b"2", b"3", b"/bin/sh")
    assert saved(bench) == []
    dns.server_sends(b"answer")
    dns.client_sends(b"more")
    dns.client_sends(b"too late")
    (event,) = saved(bench)
    assert payloads(event) == [b"2", b"3", b"/bin/sh", b"answer", b"more"]
    assert event.reason == "shell"
    assert event.plugin == "capture"
    assert [packet.to_server for packet in event.packets] == [True, True, True, False, True]
    assert [packet.age_s for packet in event.packets] == [3, 2, 1, 0, 0]
    assert event.flow is not None
    assert event.flow.server_port == 53


def test_what_a_verdict_drops_is_on_record_too() -> None:
    bench = Bench(Capture)
    talk(bench, b"1", b"bad")
    assert payloads(saved(bench)[0]) == [b"1", b"bad"]


def test_a_flow_that_ends_has_its_packets_saved_as_far_as_they_came() -> None:
    bench = Bench(Capture)
    talk(bench, b"/bin/sh")
    bench.advance(200)
    assert payloads(saved(bench)[0]) == [b"/bin/sh"]
    assert bench.engine.recording.bytes == 0


def test_a_second_reason_meanwhile_makes_it_longer() -> None:
    bench = Bench(Capture)
    dns = talk(bench, b"/bin/sh", b"again", b"3")
    assert saved(bench) == []
    dns.client_sends(b"4")
    (event,) = saved(bench)
    assert payloads(event) == [b"/bin/sh", b"again", b"3", b"4"]


def test_a_record_goes_on_when_no_handler_wants_the_flow_any_more() -> None:
    class Late(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            self.last = flow
            flow.record(10)
            self.wake(2.5)
            return Verdict.DONE

        def woken(self) -> None:
            self.last.save("later")
            self.last.record(0)

    bench = Bench(Late)
    dns = talk(bench, b"1", b"2", b"3")
    assert payloads(saved(bench)[0]) == [b"1", b"2", b"3"]
    assert dns.flow.mode == 0  # bypassed from now on
    assert bench.engine.recording.bytes == 0


def test_saving_without_a_record_saves_what_follows() -> None:
    class Sudden(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            flow.save("from here", and_next=2)
            return Verdict.DONE

    bench = Bench(Sudden)
    dns = talk(bench, b"1", b"2", b"3")
    assert payloads(saved(bench)[0]) == [b"1", b"2"]
    assert dns.flow.mode == 0


def test_fragments_are_on_record_as_they_came() -> None:
    class Fragments(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            flow.save("pieces", and_next=3)
            return Verdict.DONE

    bench = Bench(Fragments)
    packet = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 5000, 53, payload=bytes(3000))
    pieces = fragment_packet(numbered(packet, 1), 1280)
    for piece in pieces:
        bench.send(piece)
    (event,) = saved(bench)
    assert [packet.datagram[40:] for packet in event.packets] == pieces


@pytest.mark.parametrize(("total", "kept"), [(3000, 2), (1200, 1), (500, 0)])
def test_records_are_bounded_over_all_flows(total: int, kept: int) -> None:
    bench = Bench(Capture, settings=EngineSettings(record=RecordLimits(total_bytes=total)))
    dns = talk(bench, *[bytes([65 + n]) * 1000 for n in range(5)])
    assert bench.engine.recording.bytes <= total
    dns.client_sends(b"bad")
    event = saved(bench)[0]
    assert len([p for p in payloads(event) if len(p) == 1000]) == kept
    if not kept:
        assert bench.engine.metrics["engine.record_full"] == 5


class Follows(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        flow.save("alert", and_next=1000)
        return Verdict.DONE


def test_what_is_being_saved_is_bounded_over_all_flows() -> None:
    bench = Bench(Follows, settings=EngineSettings(record=RecordLimits(total_bytes=10_000)))
    for port in range(1, 21):
        dns = bench.udp("10.0.0.1", "10.0.0.2", port)
        for _ in range(5):
            dns.client_sends(bytes(1000))
            assert bench.engine.recording.bytes <= 10_000
    assert all(event.packets for event in saved(bench))
    bench.close()
    assert len(saved(bench)) == 20
    assert bench.engine.recording.bytes == 0


def test_what_there_is_no_more_room_for_is_saved_as_far_as_it_came() -> None:
    bench = Bench(Follows, settings=EngineSettings(record=RecordLimits(total_bytes=2500)))
    words = [bytes([65 + n]) * 1000 for n in range(4)]
    dns = talk(bench, *words)
    (event,) = saved(bench)
    assert payloads(event) == words[:3]
    assert event.reason == "alert"
    assert bench.engine.metrics["engine.record_full"] == 1
    assert bench.engine.recording.bytes == 0
    assert dns.flow.mode == 0


def test_a_record_goes_on_after_there_was_no_more_room_for_what_follows() -> None:
    bench = Bench(Capture, settings=EngineSettings(record=RecordLimits(total_bytes=2500)))
    words = [bytes([65 + n]) * 1000 for n in range(3)]
    talk(bench, words[0], words[1], b"/bin/sh", words[2], b"bad")
    early, later = saved(bench)
    assert payloads(early) == [words[0], words[1], b"/bin/sh", words[2]]
    assert payloads(later) == [b"/bin/sh", words[2], b"bad"]


def test_a_packet_that_is_being_saved_takes_room_once() -> None:
    bench = Bench(Capture, settings=EngineSettings(record=RecordLimits(total_bytes=2500)))
    words = [b"A" * 1000, b"B" * 1000, b"/bin/sh"]
    dns = talk(bench, *words)
    assert 2000 < bench.engine.recording.bytes <= 2500
    dns.client_sends(b"4")
    dns.client_sends(b"5")
    assert payloads(saved(bench)[0]) == [*words, b"4", b"5"]
    assert bench.engine.metrics["engine.record_full"] == 0
    assert bench.engine.recording.bytes < 300


def test_packets_of_a_flow_are_bounded() -> None:
    class Greedy(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            flow.record(10**9)
            return Verdict.DONE

    bench = Bench(Greedy, settings=EngineSettings(record=RecordLimits(packets=4)))
    talk(bench, *[b"x"] * 10)
    assert len(bench.flows[0]._inspection.record.ring) == 4


def test_nothing_is_left_of_flows_that_ended() -> None:
    bench = Bench(Capture)
    for number in range(20):
        bench.udp("10.0.0.1", "10.0.0.2", 1000 + number).client_sends(b"x" * 100)
    assert bench.engine.recording.bytes > 2000
    bench.close()
    assert bench.engine.recording.bytes == 0
