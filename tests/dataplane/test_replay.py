"""Captures through the real engine: the balance, the reasons, the time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance_sdk.dataplane.replay import Replay, Replayed, replay_capture
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.errors import ApplianceError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.capture import ETHERNET, RAW, CaptureWriter, Frame
from appliance_sdk.wire.geneve import build_geneve
from appliance_sdk.wire.packet import ACK, RST, SYN, parse_packet

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
OFFICE = Path(__file__).parents[2] / "reference_appliances/firewall/examples/office.pcap"


class Redact(FlowHandler["Editor"]):
    def packet(self, packet: Packet) -> Outcome:
        if packet.payload.startswith(b"secret"):
            packet.patch(0, b"******")
        return None


class Editor(Plugin):
    def flow_opened(self, flow: Flow) -> Any:
        if flow.server_port == 23:
            return Verdict.REJECT
        return Redact()


def _engine(*plugins: type[Plugin]) -> Callable[[float], Engine]:
    def make(now: float) -> Engine:
        enabled = [Enabled(plugin.__name__, plugin) for plugin in plugins]
        engine = Engine(
            Pipeline.build(enabled, {}),
            EngineSettings(origins=("0.0.0.0/0",)),
            now=now,
            emit=lambda event: None,
            log=lambda event, **fields: None,
        )
        engine.start()
        return engine

    return make


def _write(path: Path, *packets: tuple[float, bytes], linktype: int = RAW) -> Path:
    with CaptureWriter(path, linktype) as writer:
        for timestamp, packet in packets:
            writer.write(timestamp, packet)
    return path


def _ethernet(ethertype: int, packet: bytes) -> bytes:
    return bytes(12) + ethertype.to_bytes(2, "big") + packet


def test_every_frame_has_one_fate(tmp_path: Path) -> None:
    frames = [
        _ethernet(0x0800, build_udp(A, B, 1000, 53, payload=b"query")),
        _ethernet(0x0800, build_udp(A, B, 1001, 53, payload=b"secret!")),
        _ethernet(0x0806, bytes(28)),
        b"short",
        _ethernet(0x0800, build_tcp(A, B, 1002, 80, flags=SYN)[:30]),
        _ethernet(0x0800, build_tcp(A, B, 1003, 23, flags=SYN, seq=5)),
        _ethernet(0x0800, build_udp(A, A, 7, 7)),
    ]
    path = _write(
        tmp_path / "x.pcap", *[(1.0 + n, f) for n, f in enumerate(frames)], linktype=ETHERNET
    )
    results: list[Replayed] = []
    report = replay_capture(path, _engine(Editor), on_packet=results.append)
    assert [r.reason for r in results] == [
        *("", "", "not_ip", "truncated_link", "ip_truncated", "plugin_reject", "land")
    ]
    assert [r.number for r in results] == [1, 2, 3, 4, 5, 6, 7]
    assert report.packets == 7
    assert (report.unchanged, report.edited, report.altered, report.forwarded) == (1, 1, 0, 2)
    assert report.dropped == Counter(
        not_ip=1, truncated_link=1, ip_truncated=1, plugin_reject=1, land=1
    )
    assert report.balanced
    assert report.bytes == sum(map(len, frames))
    assert report.injected == 1
    assert report.flows_opened == report.flows_closed == 3
    assert (report.started, report.ended) == (1.0, 7.0)


def test_what_left_is_shown(tmp_path: Path) -> None:
    plain = build_udp(A, B, 1000, 53, payload=b"query")
    secret = build_udp(A, B, 1001, 53, payload=b"secret!")
    telnet = build_tcp(A, B, 1003, 23, flags=SYN, seq=5)
    path = _write(tmp_path / "x.pcap", (1.0, plain), (2.0, secret), (3.0, telnet))
    results: list[Replayed] = []
    replay_capture(path, _engine(Editor), on_packet=results.append)
    assert results[0].sent == (plain,)
    assert results[1].edited
    assert results[1].sent[0].endswith(b"******!")
    (reset,) = results[2].sent
    headers = parse_packet(reset, 0, len(reset))
    assert (headers.destination, headers.flags, headers.ack) == (A, RST | ACK, 6)


def test_a_capture_of_gwlb_traffic_counts_each_packet_once(tmp_path: Path) -> None:
    node, local = bytes([10, 1, 0, 5]), bytes([10, 1, 0, 99])
    payload = build_geneve(0x42, 7) + build_udp(A, B, 1000, 53)
    path = _write(
        tmp_path / "x.pcap",
        (1.0, build_udp(node, local, 61000, 6081, payload=payload)),
        (1.1, build_udp(local, node, 61000, 6081, payload=payload)),
    )
    report = replay_capture(path, _engine())
    assert report.unchanged == 1
    assert report.dropped == Counter(recorded_reply=1)


def test_time_follows_the_capture_and_never_goes_back(tmp_path: Path) -> None:
    packet = build_udp(A, B, 1000, 53)
    path = _write(tmp_path / "x.pcap", (1000.0, packet), (900.0, packet), (1001.0, packet))
    results: list[Replayed] = []
    report = replay_capture(path, _engine(), on_packet=results.append)
    assert [r.timestamp for r in results] == [1000.0, 1000.0, 1001.0]
    assert report.flows_opened == 1


def test_flows_end_in_the_captures_pauses(tmp_path: Path) -> None:
    packet = build_udp(A, B, 1000, 53)
    path = _write(tmp_path / "x.pcap", *[(200.0 * n, packet) for n in range(5)])
    report = replay_capture(path, _engine())
    assert report.flows_opened == report.flows_closed == 5


class Ticker(Plugin):
    def flow_opened(self, flow: Flow) -> Any:
        return Verdict.DONE

    def start(self) -> None:
        self.wake(1.0)

    def woken(self) -> None:
        self.count("ticks")
        self.wake(1.0)


def test_timers_run_between_the_packets(tmp_path: Path) -> None:
    packet = build_udp(A, B, 1000, 53)
    path = _write(tmp_path / "x.pcap", (0.0, packet), (10.5, packet))
    engines: list[Engine] = []

    def make(now: float) -> Engine:
        engines.append(_engine(Ticker)(now))
        return engines[0]

    replay_capture(path, make)
    assert engines[0].metrics["Ticker.ticks"] == 10


def test_a_clock_that_jumps_by_decades_does_not_hold_the_replay_up(tmp_path: Path) -> None:
    packet = build_udp(A, B, 1000, 53)
    path = _write(tmp_path / "x.pcap", (0.0, packet), (1.6e9, packet))
    assert replay_capture(path, _engine(Ticker)).forwarded == 2


def test_an_empty_capture_and_a_damaged_one(tmp_path: Path) -> None:
    empty = _write(tmp_path / "empty.pcap")
    assert replay_capture(empty, _engine()).packets == 0
    packet = build_udp(A, B, 1000, 53)
    cut = _write(tmp_path / "cut.pcap", (1.0, packet), (2.0, packet))
    cut.write_bytes(cut.read_bytes()[:-38])  # into the last record's header
    report = replay_capture(cut, _engine())
    assert report.packets == report.forwarded == 1
    assert "damaged after 1 frames" in report.damage


def test_a_packet_longer_than_any_datagram_is_dropped_for_its_length(tmp_path: Path) -> None:
    body = bytes(200_000)
    jumbo = build_udp(A, B, 1, 2, payload=bytes(60_000))
    replay = Replay(_engine()(0.0))
    assert replay.feed(Frame(1.0, RAW, jumbo)).reason == "too_long"
    assert replay.feed(Frame(2.0, RAW, jumbo + body)).reason == "too_long"
    assert replay.feed(Frame(3.0, RAW, b"\x45" + body)).reason
    assert replay.close().packets == 3


def test_an_engine_that_scribbles_is_caught() -> None:
    def receive(buffer: Any, start: int, end: int, *_rest: object) -> int:
        buffer[end - 1] = 0x55
        return 0

    engine = SimpleNamespace(
        drops=Counter(),
        outbox=[],
        flows_opened=0,
        flows_closed=0,
        receive=receive,
        next_deadline=lambda: math.inf,
        close=lambda now: None,
    )
    replay = Replay(cast(Engine, engine))
    replay.feed(Frame(1.0, RAW, build_udp(A, B, 1, 2, payload=b"\0\0")))
    with pytest.raises(ApplianceError, match="1 of them altered"):
        replay.close()


def test_an_office_comes_through_untouched() -> None:
    report = replay_capture(OFFICE, _engine())
    assert report.packets == report.unchanged > 300
    assert report.flows_opened == report.flows_closed > 20
