"""EVE lines from a running appliance, and sinks in trouble."""

from __future__ import annotations

import json
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from appliance_sdk.plugin.events import Alert, Anomaly, Event, FlowInfo, Statistics
from appliance_sdk.plugin.sink import Sink
from appliance_sdk.server.eve import EveFile, eve_record
from appliance_sdk.server.sinks import SinkThread

from .conftest import Running

Launch = Callable[..., Running]
FLOW = FlowInfo(7, "vpce-1", "prod", "udp", "10.0.0.1", "10.0.0.2", 5000, 53, cookie=9)


class Custom(Event):
    score: int


def test_a_running_appliance_writes_alert_drop_flow_anomaly_and_stats(launch: Launch) -> None:
    running = launch(rules="23", settings="[drain]\nsettle_s = 0\nquiet_s = 0\n").ready()
    assert running.passes(7003)
    assert not running.passes(23)
    running.send(b"\x40rubbish")
    running.until(
        lambda: running.details()["counters"]["dropped"].get("geneve_version"), "malformed counted"
    )
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    by_type = {e["event_type"]: e for e in running.events()}
    assert set(by_type) == {"alert", "drop", "flow", "anomaly", "stats"}
    alert = by_type["alert"]
    assert alert["alert"] == {
        "action": "allowed",
        "signature": "seven thousand and three",
        "signature_id": 7003,
        "severity": 1,
        "metadata": {"more": "x"},
    }
    assert (alert["src_ip"], alert["dest_port"], alert["proto"]) == ("10.0.0.1", 7003, "UDP")
    assert alert["gwlb"]["vpce_id"] == "vpce-00000000000000001"
    assert alert["gwlb"]["cookie"] == 7
    assert by_type["drop"]["drop"]["rule"] == "23"
    assert by_type["anomaly"]["anomaly"] == {
        "type": "packet",
        "event": "geneve_version",
        "count": 1,
    }
    flows = [e for e in running.events() if e["event_type"] == "flow"]
    assert {f["flow"]["action"] for f in flows} == {"forward", "block"}
    assert {f["flow"]["reason"] for f in flows} == {"shutdown"}
    assert by_type["stats"]["stats"]["dropped.geneve_version"] == 1


def test_a_vendors_sink_is_enabled_like_a_plugin(launch: Launch) -> None:
    running = launch(
        top='enable = ["blocker.py:Tally"]', settings="[drain]\nsettle_s = 0\nquiet_s = 0\n"
    ).ready()
    assert running.passes(7003)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    tally = (running.folder / "tally.txt").read_text().split()
    assert sorted(tally) == ["Alert", "FlowEnded", "Statistics"]


def test_answers_show_the_sender_as_source_and_vendors_events_their_fields() -> None:
    alert = eve_record(Alert(message="m", flow=FLOW, to_server=False, timestamp=1.5))
    assert (alert["src_ip"], alert["src_port"]) == ("10.0.0.2", 53)
    assert alert["timestamp"] == "1970-01-01T00:00:01.500000+0000"
    custom = eve_record(Custom(score=3, plugin="p", flow=FLOW))
    assert custom["event_type"] == "custom"
    assert custom["custom"] == {"score": 3}
    assert custom["plugin"] == "p"
    assert "flow_id" not in eve_record(Statistics(counters={}))


def test_a_signature_says_which_one_it_is_and_a_replay_which_packet_it_was() -> None:
    alert = Alert(message="m", rule="2100498", gid=1, rev=7, category="Bad", packet_number=3)
    record = eve_record(alert)
    assert record["pcap_cnt"] == 3
    assert record["alert"] == {
        "action": "allowed",
        "signature": "m",
        "signature_id": 2100498,
        "gid": 1,
        "rev": 7,
        "category": "Bad",
        "severity": 2,
    }
    plain = eve_record(Alert(message="m", rule="5"))
    assert not {"gid", "rev", "category"} & set(plain["alert"])
    assert "pcap_cnt" not in plain


@pytest.mark.parametrize("timestamp", [-1e18, 1e13, 1e18])
def test_a_time_that_is_no_date_is_the_nearest_that_is(timestamp: float) -> None:
    year = "1970" if timestamp < 0 else "9999"
    record = eve_record(Alert(message="m", flow=FLOW, timestamp=timestamp))
    assert record["timestamp"].startswith(year)


def test_only_the_wanted_types_are_written(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    sink = EveFile(str(path), ["alert"])
    sink.write([Alert(message="m", flow=FLOW), Anomaly(layer="packet", reason="r")])
    assert path.read_text().count("\n") == 1


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    sink = EveFile(str(path))
    sink.write([Alert(message="one", flow=FLOW)])
    path.rename(tmp_path / "eve.json.1")
    sink.write([Alert(message="two", flow=FLOW)])
    assert "two" in path.read_text()
    assert "one" in (tmp_path / "eve.json.1").read_text()


class Slow(Sink):
    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.gate = gate
        self.seen: list[Event] = []

    def write(self, events: Sequence[Event]) -> None:
        self.gate.wait(20)
        self.seen.extend(events)


def test_a_slow_sink_costs_events_that_are_counted_never_time() -> None:
    gate = threading.Event()
    sink = Slow(gate)
    thread = SinkThread(sink, 10, lambda *a, **k: None)
    for number in range(50):
        thread.put(Statistics(counters={"n": number}))
    assert thread.lost == 40
    gate.set()
    thread.stop(20)
    assert len(sink.seen) == thread.written == 10


class Full(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.free = False
        self.seen: list[Event] = []

    def write(self, events: Sequence[Event]) -> None:
        if not self.free:
            raise OSError(28, "No space left on device")
        self.seen.extend(events)


def test_a_full_disk_is_said_once_and_nothing_queued_is_lost() -> None:
    sink = Full()
    logged: list[str] = []
    failed = threading.Event()

    def log(name: str, **fields: object) -> None:
        logged.append(name)
        failed.set()

    thread = SinkThread(sink, 10, log)
    for number in range(5):
        thread.put(Statistics(counters={"n": number}))
    assert failed.wait(20)
    sink.free = True
    thread.stop(20)
    assert [e.counters["n"] for e in sink.seen if isinstance(e, Statistics)] == [0, 1, 2, 3, 4]
    assert logged == ["sink.failed", "sink.recovered"]


def test_a_disk_that_is_really_full() -> None:
    sink = EveFile("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        sink.write([Alert(message="m", flow=FLOW)])
    sink.close()


def test_a_disk_that_fills_up_leaves_no_half_line_and_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    sink = EveFile(str(path))
    sink.write([Statistics(counters={"n": 0})])
    batch = [Statistics(counters={"n": number}) for number in range(1, 50)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 500, hard))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="too large"):
                sink.write(batch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.write(batch)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["stats"]["n"] for line in lines] == list(range(50))


def test_what_a_sink_did_not_take_in_time_is_told() -> None:
    gate = threading.Event()
    thread = SinkThread(Slow(gate), 10, lambda *a, **k: None)
    for number in range(12):
        thread.put(Statistics(counters={"n": number}))
    thread.put(Statistics(counters={"the": 1}), surely=True)
    assert thread.stop(0.05) == 11
    gate.set()
    assert thread.stop(20) == 0


class Stuck(Slow):
    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_sink_that_cannot_close_is_said() -> None:
    logged: list[tuple[str, object]] = []
    gate = threading.Event()
    gate.set()
    thread = SinkThread(Stuck(gate), 10, lambda name, **fields: logged.append((name, fields)))
    thread.stop(20)
    ((name, fields),) = logged
    assert name == "sink.failed"
    assert "No space left" in str(fields)
