"""Capture files of every kind, whole, cut off and damaged; and IP in every link layer."""

from __future__ import annotations

import struct
from collections.abc import Generator
from pathlib import Path
from typing import cast

import dpkt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.wire.build import build_udp
from appliance_sdk.wire.capture import (
    ETHERNET,
    IPV4,
    IPV6,
    LOOP,
    NULL,
    RAW,
    SLL,
    SLL2,
    CaptureWriter,
    Frame,
    inner_packet,
    read_capture,
)
from appliance_sdk.wire.reasons import MALFORMED

P4 = build_udp(bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), 1, 2, payload=b"four")
P6 = build_udp(bytes(15) + b"\x01", bytes(15) + b"\x02", 1, 2, payload=b"six")
FRAMES = [P4, P6, b"", b"\x60" * 1500]

# One file for all examples of a property: each example writes it anew.
shared_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def pcap(order: str, *, nano: bool = False, linktype: int = RAW) -> bytes:
    """A file of FRAMES, one a second from 1,000 s on, each a quarter second past it."""
    magic, quarter = (0xA1B23C4D, 250_000_000) if nano else (0xA1B2C3D4, 250_000)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for at, frame in enumerate(FRAMES):
        size = len(frame)
        out += struct.pack(order + "IIII", 1000 + at, quarter, size, size + 9) + frame
    return out


def read_until_damage(path: Path) -> tuple[list[Frame], str]:
    """What could be read, and what the error behind it says ("" for none)."""
    frames: list[Frame] = []
    try:
        for frame in read_capture(path):
            frames.append(frame)
    except ConfigError as error:
        return frames, error.message
    return frames, ""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_of_either_byte_order_and_clock(tmp_path: Path, order: str, nano: bool) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(order, nano=nano, linktype=ETHERNET))
    frames = list(read_capture(path))
    assert [frame.timestamp for frame in frames] == [1000.25, 1001.25, 1002.25, 1003.25]
    assert [frame.data for frame in frames] == FRAMES
    assert {frame.linktype for frame in frames} == {ETHERNET}
    assert list(read_capture(str(path))) == frames


def test_the_link_type_may_come_with_the_length_of_a_frame_check_sequence(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap("<", linktype=0x24000000 | ETHERNET))
    assert next(read_capture(path)).linktype == ETHERNET


@pytest.mark.parametrize("nano", [False, True])
def test_what_dpkt_writes(tmp_path: Path, nano: bool) -> None:
    path = tmp_path / "a.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, nano=nano)
        for frame in FRAMES:
            writer.writepkt(frame, ts=12.5)
    assert list(read_capture(path)) == [Frame(12.5, ETHERNET, frame) for frame in FRAMES]


def test_a_file_cut_anywhere_gives_its_whole_frames_and_says_that_it_is_cut(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pcap"
    for whole in (pcap("<"), pcap(">", nano=True)):
        borders = [24]
        for frame in FRAMES:
            borders.append(borders[-1] + 16 + len(frame))
        for size in [*range(24, 300), *range(len(whole) - 20, len(whole) + 1)]:
            path.write_bytes(whole[:size])
            frames, message = read_until_damage(path)
            count = sum(border <= size for border in borders) - 1
            assert [frame.data for frame in frames] == FRAMES[:count]
            cut = size not in borders
            assert (f"is damaged after {count} frames" in message) is cut
            assert ("the last frame is cut off" in message) is cut
            assert bool(message) is cut


@pytest.mark.parametrize(
    "content", [b"", b"\xd4\xc3\xb2\xa1", b"GET / HTTP/1.1\r\n" * 9, bytes(99)]
)
def test_what_is_no_capture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not a capture \(give a pcap or pcapng file\)"):
        list(read_capture(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        list(read_capture(tmp_path / "missing.pcap"))
    with pytest.raises(ConfigError, match="is a directory"):
        list(read_capture(tmp_path))


def test_a_frame_of_impossible_length_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap("<")[:24] + struct.pack("<IIII", 0, 0, 0xFFFFFFF0, 0) + b"x" * 99)
    assert read_until_damage(path) == ([], "is damaged after 0 frames: a frame of 4294967280 bytes")


def test_reading_may_stop_early(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap("<"))
    reader = read_capture(path)
    assert next(reader).data == P4
    cast("Generator[Frame]", reader).close()
    assert list(reader) == []


@shared_file
@given(st.binary(max_size=200), st.sampled_from([b"", pcap("<")[:24], pcap(">", nano=True)[:24]]))
def test_any_bytes_are_frames_or_a_configuration_error(
    tmp_path: Path, data: bytes, header: bytes
) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(header + data)
    frames, message = read_until_damage(path)
    assert sum(len(frame.data) + 16 for frame in frames) <= len(data)
    assert message or frames or not data


@pytest.mark.parametrize("linktype", [RAW, ETHERNET])
def test_what_is_written_is_read_back(tmp_path: Path, linktype: int) -> None:
    path = tmp_path / "a.pcap"
    with CaptureWriter(path, linktype) as writer:
        writer.write(0.0, P4)
        writer.write(1_700_000_000.999999, P6)
        writer.write(5.9999999, b"")  # rounds up into the next second
    frames = list(read_capture(path))
    assert [(frame.linktype, frame.data) for frame in frames] == [
        (linktype, P4),
        (linktype, P6),
        (linktype, b""),
    ]
    assert [frame.timestamp for frame in frames] == [0.0, 1_700_000_000.999999, 6.0]


MAC = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02"
V4, V6, Q, AD = b"\x08\x00", b"\x86\xdd", b"\x81\x00\x00\x05", b"\x88\xa8\x20\x07"
SLL_HEAD = b"\0\0\0\x01\0\x06" + bytes(8)
SLL2_REST = bytes(2) + b"\0\0\0\x01\0\x01\0\x06" + bytes(8)
FOUND = {
    "ethernet": (ETHERNET, MAC + V4, P4),
    "ethernet, IPv6": (ETHERNET, MAC + V6, P6),
    "VLAN": (ETHERNET, MAC + Q + V4, P4),
    "QinQ": (ETHERNET, MAC + AD + Q + V6, P6),
    "old QinQ": (ETHERNET, MAC + b"\x91\x00\x00\x01" + Q + V4, P4),
    "four tags": (ETHERNET, MAC + Q * 4 + V4, P4),
    "BSD loopback": (NULL, b"\x02\0\0\0", P4),
    "BSD loopback, IPv6": (NULL, b"\0\0\0\x1e", P6),
    "OpenBSD loopback": (LOOP, b"\0\0\0\x02", P4),
    "raw": (RAW, b"", P4),
    "raw, IPv6": (RAW, b"", P6),
    "raw by its old number": (12, b"", P4),
    "raw by OpenBSD's number": (14, b"", P6),
    "IPv4": (IPV4, b"", P4),
    "IPv6": (IPV6, b"", P6),
    "cooked": (SLL, SLL_HEAD + V4, P4),
    "cooked, VLAN": (SLL, SLL_HEAD + Q + V6, P6),
    "cooked v2": (SLL2, V4 + SLL2_REST, P4),
    "cooked v2, IPv6": (SLL2, V6 + SLL2_REST, P6),
    "cooked v2, VLAN": (SLL2, Q[:2] + SLL2_REST + Q[2:] + V4, P4),
}


@pytest.mark.parametrize(("linktype", "link", "packet"), FOUND.values(), ids=FOUND.keys())
def test_ip_is_found_in(linktype: int, link: bytes, packet: bytes) -> None:
    data = link + packet
    assert inner_packet(Frame(0.0, linktype, data)) == (len(link), len(data))
    for size in range(len(link)):
        with pytest.raises(MalformedPacket) as caught:
            inner_packet(Frame(0.0, linktype, data[:size]))
        assert caught.value.reason == "truncated_link"


@pytest.mark.parametrize(
    ("linktype", "data", "expected"),
    [
        (ETHERNET, MAC + b"\x08\x06" + bytes(28), "not_ip"),  # ARP
        (ETHERNET, MAC + b"\x00\x26" + bytes(60), "not_ip"),  # IEEE 802.3, with a length
        (ETHERNET, MAC + Q * 5 + V4 + P4, "not_ip"),
        (NULL, b"\x02\0\0\0\x99\x99", "not_ip"),
        (RAW, b"\x00" * 40, "not_ip"),
        (SLL, SLL_HEAD + b"\x08\x06" + bytes(28), "not_ip"),
        (SLL2, b"\x08\x06" + SLL2_REST + bytes(28), "not_ip"),
        (105, bytes(60), "unknown_link"),  # IEEE 802.11
    ],
)
def test_what_is_not_ip(linktype: int, data: bytes, expected: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        inner_packet(Frame(0.0, linktype, data))
    assert caught.value.reason == expected


linktypes = st.sampled_from([NULL, ETHERNET, 12, RAW, LOOP, SLL, IPV4, IPV6, SLL2, 147])


@given(linktypes, st.binary(max_size=60))
def test_any_frame_holds_a_packet_or_is_malformed(linktype: int, data: bytes) -> None:
    try:
        start, end = inner_packet(Frame(0.0, linktype, data))
    except MalformedPacket as error:
        reason = error.reason
    else:
        assert 0 <= start <= end == len(data)
        reason = "not_ip"
    assert reason in MALFORMED
