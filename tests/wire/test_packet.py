"""The inner packet's headers: every way in which they can be wrong, and IPv6's chains."""

from __future__ import annotations

import contextlib
import mmap
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.build import (
    build_icmp,
    build_ip,
    build_tcp,
    build_udp,
    fragment_packet,
)
from appliance_sdk.wire.packet import ACK, SYN, TCP, UDP, Headers, parse_packet, parse_quoted
from appliance_sdk.wire.reasons import MALFORMED

A4, B4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A6, B6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"
SEGMENT = build_tcp(A6, B6, 1000, 443, seq=7, ack=9, flags=ACK, payload=b"hello")[40:]
TCP4 = build_tcp(A4, B4, 1000, 443, seq=7, ack=9, flags=SYN, payload=b"hello", ttl=9)
UDP4 = build_udp(A4, B4, 53, 5353, payload=b"hello")
PLAIN = (0, 43, 60, 135, 139, 140)
"""Extension headers that say their length in units of eight bytes."""


def parse(packet: bytes) -> Headers:
    return parse_packet(packet, 0, len(packet))


def reason(packet: bytes) -> str:
    try:
        parse(packet)
    except MalformedPacket as error:
        return error.reason
    return ""


def chain(kinds: list[int], last: int, body: bytes, units: int = 0) -> bytes:
    """An IPv6 packet with these extension headers, each of `units` times eight bytes more."""
    following = [*kinds[1:], last]
    extensions = b"".join(bytes((n, units)) + bytes(6 + 8 * units) for n in following if kinds)
    return build_ip(A6, B6, kinds[0] if kinds else last, extensions + body)


def fragment(next_header: int, offset: int, more: bool, identification: int = 7) -> bytes:
    return struct.pack(">BBHI", next_header, 0, offset | more, identification)


def changed(packet: bytes, at: int, new: bytes) -> bytes:
    return packet[:at] + new + packet[at + len(new) :]


def test_tcp_over_ipv4() -> None:
    h = parse(TCP4)
    assert (h.version, h.protocol, h.source, h.destination) == (4, TCP, A4, B4)
    assert (h.source_port, h.destination_port, h.seq, h.ack) == (1000, 443, 7, 9)
    assert (h.flags, h.window, h.ttl) == (SYN, 65535, 9)
    assert (h.transport, h.payload, h.end) == (20, 40, 45)
    assert (h.icmp_type, h.icmp_code) == (-1, -1)
    assert not h.is_fragment
    assert not h.is_first_fragment


def test_offsets_count_in_the_buffer_and_nothing_outside_is_read() -> None:
    h = parse_packet(b"\xff" * 11 + UDP4 + b"\xff" * 3, 11, 11 + len(UDP4))
    assert (h.transport, h.payload, h.end) == (31, 39, 11 + len(UDP4))
    assert (h.source_port, h.destination_port) == (53, 5353)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    assert parse_packet(kind(TCP4), 0, len(TCP4)) == parse(TCP4)


def test_shared_memory_will_do() -> None:
    with mmap.mmap(-1, 4096) as shared:
        shared[100 : 100 + len(TCP4)] = TCP4
        h = parse_packet(shared, 100, 100 + len(TCP4))
        assert (h.source, h.destination_port, h.end) == (A4, 443, 100 + len(TCP4))


def test_bytes_behind_the_packet_are_not_part_of_it() -> None:
    assert parse(UDP4 + b"junk").end == len(UDP4)
    assert parse(chain([60], TCP, SEGMENT) + b"junk").end == 40 + 8 + len(SEGMENT)


def test_ports_come_after_ipv4_options() -> None:
    packet = b"\x4f" + UDP4[1:2] + (60 + 13).to_bytes(2, "big") + UDP4[4:20] + b"\x01" * 40
    h = parse(packet + UDP4[20:])
    assert (h.transport, h.source_port, h.destination_port) == (60, 53, 5353)


MALFORMED_PACKETS = {
    "nothing": (b"", "ip_truncated"),
    "version 0": (b"\x00" + TCP4[1:], "inner_version"),
    "version 5": (b"\x55" + TCP4[1:], "inner_version"),
    "version 15": (b"\xf5" + TCP4[1:], "inner_version"),
    "19 bytes of IPv4": (TCP4[:19], "ip_truncated"),
    "39 bytes of IPv6": (chain([], 59, b"")[:39], "ip_truncated"),
    "IHL 4": (b"\x44" + TCP4[1:], "ip_header_length"),
    "IHL 0": (b"\x40" + TCP4[1:], "ip_header_length"),
    "IHL beyond the total length": (b"\x4f" + TCP4[1:], "ip_total_length"),
    "total length 19": (changed(TCP4, 2, b"\0\x13"), "ip_total_length"),
    "total length 0": (changed(TCP4, 2, b"\0\0"), "ip_total_length"),
    "IPv4 cut": (TCP4[:-1], "ip_truncated"),
    "IPv6 cut": (chain([], TCP, SEGMENT)[:-1], "ip_truncated"),
    "jumbogram": (changed(chain([0], TCP, SEGMENT), 4, b"\0\0"), "ipv6_jumbogram"),
    "no payload at all": (changed(chain([], TCP, SEGMENT), 4, b"\0\0"), "tcp_truncated"),
    "extension beyond the end": (build_ip(A6, B6, 60, b"\x06\x05" + bytes(14)), "ipv6_chain"),
    "extension cut": (build_ip(A6, B6, 60, b"\x06\x00\0\0\0\0\0"), "ipv6_chain"),
    "fragment header cut": (build_ip(A6, B6, 44, b"\x06\x00\0\0\0\0\0"), "ipv6_chain"),
    "endless chain": (chain([60] * 40, TCP, SEGMENT), "ipv6_chain"),
    "TCP of 19 bytes": (build_ip(A4, B4, TCP, TCP4[20:39]), "tcp_truncated"),
    "TCP offset 4": (changed(TCP4, 32, b"\x40"), "tcp_offset"),
    "TCP offset 0": (changed(TCP4, 32, b"\x0f"), "tcp_offset"),
    "TCP offset beyond the end": (changed(TCP4, 32, b"\xf0"), "tcp_offset"),
    "UDP of 7 bytes": (build_ip(A4, B4, UDP, UDP4[20:27]), "udp_truncated"),
    "ICMP of 3 bytes": (build_ip(A4, B4, 1, b"\x08\0\0"), "icmp_truncated"),
    "ICMPv6 of 3 bytes": (build_ip(A6, B6, 58, b"\x80\0\0"), "icmp_truncated"),
}


@pytest.mark.parametrize(
    ("packet", "expected"), MALFORMED_PACKETS.values(), ids=MALFORMED_PACKETS.keys()
)
def test_malformed(packet: bytes, expected: str) -> None:
    assert reason(packet) == expected


@pytest.mark.parametrize("length", [0, 7, 8, 9, 65535])
def test_a_wrong_udp_length_is_tolerated(length: int) -> None:
    h = parse(changed(UDP4, 24, length.to_bytes(2, "big")))
    assert (h.payload, h.end) == (28, len(UDP4))


@pytest.mark.parametrize("protocol", [4, 41, 47, 50, 51, 59, 132, 255])
@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
def test_protocols_without_ports_are_not_read(protocol: int, ends: tuple[bytes, bytes]) -> None:
    for body in (b"", b"\xff" * 30):
        h = parse(build_ip(*ends, protocol, body))
        assert (h.protocol, h.source_port, h.destination_port) == (protocol, 0, 0)
        assert h.payload == h.transport == h.end - len(body)


def test_ports_are_found_behind_every_extension_header() -> None:
    for units in (0, 1, 5):
        for kinds in ([], [0], [0, 60, 43, 60], list(PLAIN)):
            h = parse(chain(kinds, TCP, SEGMENT, units))
            assert (h.protocol, h.source_port, h.destination_port) == (TCP, 1000, 443)
            assert h.end - h.payload == 5
            assert not h.is_fragment


def test_esp_and_ah_end_the_chain() -> None:
    # RFC 4302: what AH covers could be read, but its flow is a 3-tuple (one rule for both).
    for last in (50, 51):
        h = parse(chain([0, 60], last, SEGMENT))
        assert (h.protocol, h.source_port) == (last, 0)


def test_first_fragment_of_ipv6() -> None:
    h = parse(build_ip(A6, B6, 60, b"\x2c" + bytes(7) + fragment(TCP, 0, True, 99) + SEGMENT))
    assert (h.is_fragment, h.is_first_fragment, h.fragment_id) == (True, True, 99)
    assert (h.protocol, h.source_port, h.destination_port) == (TCP, 1000, 443)


def test_an_atomic_fragment_is_a_whole_packet() -> None:
    h = parse(build_ip(A6, B6, 44, fragment(TCP, 0, False) + SEGMENT))  # RFC 6946
    assert (h.is_fragment, h.destination_port) == (False, 443)


def test_reserved_bits_of_a_fragment_header_mean_nothing() -> None:
    body = struct.pack(">BBHI", TCP, 0xFF, 0x0006, 7) + SEGMENT
    assert not parse(build_ip(A6, B6, 44, body)).is_fragment


def test_a_second_fragment_header_must_not_hide_the_first() -> None:
    inner = fragment(TCP, 0, False, 8) + SEGMENT
    assert reason(build_ip(A6, B6, 44, fragment(44, 0, True) + inner)) == "ipv6_chain"
    assert reason(build_ip(A6, B6, 44, fragment(60, 0, True) + b"\x2c" + bytes(7) + inner)) == (
        "ipv6_chain"
    )


@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
def test_no_port_is_read_from_a_later_fragment(ends: tuple[bytes, bytes]) -> None:
    packet = build_udp(*ends, 1, 2, payload=b"\xff" * 4000, identification=77)
    fragments = [parse(part) for part in fragment_packet(packet, 1280)]
    assert [f.fragment_offset for f in fragments][:2] == [0, fragments[1].fragment_offset]
    assert [f.is_first_fragment for f in fragments] == [True] + [False] * (len(fragments) - 1)
    assert all(f.is_fragment for f in fragments)
    assert [f.more_fragments for f in fragments] == [True] * (len(fragments) - 1) + [False]
    assert (fragments[0].source_port, fragments[0].destination_port) == (1, 2)
    for later in fragments[1:]:
        assert (later.source_port, later.destination_port, later.icmp_type) == (0, 0, -1)
        assert later.payload == later.transport
    assert len({f.fragment_id for f in fragments}) == 1
    assert sum(f.end - f.transport for f in fragments) == 4008


def test_a_later_fragment_of_one_byte_is_read() -> None:
    packet = build_ip(A4, B4, TCP, b"x", identification=5)
    assert parse(changed(packet, 6, b"\0\x02")).fragment_offset == 16
    assert parse(build_ip(A6, B6, 44, fragment(TCP, 16, False) + b"x")).fragment_offset == 16


@pytest.mark.parametrize("following", [0, 43, 44, 60])
def test_the_middle_of_something_is_no_extension_header(following: int) -> None:
    packet = build_ip(A6, B6, 44, fragment(following, 8, True) + b"\x06\x00" + bytes(6) + SEGMENT)
    h = parse(packet)
    assert (h.protocol, h.transport, h.destination_port) == (following, 48, 0)


def test_icmp() -> None:
    h = parse(build_icmp(A4, B4, 3, 13, b"\0\0\0\0quoted"))
    assert (h.icmp_type, h.icmp_code, h.source_port) == (3, 13, 0)
    assert h.payload == h.transport + 8
    h = parse(build_icmp(A6, B6, 128, 0, b""))
    assert (h.icmp_type, h.icmp_code, h.payload) == (128, 0, h.end)


@pytest.mark.parametrize("packet", [TCP4, UDP4, chain([0, 60], TCP, SEGMENT)])
def test_a_quoted_packet_may_be_cut_off_after_its_ports(packet: bytes) -> None:
    whole = parse(packet)
    for size in range(whole.transport + 4, len(packet) + 1):
        quoted = parse_quoted(packet, 0, size)
        assert quoted[:6] == whole[:6]
        assert (quoted.transport, quoted.end) == (whole.transport, size)
    for size in range(whole.transport + 4):
        with pytest.raises(MalformedPacket):
            parse_quoted(packet, 0, size)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    check_contract(data)


@given(st.sampled_from([b"\x45", b"\x60", b"\x4f"]), st.binary(min_size=39, max_size=200))
def test_any_bytes_that_look_like_ip_are_read_or_malformed(first: bytes, data: bytes) -> None:
    check_contract(first + data)


@given(st.data())
def test_any_mutation_is_read_or_malformed(data: st.DataObject) -> None:
    good = data.draw(
        st.sampled_from(
            [
                TCP4,
                UDP4,
                chain([0, 43, 60], TCP, SEGMENT),
                build_icmp(A4, B4, 3, 1, bytes(4) + UDP4),
                build_ip(A6, B6, 44, fragment(60, 0, True) + b"\x06" + bytes(7) + SEGMENT),
            ]
        )
    )
    packet = bytearray(good)
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(packet) - 1), st.integers(0, 255)), max_size=4)
    ):
        packet[at] = value
    check_contract(bytes(packet[: data.draw(st.integers(0, len(packet)))]))


def check_contract(data: bytes) -> None:
    """The packet is read to offsets in order and inside the bytes, or is malformed; never more."""
    refused = reason(data)
    assert refused in {"", *MALFORMED}
    if not refused:
        h = parse(data)
        assert 20 <= h.transport <= h.payload <= h.end <= len(data)
        assert len(h.source) == len(h.destination) == {4: 4, 6: 16}[h.version]
        # The same wherever it lies, and whatever surrounds it.
        moved = parse_packet(b"\xaa" * 3 + data + b"\xbb" * 64, 3, 3 + len(data))
        assert moved == h._replace(transport=h.transport + 3, payload=h.payload + 3, end=h.end + 3)
        # What can be read whole can be read as a quotation, too.
        assert parse_quoted(data, 0, len(data))[:6] == h[:6]
    with contextlib.suppress(MalformedPacket):
        quoted = parse_quoted(data, 0, len(data))
        assert quoted.transport <= quoted.end <= len(data)
