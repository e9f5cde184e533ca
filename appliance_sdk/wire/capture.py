"""Capture files: pcap through dpkt, which only this module knows, and pcapng."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import dpkt

from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.wire.pcapng import SECTION_HEADER, read_pcapng

NULL, ETHERNET, RAW, LOOP, SLL, IPV4, IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
"""Link types (tcpdump.org/linktypes.html)."""

_RAW_ALIASES = frozenset((12, 14, RAW, IPV4, IPV6))
_ETHERTYPE_IP = frozenset((0x0800, 0x86DD))
_ETHERTYPE_VLAN = frozenset((0x8100, 0x88A8, 0x9100))
_MAX_VLAN_TAGS = 4
_NOT_A_CAPTURE = "give a pcap or pcapng file"


class Frame(NamedTuple):
    """One captured frame; the timestamp in seconds since the epoch."""

    timestamp: float
    linktype: int
    data: bytes


def read_capture(path: str | Path) -> Iterator[Frame]:
    """Every frame of a pcap (µs or ns, either byte order) or pcapng file, in file order.

    Raises ConfigError if there is no such file, if it is no capture, or if it is cut off or
    damaged behind the frames that were read.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed below, where the frames end)
    except OSError as error:
        raise ConfigError(str(error.strerror or error).lower(), path=str(path)) from None
    with file:
        magic = file.read(4)
        file.seek(0)
        frames = _read_pcapng(file) if magic == SECTION_HEADER else _read_pcap(file)
        count = 0
        try:
            for frame in frames:
                count += 1
                yield frame
        except GeneratorExit:
            raise
        except Exception as error:  # dpkt raises what it likes on damaged files
            if not count and magic != SECTION_HEADER and isinstance(error, ValueError):
                message = "is not a capture"
            else:
                message = f"is damaged after {count} frames: {error}"
            raise ConfigError(message, path=str(path), hint=_NOT_A_CAPTURE) from None


def _read_pcap(file: BinaryIO) -> Iterator[Frame]:
    reader = dpkt.pcap.Reader(file)
    linktype: int = reader.datalink() & 0xFFFF
    for timestamp, data in reader:
        yield Frame(float(timestamp), linktype, bytes(data))


def _read_pcapng(file: BinaryIO) -> Iterator[Frame]:
    for block in read_pcapng(file):
        yield Frame(*block)


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
        return _tagged(data, 14)
    if linktype == SLL2:
        if size < 20:
            raise MalformedPacket("truncated_link")
        if int.from_bytes(data[:2], "big") not in _ETHERTYPE_IP:
            raise MalformedPacket("not_ip")
        return 20, size
    raise MalformedPacket("unknown_link")


def _ethernet(data: bytes) -> tuple[int, int]:
    if len(data) < 14:
        raise MalformedPacket("truncated_link")
    return _tagged(data, 12)


def _tagged(data: bytes, at: int) -> tuple[int, int]:
    """Follow an EtherType, through VLAN tags, to IP."""
    for _ in range(_MAX_VLAN_TAGS + 1):
        if at + 2 > len(data):
            raise MalformedPacket("truncated_link")
        ethertype = int.from_bytes(data[at : at + 2], "big")
        if ethertype in _ETHERTYPE_IP:
            return at + 2, len(data)
        if ethertype not in _ETHERTYPE_VLAN:
            raise MalformedPacket("not_ip")
        at += 4
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
