"""Checksums against the RFCs' examples, against the plain algorithm, and kept up to date."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.wire.build import build_tcp
from appliance_sdk.wire.checksum import (
    checksum,
    is_right_tcp4,
    transport_checksum,
    update_checksum,
)


def by_the_book(data: bytes) -> int:
    """RFC 1071 §4.1, word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_example_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


def test_the_example_of_rfc_1624() -> None:
    # §4: the sum becomes 0x0000, where RFC 1141's equation gave 0xffff.
    assert update_checksum(0xDD2F, b"\x55\x55", b"\x32\x85") == 0x0000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xFFFF),
        (b"\0", 0xFFFF),
        (b"\0\0\0\0", 0xFFFF),
        (b"\xff\xff", 0),
        (b"\xff\xff\xff\xff", 0),
        (b"\xff\xfe\0\x01", 0),
        (b"\x01", 0xFEFF),
    ],
)
def test_corners(data: bytes, expected: int) -> None:
    assert checksum(data) == expected == by_the_book(data)


@given(st.binary(max_size=200))
def test_it_is_the_plain_algorithm(data: bytes) -> None:
    assert checksum(data) == by_the_book(data)
    assert checksum(bytearray(data)) == checksum(memoryview(data)) == checksum(data)


@pytest.mark.parametrize("fold", [192, 384, 768, 1536, 3072, 9216, 65535])
@pytest.mark.parametrize("more", [-2, -1, 0, 1, 2])
def test_nor_does_it_matter_how_long_it_is(fold: int, more: int) -> None:
    for pattern in (b"\xff", b"\0", b"\x01\xfe\x80", b"\xff\xff\0"):
        data = (pattern * (fold + 2))[: fold + more]
        assert checksum(data) == by_the_book(data)


words = st.lists(st.sampled_from([0, 1, 0x00FF, 0x7FFF, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF))


@given(words, words, st.data())
def test_an_update_is_what_a_computation_anew_gives(
    before: list[int], around: list[int], data: st.DataObject
) -> None:
    after = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=len(before), max_size=len(before)))

    def packed(values: list[int]) -> bytes:
        return b"".join(value.to_bytes(2, "big") for value in values)

    # A protocol number or a version stands in every header that is summed: never all zeros.
    rest = packed(around) + b"\x45\x00"
    old = checksum(rest + packed(before))
    anew = checksum(rest + packed(after))
    assert update_checksum(old, packed(before), packed(after)) == anew


@given(st.integers(0, 0xFFFF), st.binary(max_size=41))
def test_a_change_and_its_undoing_leave_an_equal_sum(old: int, data: bytes) -> None:
    there = update_checksum(old, data, bytes(len(data)))
    back = update_checksum(there, bytes(len(data)), data)
    assert back % 0xFFFF == old % 0xFFFF


@given(st.sampled_from([4, 16]), st.binary(max_size=100), st.sampled_from([6, 17, 58]))
def test_a_segment_with_its_checksum_sums_to_zero(size: int, body: bytes, protocol: int) -> None:
    source, destination = bytes(size - 1) + b"\x01", bytes(size - 1) + b"\x02"
    total = transport_checksum(source, destination, protocol, b"\0\0" + body)
    whole = total.to_bytes(2, "big") + body
    assert transport_checksum(source, destination, protocol, whole) == 0


@given(
    st.binary(min_size=4, max_size=4), st.binary(max_size=1600), st.integers(0, 0xFFFF), st.data()
)
def test_a_segment_in_ipv4_is_right_if_its_checksum_is(
    source: bytes, payload: bytes, seq: int, data: st.DataObject
) -> None:
    packet = build_tcp(source, b"\0\0\0\1", 0, 0, seq=seq, payload=payload)
    assert is_right_tcp4(b"before" + packet + b"behind", 6, 6 + len(packet))
    at = data.draw(st.integers(12, len(packet) - 1))
    value = data.draw(st.integers(0, 255))
    changed = packet[:at] + bytes([value]) + packet[at + 1 :]
    right = transport_checksum(changed[12:16], changed[16:20], 6, changed[20:]) == 0
    assert is_right_tcp4(changed, 0, len(changed)) is right
    assert is_right_tcp4(memoryview(bytearray(changed)), 0, len(changed)) is right
