"""pcapng: several interfaces with their own link types and clocks, several sections, damage."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import ConfigError
from appliance_sdk.wire.capture import ETHERNET, RAW, Frame, read_capture
from appliance_sdk.wire.pcapng import Block, read_pcapng


class Writer:
    """Writes blocks of one byte order."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.out = b""

    def block(self, kind: int, body: bytes) -> Writer:
        body += bytes(-len(body) % 4)
        size = struct.pack(self.order + "I", len(body) + 12)
        self.out += struct.pack(self.order + "I", kind) + size + body + size
        return self

    def section(self) -> Writer:
        return self.block(0x0A0D0D0A, struct.pack(self.order + "IHHq", 0x1A2B3C4D, 1, 0, -1))

    def option(self, code: int, value: bytes) -> bytes:
        return struct.pack(self.order + "HH", code, len(value)) + value + bytes(-len(value) % 4)

    def interface(self, linktype: int, *, snaplen: int = 0, options: bytes = b"") -> Writer:
        return self.block(1, struct.pack(self.order + "HHI", linktype, 0, snaplen) + options)

    def packet(self, interface: int, ticks: int, data: bytes) -> Writer:
        size = len(data)
        fields = (interface, ticks >> 32, ticks & 0xFFFFFFFF, size, size + 100)
        comment = self.option(1, b"seen on the wire") + bytes(4)
        padded = data + bytes(-size % 4)
        return self.block(6, struct.pack(self.order + "IIIII", *fields) + padded + comment)


def read_all(data: bytes) -> list[Block]:
    return list(read_pcapng(io.BytesIO(data)))


def read(data: bytes) -> list[tuple[float, int, bytes]]:
    return [(block.timestamp, block.linktype, block.data) for block in read_all(data)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_each_interface_has_its_own_link_type_and_clock(tmp_path: Path, order: str) -> None:
    w = Writer(order).section()
    w.interface(ETHERNET)  # µs, the default
    w.interface(RAW, options=w.option(2, b"eth0") + w.option(9, b"\x09") + bytes(4))  # ns
    w.interface(113, options=w.option(9, b"\x94"))  # 2^-20 s
    w.interface(RAW, options=w.option(9, b"\x03") + w.option(14, struct.pack(order + "q", -50)))
    w.packet(0, 1_000_250_000, b"a").packet(1, 1_000_250_000_000, b"bb")
    w.packet(2, 1000 << 20 | 1 << 18, b"ccc").packet(3, 1_050_250, b"").packet(0, 7, b"fifth")
    path = tmp_path / "a.pcapng"
    path.write_bytes(w.out)
    assert list(read_capture(path)) == [
        Frame(1000.25, ETHERNET, b"a"),
        Frame(1000.25, RAW, b"bb"),
        Frame(1000.25, 113, b"ccc"),
        Frame(1000.25, RAW, b""),
        Frame(7e-6, ETHERNET, b"fifth"),
    ]


def test_nanoseconds_of_our_days_are_as_right_as_a_float_can_be() -> None:
    w = Writer().section().interface(RAW, options=Writer().option(9, b"\x09"))
    (frame,) = read_all(w.packet(0, 1_700_000_000_123_456_789, b"").out)
    assert frame.timestamp == 1_700_000_000.123456789


def test_a_new_section_begins_with_no_interfaces_and_its_own_byte_order() -> None:
    first = Writer("<").section().interface(ETHERNET).packet(0, 1_000_000, b"one")
    second = Writer(">").section().interface(RAW).packet(0, 2_000_000, b"two")
    assert read(first.out + second.out) == [(1.0, ETHERNET, b"one"), (2.0, RAW, b"two")]
    orphan = Writer("<").section().packet(0, 0, b"three")
    with pytest.raises(ValueError, match="interface 0, which is not described"):
        read(first.out + orphan.out)


def test_blocks_without_packets_are_skipped() -> None:
    w = Writer().section().interface(RAW)
    w.block(4, b"names").block(5, bytes(12)).block(0x80000000 | 77, b"somebody's own")
    assert read(w.packet(0, 0, b"x").out) == [(0.0, RAW, b"x")]


@pytest.mark.parametrize("order", ["<", ">"])
def test_names_of_interfaces_and_comments_of_packets(order: str) -> None:
    w = Writer(order).section()
    w.interface(RAW, options=w.option(3, b"the one outside") + w.option(2, b"igw"))
    w.interface(RAW, options=w.option(2, b"\xff"))
    w.packet(0, 0, b"abcde").packet(1, 0, b"")
    size = struct.pack(order + "IIIII", 0, 0, 0, 1, 1)
    w.block(6, size + b"x\0\0\0" + w.option(1, b"one") + w.option(2, b"1234") + w.option(1, b"two"))
    w.block(
        6, size + b"y\0\0\0" + w.option(1, b"whole") + struct.pack(order + "HH", 1, 99) + b"cut"
    )
    w.block(3, struct.pack(order + "I", 1) + b"z\0\0\0")
    told = [(block.interface, block.comments) for block in read_all(w.out)]
    seen = ("seen on the wire",)
    assert told == [
        ("igw", seen),
        ("\ufffd", seen),
        ("igw", ("one", "two")),
        ("igw", ("whole",)),
        ("igw", ()),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_old_packet_blocks(order: str) -> None:
    w = Writer(order).section().interface(ETHERNET).interface(RAW)
    w.block(2, struct.pack(order + "HHIIII", 1, 0xFFFF, 0, 1_500_000, 3, 3) + b"old")
    assert read(w.out) == [(1.5, RAW, b"old")]


def test_simple_packets_have_no_time_and_the_snapshot_length_of_the_first_interface() -> None:
    w = Writer().section().interface(RAW, snaplen=5).interface(ETHERNET)
    w.block(3, struct.pack("<I", 3) + b"abc").block(3, struct.pack("<I", 900) + b"abcde")
    assert read(w.out) == [(0.0, RAW, b"abc"), (0.0, RAW, b"abcde")]
    with pytest.raises(ValueError, match="without an interface"):
        read(Writer().section().block(3, struct.pack("<I", 3) + b"abc").out)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (struct.pack("<II", 6, 8), "a block of 8 bytes"),
        (struct.pack("<II", 6, 0), "a block of 0 bytes"),
        (struct.pack("<II", 6, 33), "a block of 33 bytes"),
        (struct.pack("<II", 6, 0xFFFFFFFC), "a block of 4294967292 bytes"),
        (struct.pack("<II", 6, 100) + bytes(10), "cut off"),
        (b"\x06\0\0", "cut off"),
        (Writer().block(6, bytes(16)).out, "cut off"),
        (Writer().block(1, bytes(4)).out, "cut off"),
        (Writer().block(0x0A0D0D0A, b"nonsense" * 2).out, "magic number"),
        (Writer().block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + b"abc").out, "its block"),
        (Writer().block(6, struct.pack("<IIIII", 1, 0, 0, 0, 0)).out, "interface 1"),
    ],
)
def test_damage_is_told_behind_the_frames_before_it(
    tmp_path: Path, damage: bytes, message: str
) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(Writer().section().interface(RAW).packet(0, 0, b"good").out + damage)
    reader = read_capture(path)
    assert next(reader).data == b"good"
    with pytest.raises(ConfigError, match="is damaged after 1 frames") as caught:
        next(reader)
    assert message in caught.value.message


def test_a_file_cut_anywhere_gives_its_whole_frames() -> None:
    w = Writer().section().interface(RAW)
    borders = [0, 28, len(w.out)]
    for size in (0, 1, 60):
        borders.append(len(w.packet(0, 0, b"x" * size).out))
    for cut in range(len(w.out)):
        frames = read_pcapng(io.BytesIO(w.out[:cut]))
        for _ in range(sum(border <= cut for border in borders) - 3):
            assert set(next(frames).data) <= {ord("x")}
        if cut in borders:
            assert not list(frames)
        else:
            with pytest.raises(ValueError, match="cut off"):
                next(frames)


GOOD = (
    Writer()
    .section()
    .interface(RAW, options=Writer().option(9, b"\x09"))
    .packet(0, 5, b"abcdefgh")
    .block(3, struct.pack("<I", 3) + b"abc")
    .out
)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6))
def test_any_damage_gives_frames_or_an_error_of_the_format(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    try:
        frames = read_all(bytes(data))
    except ValueError as error:
        assert str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert sum(len(frame.data) for frame in frames) <= len(data)
