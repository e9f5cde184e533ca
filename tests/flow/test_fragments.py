"""Fragments: rebuilt as they were, or condemned."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.flow.fragments import Fragment, FragmentLimits, FragmentTable
from appliance_sdk.wire.build import build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.packet import parse_packet

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
A6, B6 = b"\x20" + bytes(14) + b"\x01", b"\x20" + bytes(14) + b"\x02"


def add(table: FragmentTable, packet: bytes, now: float = 0.0, endpoint: int = 1) -> Fragment:
    padded = b"head" + packet
    headers = parse_packet(padded, 4, len(padded))
    return table.add(endpoint, headers, padded, 4, now)


def piece(data: bytes, offset: int, *, more: bool, number: int = 7, protocol: int = 17) -> bytes:
    """An IPv4 fragment, made by hand."""
    header = bytearray(build_ip(A, B, protocol, data, identification=number)[:20])
    header[6:8] = ((0x2000 if more else 0) | offset >> 3).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header) + data


@given(st.integers(1, 3000), st.integers(68, 1500), st.randoms(), st.booleans())
def test_with_the_first_one_first_any_order_gives_the_packet_back(
    size: int, mtu: int, rng: object, ipv6: bool
) -> None:
    ends = (A6, B6) if ipv6 else (A, B)
    payload = bytes(i % 251 for i in range(size))
    packet = build_udp(*ends, 5, 6, payload=payload, identification=0 if ipv6 else 9)
    first, *rest = fragment_packet(packet, max(mtu, 96))
    if not rest:
        return
    rng.shuffle(rest)  # type: ignore[attr-defined]
    table = FragmentTable(FragmentLimits(per_datagram=100))
    results = [add(table, part) for part in [first, *rest]]
    assert [r.reason for r in results] == [""] * len(results)
    assert [r.whole for r in results[:-1]] == [None] * len(rest)
    whole = results[-1].whole
    assert whole is not None
    assert whole[20:] == packet[20:]
    assert parse_packet(whole, 0, len(whole))[:6] == parse_packet(packet, 0, len(packet))[:6]
    if not ipv6:
        assert checksum(whole[:20]) == 0
    else:
        assert whole == packet
    assert len(table) == 0
    assert table._bytes == 0


def test_ipv4_options_stay_in_front() -> None:
    options = b"\x01\x01\x01\x00"
    table = FragmentTable()
    results = []
    for data, offset, more in ((bytes(16), 0, True), (b"tail", 16, False)):
        part = bytearray(piece(data, offset, more=more))
        part[0] = 0x46
        part[20:20] = options
        part[2:4] = len(part).to_bytes(2, "big")
        results.append(add(table, bytes(part)))
    whole = results[1].whole
    assert whole is not None
    assert whole[:1] == b"\x46"
    assert whole[20:24] == options
    assert whole[24:] == bytes(16) + b"tail"
    assert checksum(whole[:24]) == 0


def test_ipv6_headers_before_the_fragment_header_stay() -> None:
    hop_by_hop = bytes((44, 0)) + bytes((1, 4)) + bytes(4)
    table = FragmentTable()
    last = None
    udp = build_udp(A6, B6, 5, 6, payload=bytes(24))[40:]
    for data, offset, more in ((udp[:16], 0, 1), (udp[16:], 16, 0)):
        fragment = struct.pack(">BBHI", 17, 0, offset | more, 99)
        last = add(table, build_ip(A6, B6, 0, hop_by_hop + fragment + data))
    assert last is not None
    assert last.whole is not None
    headers = parse_packet(last.whole, 0, len(last.whole))
    assert (headers.protocol, headers.source_port, headers.is_fragment) == (17, 5, False)
    assert last.whole == build_ip(A6, B6, 0, bytes((17,)) + hop_by_hop[1:] + udp)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([(bytes(16), 0, True), (bytes(16), 8, True)], "fragment_overlap"),
        ([(bytes(16), 0, True), (bytes(16), 0, True)], "fragment_overlap"),
        ([(bytes(24), 0, True), (bytes(8), 8, False)], "fragment_overlap"),
        ([(bytes(16), 0, True), (bytes(8), 24, False), (bytes(8), 40, True)], "fragment_overlap"),
        ([(bytes(16), 0, True), (bytes(8), 24, False), (bytes(8), 16, False)], "fragment_overlap"),
        ([(bytes(16), 0, True), (bytes(8), 40, True), (bytes(8), 16, False)], "fragment_overlap"),
        ([(bytes(16), 0, True), (bytes(9), 16, True)], "fragment_tiny"),
        ([(bytes(16), 0, True), (bytes(80), 65480, False)], "fragment_too_big"),
        ([(bytes(8), 16, False)], "fragment_before_first"),
    ],
)
def test_a_bad_fragment_condemns_its_datagram(
    parts: list[tuple[bytes, int, bool]], reason: str
) -> None:
    table = FragmentTable()
    results = [add(table, piece(data, at, more=more)) for data, at, more in parts]
    assert [r.reason for r in results[:-1]] == [""] * (len(parts) - 1)
    assert results[-1].reason == reason
    assert results[-1].whole is None
    if len(parts) > 1:
        assert add(table, piece(bytes(8), 48, more=False)).reason
    assert table._bytes == 0
    table.expire(1000.0)
    assert len(table) == 0
    assert table._bytes == 0


def test_a_tcp_header_is_never_cut_nor_overwritten() -> None:
    segment = build_tcp(A, B, 5, 6, flags=2, payload=bytes(40))[20:]
    # A first fragment without the whole header is malformed before it gets here.
    table = FragmentTable()
    assert add(table, piece(segment[:32], 0, more=True, protocol=6)).reason == ""
    assert add(table, piece(bytes(8), 8, more=True, protocol=6)).reason == "fragment_tiny"


def test_the_same_number_is_another_datagram_for_others_and_after_the_end() -> None:
    table = FragmentTable()
    for endpoint in (1, 2):
        assert add(table, piece(bytes(16), 0, more=True), endpoint=endpoint).reason == ""
    assert add(table, piece(bytes(16), 0, more=True, protocol=47), endpoint=1).reason == ""
    assert len(table) == 3
    assert add(table, piece(bytes(8), 16, more=False)).whole is not None
    assert add(table, piece(bytes(16), 0, more=True)).reason == ""


def test_incomplete_datagrams_are_forgotten_in_time() -> None:
    table = FragmentTable()
    add(table, piece(bytes(16), 0, more=True), now=0.0)
    add(table, piece(bytes(16), 0, more=True, number=8), now=20.0)
    assert table.expire(59.9) == 0
    assert table.expire(60.0) == 1
    assert table._bytes == 16
    assert add(table, piece(bytes(8), 16, more=False), now=30.0).reason == "fragment_before_first"


def test_bounds() -> None:
    table = FragmentTable(FragmentLimits(datagrams=3, per_datagram=4, total_bytes=200))
    for number in range(3):
        assert add(table, piece(bytes(16), 0, more=True, number=number)).reason == ""
    full = add(table, piece(bytes(16), 0, more=True, number=3))
    assert full.reason == "fragment_table_full"
    for at in (16, 24, 32):
        assert add(table, piece(bytes(8), at, more=True, number=0)).reason == ""
    assert add(table, piece(bytes(8), 40, more=True, number=0)).reason == "fragment_table_full"
    assert add(table, piece(bytes(176), 16, more=True, number=1)).reason == "fragment_table_full"
    assert table._bytes == 16


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40), st.booleans()), max_size=30))
def test_whatever_comes_bytes_are_accounted_for(parts: list[tuple[int, int, bool]]) -> None:
    table = FragmentTable(FragmentLimits(total_bytes=300))
    for (at, size, more), number in zip(parts, itertools.cycle((1, 2)), strict=False):
        if at == 0 and (size < 8 or not more):
            continue  # no fragment, or malformed before it gets here
        add(table, piece(bytes(size), at * 8, more=more, number=number))
        assert table._bytes == sum(entry.size for entry in table._entries.values()) <= 300
    table.expire(1000.0)
    assert (len(table), table._bytes) == (0, 0)
