"""What plugins save of flows becomes files: whole ones, and not more than asked for."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance_sdk import Recorded, RecordedPacket
from appliance_sdk.plugin.events import FlowInfo
from appliance_sdk.server.captures import CaptureFiles
from appliance_sdk.server.eve import eve_record
from appliance_sdk.wire import build_geneve, build_udp
from appliance_sdk.wire.capture import read_capture

from .conftest import Running

PEER, LOCAL = b"\xee\x48\x0a\x09\x00\x0b", b"\x0a\x09\x01\x15"


def recorded(number: int = 1, size: int = 10, reason: str = "A shell!") -> Recorded:
    info = FlowInfo(
        id=number,
        endpoint="vpce-0a1b2c3d4e5f60718",
        zone="default",
        protocol="udp",
        client_ip="10.0.0.1",
        server_ip="10.0.0.2",
        client_port=5000,
        server_port=53,
        cookie=7,
        attachment_id=0,
        app="",
    )
    packet = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 5000, 53, payload=bytes(size))
    datagram = build_geneve(1, 7) + packet
    packets = tuple(RecordedPacket(age, True, PEER, LOCAL, datagram) for age in (2.5, 0.5))
    return Recorded(
        reason=reason, packets=packets, timestamp=1e9 + number, plugin="watch", flow=info
    )


def test_a_file_has_the_packets_at_their_time_and_place(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    CaptureFiles(str(folder), 10**9).write([recorded()])
    (path,) = folder.iterdir()
    assert path.name == "20010909T014641.000000-flow-1-a-shell.pcapng"
    frames = list(read_capture(path))
    assert [frame.timestamp for frame in frames] == [1e9 - 1.5, 1e9 + 0.5]
    assert frames[0].data[28:] == recorded().packets[0].datagram
    assert frames[0].data[12:24] == PEER[2:] + LOCAL + PEER[:2] + (6081).to_bytes(2, "big")


def test_the_oldest_go_and_what_others_put_there_stays(tmp_path: Path) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")
    sink = CaptureFiles(str(tmp_path), 20_000)
    sink.write([recorded(number, size=3000) for number in range(10)])
    left = sorted(path.name for path in tmp_path.glob("*.pcapng"))
    assert [name.split("-flow-")[1][0] for name in left] == ["7", "8", "9"]
    assert foreign.read_text() == "mine"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = CaptureFiles(str(tmp_path), 10**9)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("appliance_sdk.wire.pcapng_writer.PcapngWriter.packet", full)
        with pytest.raises(OSError, match="No space"):
            sink.write([recorded()])
    assert list(tmp_path.iterdir()) == []
    sink.write([recorded()])  # it is offered again
    assert len(list(tmp_path.iterdir())) == 1


def test_an_event_of_another_kind_or_without_packets_makes_no_file(tmp_path: Path) -> None:
    empty = Recorded(reason="nothing")
    CaptureFiles(str(tmp_path), 10**9).write([empty])
    assert list(tmp_path.iterdir()) == []


def test_an_eve_record_says_how_much_not_what() -> None:
    record = eve_record(recorded(size=10))
    assert record["event_type"] == "recorded"
    assert record["recorded"] == {"reason": "A shell!", "packets": 2, "bytes": 156}


def test_a_running_appliance_writes_what_a_plugin_saves(launch: Callable[..., Running]) -> None:
    running = launch().ready()
    assert running.passes(7010)
    assert running.passes(7010)
    folder = running.folder / "saved"
    running.until(lambda: list(folder.glob("*.pcapng")), "saved")
    (path,) = folder.iterdir()
    assert len(list(read_capture(path))) == 2
    running.until(lambda: [e for e in running.events() if e["event_type"] == "recorded"], "told")
