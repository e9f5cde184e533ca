"""Answers GENEVE as the naive loop does, but for one fault in every fifth packet.

python wrong_appliance.py FAULT ADDRESS
"""

from __future__ import annotations

import itertools
import socket
import struct
import sys
from collections.abc import Callable

PORT = 6081


def replace(at: int) -> Callable[[bytearray], None]:
    """Another byte here, counted from the outer IPv4 header."""

    def fault(datagram: bytearray) -> None:
        datagram[at] ^= 0x40

    return fault


def swap_ports(datagram: bytearray) -> None:
    datagram[20:24] = datagram[22:24] + datagram[20:22]


def shorten(datagram: bytearray) -> None:
    del datagram[-4:]
    datagram[24:26] = (len(datagram) - 20).to_bytes(2, "big")


def bad_checksum(datagram: bytearray) -> None:
    datagram[26:28] = b"\x12\x34"


FAULTS: dict[str, Callable[[bytearray], None]] = {
    "none": lambda datagram: None,
    "twice": lambda datagram: None,
    "silent": lambda datagram: None,
    "ports": swap_ports,
    "short": shorten,
    "checksum": bad_checksum,
    "geneve": replace(28 + 1),
    "endpoint": replace(28 + 14),
    "attachment": replace(28 + 26),
    "cookie": replace(28 + 38),
    "inner-address": replace(28 + 40 + 13),
    "inner-port": replace(28 + 40 + 21),
    "number": replace(28 + 40 + 28 + 6),
    "payload": replace(28 + 40 + 28 + 100),
}


def main(name: str, address: str) -> None:
    fault = FAULTS[name]
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    listener.bind((address, PORT))
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    local = socket.inet_aton(address)
    for number in itertools.count():
        payload, (ip, port) = listener.recvfrom(65536)
        head = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, local, socket.inet_aton(ip)
        )
        udp = struct.pack(">HHHH", port, PORT, 8 + len(payload), 0)
        datagram = bytearray(head + udp + payload)
        times = 1
        if number % 5 == 0:
            fault(datagram)
            times = {"twice": 2, "silent": 0}.get(name, 1)
        for _ in range(times):
            raw.sendto(datagram, (ip, 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
