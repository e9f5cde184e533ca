"""Several hundred captures of other people's traffic, many made to confuse: none may."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from appliance_sdk.dataplane.replay import Replayed, ReplayReport, replay_capture
from appliance_sdk.engine import DROP_REASONS, Engine, EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.wire.packet import TCP, URG, parse_packet

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "suricata-verify"
CAPTURES = sorted(CORPUS.rglob("*.pcap*")) if CORPUS.is_dir() else []


class Reads(FlowHandler["ReadsAll"]):
    """Looks at all there is, and changes nothing."""

    lookback = 64
    seen: int = 0

    def packet(self, packet: Packet) -> Outcome:
        self.seen += len(packet.payload) + packet.ttl
        return None

    def data(self, chunk: Chunk) -> Outcome:
        self.seen += len(chunk.data)
        return None


class ReadsAll(Plugin):
    """Counts beginnings and ends by flow."""

    def start(self) -> None:
        self.opened: Counter[int] = Counter()
        self.closed: Counter[int] = Counter()

    def flow_opened(self, flow: Flow) -> Opening:
        self.opened[flow.id] += 1
        return Reads()

    def flow_closed(self, flow: Flow, handler: FlowHandler[ReadsAll] | None) -> None:
        self.closed[flow.id] += 1


def judge(path: Path) -> ReplayReport:
    """Replay one capture with a handler on every flow, and check all that must hold."""
    problems: list[object] = []
    engines: list[Engine] = []
    forwarded = urgent = 0

    def make(now: float) -> Engine:
        engine = Engine(
            Pipeline.build([Enabled("reads-all", ReadsAll)]),
            EngineSettings(origins=("0.0.0.0/0",)),
            now=now,
            emit=lambda event: None,
            log=lambda name, **fields: problems.append((name, fields)),
        )
        engine.start()
        engines.append(engine)
        return engine

    def count(replayed: Replayed) -> None:
        nonlocal forwarded, urgent
        if replayed.number and not replayed.reason:
            forwarded += 1
        if replayed.edited:  # of what a handler reads, nothing is urgent
            (packet,) = replayed.sent
            headers = parse_packet(packet, 0, len(packet))
            assert (headers.protocol, headers.flags & URG) == (TCP, 0)
            assert packet[headers.transport + 18 : headers.transport + 20] == b"\0\0"
            urgent += 1

    report = replay_capture(path, make, on_packet=count)
    (engine,) = engines
    plugin = engine.pipeline.default.seats[0].plugin
    assert not problems
    assert report.packets == report.forwarded + report.dropped.total()
    assert (report.unchanged, report.altered, report.edited) == (forwarded - urgent, 0, urgent)
    assert report.flows_opened == report.flows_closed == len(plugin.closed)
    assert set(plugin.closed.values()) <= {1}
    assert set(plugin.closed) == set(plugin.opened)
    assert set(report.dropped) <= {*DROP_REASONS, "recorded_reply"}
    return report


@pytest.mark.skipif(not CAPTURES, reason="the captures of suricata-verify are not here")
def test_every_capture_is_replayed_and_accounted_for() -> None:
    total: Counter[str] = Counter()
    for path in CAPTURES:
        report = judge(path)
        total["edited"] += report.edited
        total["packets"] += report.packets
        total["forwarded"] += report.forwarded
        total.update(report.dropped)
    assert total["packets"] > 60_000
    assert total["edited"] < 10
    print(dict(total.most_common()))


@pytest.mark.skipif(not CAPTURES, reason="the captures of suricata-verify are not here")
@pytest.mark.skipif(not shutil.which("editcap"), reason="editcap (wireshark-common) is not here")
def test_the_same_captures_as_pcapng_give_the_same_balance(tmp_path: Path) -> None:
    converted = 0
    for path in CAPTURES[::12]:
        as_pcapng = tmp_path / f"{converted}.pcapng"
        made = subprocess.run(
            ["editcap", "-F", "pcapng", str(path), str(as_pcapng)],
            check=False,
            capture_output=True,
            timeout=60,
        )
        if made.returncode:
            continue  # editcap refuses what is damaged
        converted += 1
        assert as_pcapng.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
        one, other = judge(path), judge(as_pcapng)
        assert (one.packets, one.forwarded, one.dropped) == (
            other.packets,
            other.forwarded,
            other.dropped,
        )
    assert converted >= 20
