"""Fragments in any order, and checksums that are wrong by any bit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.hosts.arrival import Fragments, find_damage
from appliance_sdk.wire import build_icmp, build_tcp, build_udp, fragment_packet, parse_packet

V4, V6 = (b"\x0a\0\0\x01", b"\x0a\0\0\x02"), (bytes(15) + b"\x01", bytes(15) + b"\x02")
PACKETS = [
    build_tcp(*V4, 1, 2, payload=b"odd"),
    build_tcp(*V6, 1, 2, payload=b"odd"),
    build_udp(*V4, 1, 2, payload=b"even"),
    build_udp(*V6, 1, 2, payload=b"even"),
    build_icmp(*V4, 8, 0, b"1234data"),
    build_icmp(*V6, 128, 0, b"1234data"),
]


@pytest.mark.parametrize("packet", PACKETS)
def test_any_bit_that_is_wrong_in_transport_is_found(packet: bytes) -> None:
    headers = parse_packet(packet, 0, len(packet))
    assert find_damage(packet, headers) == ""
    for at in range(headers.transport, len(packet)):
        for bit in range(8):
            wrong = bytearray(packet)
            wrong[at] ^= 1 << bit
            try:
                damage = find_damage(bytes(wrong), parse_packet(wrong, 0, len(wrong)))
            except MalformedPacket:
                continue
            assert damage


@settings(deadline=None)
@given(
    st.sampled_from([V4, V6]),
    st.integers(0, 65_507),
    st.sampled_from([576, 1280, 1500, 9000]),
    st.integers(0, 2**32),
)
def test_fragments_come_together_in_any_order(
    ends: tuple[bytes, bytes], size: int, mtu: int, seed: int
) -> None:
    packet = build_udp(*ends, 1, 2, payload=random.Random(1).randbytes(size), identification=9)
    parts = fragment_packet(packet, mtu)
    doubled = parts + parts[: len(parts) // 2]
    random.Random(seed).shuffle(doubled)
    fragments = Fragments()
    whole = []
    for part in doubled:
        headers = parse_packet(part, 0, len(part))
        if headers.is_fragment:
            made = fragments.add(part, headers, 0.0)
            whole += [made] if made else []
    if len(parts) > 1:
        transport = 20 if ends == V4 else 40
        assert [made[transport:] for made in whole] == [packet[transport:]]
        assert find_damage(whole[0], parse_packet(whole[0], 0, len(whole[0]))) == ""


def test_a_part_that_comes_too_late_starts_anew() -> None:
    packet = build_udp(*V4, 1, 2, payload=bytes(100), identification=9)
    first, second = fragment_packet(packet, 100)
    fragments = Fragments()
    assert fragments.add(first, parse_packet(first, 0, len(first)), 0.0) is None
    assert fragments.add(second, parse_packet(second, 0, len(second)), 31.0) is None
    assert fragments.add(first, parse_packet(first, 0, len(first)), 32.0) is not None
    assert len(fragments) == 0
