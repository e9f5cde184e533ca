"""Captures: each place has its interface, each packet its number, each end its reason."""

from __future__ import annotations

import errno
import io
import shutil
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import Harness, InProcess, MemoryFleet, Topology, shipped_topology
from appliance_sdk.harness.capture_file import CaptureFile, places_of
from appliance_sdk.testing.traffic import FlowFactory
from appliance_sdk.wire import parse_geneve, parse_packet
from appliance_sdk.wire.pcapng import Block, read_pcapng

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


class NoTelnet(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.BLOCK if flow.server_port == 23 else Verdict.DONE


def running(topology: Topology | None = None) -> Harness:
    topology = topology or shipped_topology("simple")
    return Harness(topology, MemoryFleet({"": InProcess(NoTelnet)}))


def read(path: Path) -> list[Block]:
    return list(read_pcapng(io.BytesIO(path.read_bytes())))


def story(path: Path, seed: int = 0) -> None:
    """A ping, telnet, a flow that idles out, a bad link."""
    topology = msgspec.structs.replace(shipped_topology("simple"), seed=seed)
    with running(topology) as harness:
        harness.wait_healthy()
        with harness.capture(path):
            flows = FlowFactory(harness)
            assert flows.ping().replies == 1
            assert not flows.tcp(23).opened
            web = flows.tcp(80)
            harness.advance(351)
            web.client_sends(b"still there?")
            harness.faults.set("appliance-1", corrupt=0.3, loss=0.3, duplicate=0.3, delay_s=0.01)
            flows.tcp(81).client_sends(bytes(20_000))


def test_a_ping_is_seen_once_on_its_way_in_and_out_of_each_place(tmp_path: Path) -> None:
    path = tmp_path / "ping.pcapng"
    with running() as harness:
        harness.wait_healthy()
        capture = harness.capture(path)
        assert FlowFactory(harness).ping().replies == 1
        assert capture.packets == 21
    blocks = read(path)
    assert Counter(block.interface for block in blocks) == {
        "client": 2,
        "igw": 2,
        "gwlbe": 4,
        "gwlb": 4,
        "appliance-1": 4,
        "endpoints": 2,
        "servers": 1,
        "server": 2,
    }
    assert not any(block.comments for block in blocks)
    assert [block.timestamp for block in blocks] == sorted(block.timestamp for block in blocks)
    for block in blocks:
        headers = parse_packet(block.data, 0, len(block.data))
        if block.interface in ("gwlb", "appliance-1"):
            assert headers.destination_port == 6081
            geneve = parse_geneve(block.data, 28, len(block.data))
            assert geneve.endpoint_id == 0xA1B2C3D4E5F60718


def test_what_became_of_a_packet_is_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "story.pcapng"
    story(path)
    said: dict[str, list[str]] = {}
    for block in read(path):
        for comment in block.comments:
            said.setdefault(block.interface, []).append(comment)
    assert "dropped: no_entry: the flow idled out 1.0 s ago. TCP without SYN" in said["gwlb"][0]
    assert set(said["kept by appliance-1"]) == {"kept by the appliance: not returned"}
    assert set(said["to appliance-1"]) == {"lost: loss 0.3"}
    arrived = " ".join(said["appliance-1"])
    assert "corrupted on the way to appliance-1: bit " in arrived
    assert "delayed on the way to appliance-1: by 10.000 ms" in arrived
    assert "duplicated on the way to appliance-1: a copy of packet " in arrived


def test_a_corrupted_packet_is_in_the_capture_as_it_arrived(tmp_path: Path) -> None:
    path = tmp_path / "corrupt.pcapng"
    with running() as harness:
        harness.wait_healthy()
        harness.faults.set("appliance-1", corrupt=1, direction="to")
        with harness.capture(path, ["gwlb", "appliance-1"]):
            FlowFactory(harness).ping()
    sent, came, *_ = read(path)
    assert (sent.interface, came.interface) == ("gwlb", "appliance-1")
    flipped = [a ^ b for a, b in zip(sent.data[28:], came.data[28:], strict=True)]
    assert sum(byte.bit_count() for byte in flipped) == 1


def test_only_at_the_places_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "two.pcapng"
    with running() as harness:
        harness.wait_healthy()
        harness.faults.set("appliance-1", loss=1, direction="from")
        with harness.capture(path, ["client", "appliance-1"]):
            FlowFactory(harness).ping()
        FlowFactory(harness).ping()  # when it is closed it takes no more
        with pytest.raises(HarnessError, match=r"no place 'cleint' \(did you mean `client`\?\)"):
            harness.capture(path, ["cleint"])
    expected = {"client": 1, "appliance-1": 2, "from appliance-1": 1}
    assert Counter(block.interface for block in read(path)) == expected


def test_one_seed_gives_one_capture_to_the_byte(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(files, (5, 5, 6), strict=True):
        story(path, seed)
    first, second, third = (path.read_bytes() for path in files)
    assert first == second != third


def test_every_place_of_a_bigger_picture_is_named(tmp_path: Path) -> None:
    topology = shipped_topology("inline-ids")
    path = tmp_path / "a.pcapng"
    with running(topology) as harness:
        harness.wait_healthy()
        harness.capture(path)
        FlowFactory(harness).tcp(81, server="alb")
    seen = {block.interface for block in read(path)}
    assert {"client", "igw", "gwlbe-fw", "firewalls", "gwlbe-ids", "ids", "ids-1", "alb"} <= seen
    assert seen <= set(places_of(topology))


def test_a_target_that_comes_later_is_a_place_too(tmp_path: Path) -> None:
    with running() as harness:
        harness.wait_healthy()
        harness.add_target("gwlb", "appliance-2", "127.90.0.102", "a")
        with harness.capture(tmp_path / "a.pcapng", ["appliance-2"]) as capture:
            harness.wait_healthy()
            for number in range(20):
                FlowFactory(harness).udp(1000 + number).client_sends(b"x")
        assert capture.packets > 0


def test_a_file_that_cannot_be_opened_is_one_line() -> None:
    with running() as harness, pytest.raises(HarnessError, match="/none/a: No such file"):
        harness.capture("/none/a")


class Disk:
    """A file on a disk with so much room; the last write takes what fits."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: memoryview) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(data), self._room)
        self._room -= taken
        self._file.write(data[:taken])
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_ends_the_capture_and_nothing_else(tmp_path: Path) -> None:
    complaints: list[str] = []
    path = tmp_path / "full.pcapng"
    with running() as harness:
        harness.wait_healthy()
        capture = harness.capture(path, complain=complaints.append)
        capture._file = Disk(capture._file, 1000)  # type: ignore[assignment]
        assert FlowFactory(harness).tcp(80).client_sends(bytes(10_000))
    assert complaints == [capture.failed]
    packets = len(read(path))  # no block is cut off
    assert packets == capture.packets > 0
    said = f"{path}: No space left on device: the capture ends after {packets} packets"
    assert capture.failed == said


def test_a_full_disk_is_a_warning_in_python() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        capture = CaptureFile("/dev/full", {})
        capture.close()
    assert capture.failed.startswith("/dev/full: No space left")
    assert str(caught[0].message) == capture.failed


def tshark(path: Path, show: str, *fields: str) -> list[list[str]]:
    command = ["tshark", "-r", str(path), "-Y", show, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@needs_tshark
def test_wireshark_dissects_geneve_and_follows_a_packet(tmp_path: Path) -> None:
    path = tmp_path / "story.pcapng"
    story(path)
    # The ping: packet 1, its answer 2; two places send and receive it as GENEVE.
    rows = tshark(
        path,
        "geneve and icmp and frame.packet_id <= 2",
        "frame.packet_id",
        "frame.interface_name",
        "udp.dstport",
        "geneve.option.class",
    )
    assert [row[:3] for row in rows] == [
        [number, place, "6081"]
        for number in "12"
        for place in ("gwlb", "appliance-1", "appliance-1", "gwlb")
    ]
    assert {row[3] for row in rows} == {"0x0108,0x0108,0x0108"}
    kept = tshark(path, 'frame.comment contains "kept by"', "tcp.dstport")
    assert ["23"] in kept
    path_of_one = tshark(path, "frame.packet_id == 1", "frame.interface_name")
    assert [name for (name,) in path_of_one] == [
        "client",
        "igw",
        "gwlbe",
        "gwlb",
        "appliance-1",
        "appliance-1",
        "gwlb",
        "gwlbe",
        "endpoints",
        "server",
    ]
    assert not tshark(path, "_ws.malformed and not frame.comment", "frame.number")
