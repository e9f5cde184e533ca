"""What is built: sizes and values that do not fit are refused, fragments are cut right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.wire.build import build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.packet import UDP, parse_packet

A4, B4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A6, B6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_ip(A4, B6, 17, b""),
        lambda: build_ip(b"", b"", 17, b""),
        lambda: build_ip(b"abc", b"abc", 17, b""),
        lambda: build_ip(A4, B4, 17, bytes(65516)),
        lambda: build_ip(A6, B6, 17, bytes(65536)),
        lambda: build_udp(A4, B4, 1, 2, payload=bytes(65528)),
        lambda: build_tcp(A4, B4, 1, 2, options=bytes(41)),
        lambda: fragment_packet(build_udp(A4, B4, 1, 2), 27),
        lambda: fragment_packet(build_udp(A4, B4, 1, 2), -1),
        lambda: fragment_packet(build_udp(A6, B6, 1, 2), 55),
        lambda: fragment_packet(b"\x46" + build_udp(A4, B4, 1, 2)[1:], 1500),
    ],
)
def test_what_does_not_fit_is_refused(build: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        build()


def test_the_largest_packets() -> None:
    for packet in (build_ip(A4, B4, 99, bytes(65515)), build_ip(A6, B6, 99, bytes(65535))):
        assert parse_packet(packet, 0, len(packet)).end == len(packet)


def test_the_ipv4_header() -> None:
    alone = build_ip(A4, B4, 17, b"", ttl=3)
    assert (checksum(alone), alone[8], alone[6:8]) == (0, 3, b"\x40\x00")
    numbered = build_ip(A4, B4, 17, b"", identification=77)
    assert (numbered[4:6], numbered[6:8]) == (b"\x00\x4d", b"\x00\x00")


@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
def test_a_udp_checksum_of_zero_is_written_as_ffff(ends: tuple[bytes, bytes]) -> None:
    # RFC 768: zero means that there is none. The payload makes the rest add up to it.
    packet = build_udp(*ends, 1, 2, payload=b"\0\0")
    packet = build_udp(*ends, 1, 2, payload=packet[-4:-2])
    assert packet[-4:-2] == b"\xff\xff"


def test_sequence_numbers_wrap() -> None:
    packet = build_tcp(A4, B4, 1, 2, seq=2**32 + 5, ack=-1)
    h = parse_packet(packet, 0, len(packet))
    assert (h.seq, h.ack) == (5, 2**32 - 1)


def test_tcp_options_are_padded_with_nops() -> None:
    packet = build_tcp(A4, B4, 1, 2, options=b"\x03\x03\x07", payload=b"data")
    h = parse_packet(packet, 0, len(packet))
    assert packet[40 : h.payload] == b"\x03\x03\x07\x01"
    assert packet[h.payload :] == b"data"


@given(st.sampled_from([(A4, B4), (A6, B6)]), st.integers(0, 3000), st.integers(56, 1600))
def test_fragments_together_are_the_packet(ends: tuple[bytes, bytes], size: int, mtu: int) -> None:
    packet = build_udp(*ends, 1, 2, payload=bytes(n & 0xFF for n in range(size)), identification=3)
    parts = fragment_packet(packet, mtu)
    body = bytearray()
    for number, part in enumerate(parts, 1):
        h = parse_packet(part, 0, len(part))
        assert len(part) <= mtu
        assert h.end == len(part)
        assert (h.protocol, h.fragment_offset) == (UDP, len(body))
        assert h.more_fragments == (number < len(parts))
        body += part[h.transport :]
    assert bytes(body) == packet[-8 - size :]
