"""Capture files: pcap through dpkt, which only this module knows, and pcapng."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import dpkt

from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.wire.pcapng import SECTION_HEADER, Readable, read_pcapng

NULL, ETHERNET, RAW, LOOP, SLL, IPV4, IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
"""Link types (tcpdump.org/linktypes.html)."""

_RAW_ALIASES = frozenset((12, 14, RAW, IPV4, IPV6))
_ETHERTYPE_IP = frozenset((0x0800, 0x86DD))
_ETHERTYPE_VLAN = frozenset((0x8100, 0x88A8, 0x9100))
_MAX_VLAN_TAGS = 4
_MAX_FRAME = 16 * 1024 * 1024
_HINT = "give a pcap or pcapng file"


class Frame(NamedTuple):
    """One captured frame; the timestamp in seconds since the epoch."""

    timestamp: float
    linktype: int
    data: bytes


def read_capture(path: str | Path) -> Iterator[Frame]:
    """Every frame of a pcap (µs or ns, either byte order) or pcapng file, in file order.

    Raises ConfigError if there is no such file, if it is no capture, or, behind the last whole
    frame, if the file is cut off or damaged there.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed below, where the frames end)
    except OSError as error:
        raise ConfigError(str(error.strerror or error).lower(), path=str(path)) from None
    with file:
        try:
            magic = file.read(4)
            again = _Again(magic, file)
            frames = _read_pcapng(again) if magic == SECTION_HEADER else _open_pcap(again)
        except OSError as error:
            raise ConfigError(str(error.strerror).lower(), path=str(path)) from None
        except Exception:  # dpkt raises what it likes
            raise ConfigError("is not a capture", path=str(path), hint=_HINT) from None
        count = 0
        while True:
            try:
                frame = next(frames, None)
            except Exception as error:
                message = f"is damaged after {count} frames: {error}"
                raise ConfigError(message, path=str(path)) from None
            if frame is None:
                return
            count += 1
            yield frame


class _Again:
    """A file of which the first bytes were read already: a pipe cannot go back."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._file = file

    def read(self, size: int) -> bytes:
        if not self._start:
            return self._file.read(size)
        start, self._start = self._start[:size], self._start[size:]
        return start + self._file.read(size - len(start))


class _Whole:
    """A file for dpkt, which takes what is left of a cut-off packet for the whole packet."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.at_end = False

    def read(self, size: int) -> bytes:
        if size > _MAX_FRAME:
            raise ValueError(f"a frame of {size} bytes")
        data = self._file.read(size)
        self.at_end = len(data) < size
        if data and self.at_end:
            raise ValueError("the last frame is cut off")
        return data


def _open_pcap(file: Readable) -> Iterator[Frame]:
    whole = _Whole(file)
    return _read_pcap(dpkt.pcap.Reader(whole), whole)


def _read_pcap(reader: dpkt.pcap.Reader, whole: _Whole) -> Iterator[Frame]:
    linktype: int = reader.datalink() & 0xFFFF
    for timestamp, data in reader:
        if whole.at_end:  # right behind the frame's header
            raise ValueError("the last frame is cut off")
        yield Frame(float(timestamp), linktype, data)


def _read_pcapng(file: Readable) -> Iterator[Frame]:
    for block in read_pcapng(file):
        yield Frame(block.timestamp, block.linktype, block.data)


def inner_packet(frame: Frame) -> tuple[int, int]:
    """Start and end of the IP packet in a frame. Raises MalformedPacket."""
    data, linktype = frame.data, frame.linktype
    size = len(data)
    if linktype in _RAW_ALIASES:
        return _ip(data, 0)
    if linktype == ETHERNET:
        return _ethernet(data)
    if linktype in (NULL, LOOP):
        if size < 4:
            raise MalformedPacket("truncated_link")
        return _ip(data, 4)
    if linktype == SLL:
        if size < 16:
            raise MalformedPacket("truncated_link")
        return _tagged(data, 14, 16)
    if linktype == SLL2:
        if size < 20:
            raise MalformedPacket("truncated_link")
        return _tagged(data, 0, 20)
    raise MalformedPacket("unknown_link")


def _ethernet(data: bytes) -> tuple[int, int]:
    if len(data) < 14:
        raise MalformedPacket("truncated_link")
    return _tagged(data, 12, 14)


def _tagged(data: bytes, at: int, after: int) -> tuple[int, int]:
    """Follow the EtherType at `at` to IP, through the VLAN tags at `after`, if there are any."""
    for _ in range(_MAX_VLAN_TAGS + 1):
        ethertype = int.from_bytes(data[at : at + 2], "big")
        if ethertype in _ETHERTYPE_IP:
            return after, len(data)
        if ethertype not in _ETHERTYPE_VLAN:
            raise MalformedPacket("not_ip")
        at, after = after + 2, after + 4
        if after > len(data):
            raise MalformedPacket("truncated_link")
    raise MalformedPacket("not_ip")


def _ip(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] >> 4 not in (4, 6):
        raise MalformedPacket("not_ip")
    return at, len(data)


class CaptureWriter:
    """Writes a pcap file (µs) of raw IP packets, or of frames of another link type."""

    def __init__(self, path: str | Path, linktype: int = RAW) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115 (closed by close)
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype))

    def write(self, timestamp: float, packet: bytes) -> None:
        """Append one packet."""
        micros = round(timestamp * 1_000_000)
        seconds, micros = divmod(micros, 1_000_000)
        size = len(packet)
        self._file.write(struct.pack("<IIII", seconds, micros, size, size) + packet)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
