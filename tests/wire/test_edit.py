"""Edits in place: same length, the right bytes, and a checksum that is as right as it was."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp
from appliance_sdk.wire.checksum import checksum, transport_checksum
from appliance_sdk.wire.edit import clamp_mss, fix_ipv4_checksum, patch_payload
from appliance_sdk.wire.packet import ACK, ICMP, SYN, Headers, parse_packet

ENDS4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
ENDS6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"
MSS_9000 = b"\x02\x04\x23\x28"

payloads = st.binary(min_size=1, max_size=80)
ends = st.sampled_from([ENDS4, ENDS6])


def parse(packet: bytes | bytearray) -> Headers:
    return parse_packet(packet, 0, len(packet))


def residue(packet: bytes | bytearray) -> int:
    """0 where the transport checksum is right; never 0xffff, which is 0 by another name."""
    h = parse(packet)
    segment = bytes(packet[h.transport : h.end])
    if h.protocol == ICMP:
        return checksum(segment) % 0xFFFF
    return transport_checksum(h.source, h.destination, h.protocol, segment) % 0xFFFF


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    addresses, payload = draw(ends), draw(payloads)
    kind = draw(st.sampled_from(["tcp", "udp", "icmp", "chain"]))
    if kind == "udp":
        return build_udp(*addresses, 1, 2, payload=payload)
    if kind == "icmp":
        number = 8 if len(addresses[0]) == 4 else 128
        return build_icmp(*addresses, number, 0, b"\0\x01\0\x02" + payload)
    options = draw(st.integers(0, 10)) * b"\x01\x01\x01\x01"
    if kind == "tcp":
        return build_tcp(*addresses, 1, 2, flags=ACK, payload=payload, options=options)
    segment = build_tcp(*ENDS6, 1, 2, payload=payload)[40:]
    return build_ip(*ENDS6, 60, b"\x06\x00" + bytes(6) + segment)


@given(packets(), st.data())
def test_a_patch_changes_what_it_says_and_keeps_the_checksum_right(
    packet: bytes, data: st.DataObject
) -> None:
    h = parse(packet)
    size = h.end - h.payload
    offset = data.draw(st.integers(0, size))
    new = data.draw(st.binary(max_size=size - offset))
    edited = bytearray(packet)
    patch_payload(edited, h, offset, new)
    at = h.payload + offset
    assert len(edited) == len(packet)
    assert edited[at : at + len(new)] == new
    assert edited[h.payload : at] == packet[h.payload : at]
    assert edited[at + len(new) :] == packet[at + len(new) :]
    assert residue(edited) == residue(packet) == 0
    assert parse(edited) == h


@given(packets(), st.integers(0, 0xFFFF), st.binary(min_size=1, max_size=1))
def test_a_wrong_checksum_stays_just_as_wrong(packet: bytes, wrong: int, new: bytes) -> None:
    # The receiver must go on refusing what it would have refused.
    h = parse(packet)
    at = h.transport + {6: 16, 17: 6}.get(h.protocol, 2)
    broken = bytearray(packet)
    broken[at : at + 2] = max(wrong, 1).to_bytes(2, "big")
    before = residue(broken)
    patch_payload(broken, h, 0, new)
    assert residue(broken) == before


@given(ends, payloads)
def test_no_udp_checksum_appears_where_there_was_none(
    addresses: tuple[bytes, bytes], payload: bytes
) -> None:
    packet = bytearray(build_udp(*addresses, 1, 2, payload=payload))
    h = parse(packet)
    packet[h.transport + 6 : h.transport + 8] = b"\0\0"
    patch_payload(packet, h, 0, bytes(len(payload)))
    assert packet[h.transport + 6 : h.transport + 8] == b"\0\0"


def test_a_udp_checksum_of_zero_is_written_as_ffff() -> None:
    # RFC 768. The payload is chosen so that the rest sums to 0xffff.
    packet = bytearray(build_udp(*ENDS4, 1, 2, payload=b"\0\0"))
    h = parse(packet)
    patch_payload(packet, h, 0, bytes(packet[h.transport + 6 : h.transport + 8]))
    assert packet[h.transport + 6 : h.transport + 8] == b"\xff\xff"


@pytest.mark.parametrize("size", [4, 5])
def test_bytes_behind_the_udp_length_are_not_in_its_checksum(size: int) -> None:
    inside, behind = b"abcdefgh"[:size], b"behind it"
    datagram = build_udp(*ENDS4, 1, 2, payload=inside)[20:]
    for offset in range(size + 1):
        packet = bytearray(build_ip(*ENDS4, 17, datagram + behind))
        patch_payload(packet, parse(packet), offset, b"zzzzzz")
        assert packet[28 + offset : 34 + offset] == b"zzzzzz"
        assert transport_checksum(*ENDS4, 17, packet[20 : 28 + size]) == 0


@pytest.mark.parametrize(("offset", "new"), [(-1, b"a"), (0, b"abcdef"), (5, b"a"), (4, b"ab")])
def test_a_patch_cannot_reach_beyond_the_payload(offset: int, new: bytes) -> None:
    packet = bytearray(build_udp(*ENDS4, 1, 2, payload=b"hello") + b"trailing bytes")
    before = bytes(packet)
    with pytest.raises(ValueError, match="beyond the payload"):
        patch_payload(packet, parse(packet), offset, new)
    assert packet == before


def test_protocols_without_a_known_checksum_are_just_patched() -> None:
    packet = bytearray(build_ip(*ENDS4, 47, b"\0\0\x08\0payload"))
    patch_payload(packet, parse(packet), 4, b"PAY")
    assert packet[20:] == b"\0\0\x08\0PAYload"


@pytest.mark.parametrize("addresses", [ENDS4, ENDS6])
@pytest.mark.parametrize(
    "options",
    [
        MSS_9000,
        b"\x01" + MSS_9000,  # at an odd offset
        b"\x03\x03\x07" + MSS_9000,
        b"\x01\x01\x04\x02\x01" + MSS_9000 + b"\x00",
        b"\x08\x0a" + bytes(8) + MSS_9000,
    ],
)
def test_a_larger_mss_is_lowered(addresses: tuple[bytes, bytes], options: bytes) -> None:
    for flags in (SYN, SYN | ACK):
        packet = bytearray(build_tcp(*addresses, 1, 2, flags=flags, options=options, payload=b"x"))
        size = len(packet)
        assert clamp_mss(packet, parse(packet), 8460)
        h = parse(packet)
        clamped = options.replace(MSS_9000, b"\x02\x04\x21\x0c")
        assert packet[h.transport + 20 : h.transport + 20 + len(options)] == clamped
        assert (len(packet), residue(packet)) == (size, 0)
        assert not clamp_mss(packet, h, 8460)


@pytest.mark.parametrize(
    "packet",
    [
        build_tcp(*ENDS4, 1, 2, flags=ACK, options=MSS_9000),  # not a SYN
        build_tcp(*ENDS4, 1, 2, flags=SYN),
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x02\x04\x03\xe8"),  # no larger
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x00\x00\x00\x00" + MSS_9000),  # after the end
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x05\x00" + MSS_9000),  # length 0
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x05\x01" + MSS_9000),  # length 1
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x02\x03\x23\x28"),  # MSS of wrong length
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x01\x01\x02\x04", payload=b"\x23\x28"),
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x01\x01\x01\x02"),  # cut after its kind
        build_tcp(*ENDS4, 1, 2, flags=SYN, options=b"\x05\xff\x01\x01" + MSS_9000),
        build_udp(*ENDS4, 1, 2, payload=bytes(12) + MSS_9000),
        build_icmp(*ENDS4, 8, 0, bytes(20) + MSS_9000),
    ],
)
def test_anything_else_is_left_alone(packet: bytes) -> None:
    copy = bytearray(packet)
    assert not clamp_mss(copy, parse(packet), 1000)
    assert copy == packet


@given(st.binary(max_size=40).map(lambda b: b + bytes(-len(b) % 4)), st.integers(0, 0xFFFF))
def test_any_options_are_survived(options: bytes, mss: int) -> None:
    packet = bytearray(build_tcp(*ENDS4, 1, 2, flags=SYN, options=options[:40], payload=b"abc"))
    before = bytes(packet)
    changed = clamp_mss(packet, parse(packet), mss)
    assert changed == (packet != before)
    assert (len(packet), residue(packet)) == (len(before), 0)
    assert packet.endswith(b"abc")


@given(st.binary(min_size=20, max_size=120), st.sampled_from([b"\x45", b"\x46", b"\x60"]))
def test_whatever_can_be_parsed_can_be_edited(data: bytes, first: bytes) -> None:
    packet = bytearray(first + data[1:])
    with contextlib.suppress(MalformedPacket):
        packet[2:6] = len(packet).to_bytes(2, "big") + (len(packet) - 40).to_bytes(
            2, "big", signed=True
        )
        h = parse(packet)
        size = len(packet)
        clamp_mss(packet, h, 500)
        patch_payload(packet, h, 0, bytes(h.end - h.payload))
        assert len(packet) == size
        assert not any(packet[h.payload : h.end])


@given(st.binary(min_size=4, max_size=60), st.integers(0, 5))
def test_the_ipv4_header_checksum_is_computed_where_the_packet_lies(
    payload: bytes, start: int
) -> None:
    packet = bytearray(start) + build_ip(*ENDS4, 99, payload)
    packet[start + 8] = 3
    fix_ipv4_checksum(packet, start)
    assert checksum(packet[start : start + 20]) == 0
    assert packet[start + 20 :] == payload
