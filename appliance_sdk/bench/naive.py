"""The yardstick: what a plain Python loop makes of the task, with nothing that is not needed.

    python -m appliance_sdk.bench.naive ADDRESS

`recvfrom_into`, one dictionary look-up, one counter, raw `sendto`. It believes every header.
"""

from __future__ import annotations

import socket
import struct
import sys

from appliance_sdk.dataplane.addresses import RECEIVE_BUFFER_BYTES, set_buffer
from appliance_sdk.wire.geneve import PORT

_HEADERS = 28  # IPv4 and UDP
_KEY = slice(_HEADERS + 40 + 12, _HEADERS + 40 + 24)  # addresses and ports of the inner packet
_LARGEST = 9216


def main(address: str) -> None:
    """Answer whatever comes, for ever."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    set_buffer(listener, receive_bytes=RECEIVE_BUFFER_BYTES)
    listener.bind((address, PORT))
    replies = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    set_buffer(replies, send_bytes=RECEIVE_BUFFER_BYTES)
    memory = bytearray(_HEADERS + _LARGEST)
    memory[0], memory[8], memory[9] = 0x45, 64, socket.IPPROTO_UDP
    view = memoryview(memory)
    room = view[_HEADERS:]
    local, aton, put = socket.inet_aton(address), socket.inet_aton, struct.Struct(">4s4sHHHH")
    receive, send, write = listener.recvfrom_into, replies.sendto, put.pack_into
    flows: dict[bytes, list[int]] = {}
    get = flows.get
    while True:
        length, (ip, port) = receive(room)
        key = bytes(view[_KEY])
        flow = get(key)
        if flow is None:
            flow = flows[key] = [0]
        flow[0] += 1
        write(memory, 12, local, aton(ip), port, PORT, length + 8, 0)
        send(view[: _HEADERS + length], (ip, 0))


if __name__ == "__main__":
    main(sys.argv[1])
