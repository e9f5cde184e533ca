"""What is written as pcapng is read back, here and, where it is installed, by Wireshark."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance_sdk.wire import build_udp
from appliance_sdk.wire.capture import RAW, read_capture
from appliance_sdk.wire.pcapng import Block, read_pcapng
from appliance_sdk.wire.pcapng_writer import PcapngWriter

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
PACKET = build_udp(A, B, 5000, 53, payload=b"query")
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def written() -> bytes:
    file = io.BytesIO()
    writer = PcapngWriter(file, application="a test", comment="made by hand")
    outside = writer.interface("igw", RAW, description="the internet gateway")
    writer.packet(outside, 1.5, PACKET, towards="in", number=7)
    inside = writer.interface("client", RAW)
    comments = ("dropped: no_route", "größer")
    writer.packet(inside, 1_700_000_000.25, PACKET[:-1], number=7, comments=comments)
    writer.packet(outside, 2, b"")
    return file.getvalue()


def test_it_is_read_back(tmp_path: Path) -> None:
    assert list(read_pcapng(io.BytesIO(written()))) == [
        Block(1.5, RAW, PACKET, "igw", ()),
        Block(1_700_000_000.25, RAW, PACKET[:-1], "client", ("dropped: no_route", "größer")),
        Block(2.0, RAW, b"", "igw", ()),
    ]
    path = tmp_path / "a.pcapng"
    path.write_bytes(written())
    assert [frame.data for frame in read_capture(path)] == [PACKET, PACKET[:-1], b""]


def test_a_comment_longer_than_an_option_is_cut() -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file)
    writer.packet(writer.interface("a", RAW), 0, PACKET, comments=("x" * 100_000,))
    (block,) = read_pcapng(io.BytesIO(file.getvalue()))
    assert 60_000 < len(block.comments[0]) < 65_536
    assert block.data == PACKET


@needs_tshark
def test_wireshark_shows_names_numbers_directions_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(written())
    fields = ["interface_name", "interface_description", "packet_id", "comment", "time_epoch"]
    command = ["tshark", "-r", str(path), "-T", "json"]
    for field in [*fields, "packet_flags_direction"]:
        command += ["-e", f"frame.{field}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    frames = [
        {name.removeprefix("frame."): value for name, value in one["_source"]["layers"].items()}
        for one in json.loads(done.stdout)
    ]
    first, second, third = frames
    assert first["interface_name"] == ["igw"]
    assert first["interface_description"] == ["the internet gateway"]
    assert float(first["time_epoch"][0]) == 1.5
    assert int(first["packet_flags_direction"][0], 0) == 1
    assert second["interface_name"] == ["client"]
    assert second["comment"] == ["dropped: no_route", "größer"]
    assert first["packet_id"] == second["packet_id"] == ["7"]
    assert "packet_id" not in third
