"""The right appliance behind raw sockets, as a process: `python raw_server.py ADDRESS FAULT`.

With the fault "garbage-checksum" it leaves garbage in the checksum of a reply to what had one.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutants.right import GENEVE_PORT, Outer, Right


def main(address: str, fault: str) -> None:
    """Until it is killed."""
    right = Right()
    right.origins = "127."
    own = socket.inet_aton(address)
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, GENEVE_PORT))  # so that the kernel does not say that nobody listens
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    arrivals = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    arrivals.bind((address, 0))
    arrivals.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    departures = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    while True:
        packet, (node, _) = arrivals.recvfrom(65535)
        start = 4 * (packet[0] & 0x0F)
        port, to, _, checksum = struct.unpack_from(">HHHH", packet, start)
        if to != GENEVE_PORT:
            continue
        replies = right.receive(packet[start + 8 :], Outer(node, port, address), 0.0)
        wrong = 0xBAD if fault == "garbage-checksum" and checksum else 0
        for reply in replies:
            size = 8 + len(reply.payload)
            ends = own + socket.inet_aton(reply.destination[0])
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0, 64, 17, 0) + ends
            udp = struct.pack(">HHHH", reply.source[1], reply.destination[1], size, wrong)
            departures.sendto(head + udp + reply.payload, (reply.destination[0], 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
