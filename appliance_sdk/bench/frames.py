"""What the load balancer would send, in Python: byte for byte what helper/frames.h makes."""

from __future__ import annotations

import socket

from appliance_sdk.bench.load import APPLIANCE_MAC, NODE, NODE_MAC, Load
from appliance_sdk.errors import HarnessError
from appliance_sdk.wire.build import build_ip, build_tcp, build_udp
from appliance_sdk.wire.geneve import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PORT, build_geneve
from appliance_sdk.wire.packet import ACK, PSH, SYN, UDP

INNER = 82
"""Where the inner packet begins: Ethernet, IPv4, UDP and GENEVE with 32 bytes of options."""
GENEVE_AT = 42
MARK_BYTES = 16
"""Number and time, at the beginning of the payload."""
HANDSHAKE = 3
_FIRST_PORT, _PORTS = 20000, 40000
_ENDPOINT, _ATTACHMENT = 0x0A1B2C3D4E5F6000, 0xA77AC4ED00000001
_WINDOW = 65000
_MASK = 0xFFFFFFFF


class Frames:
    """Frame n is a function of n: that of flow n % flows in round n // flows."""

    def __init__(self, load: Load, appliance: str = "10.200.1.1") -> None:
        """For an appliance at this address. Raises HarnessError if the size is too small."""
        self.load = load
        self._appliance = socket.inet_aton(appliance)
        self._node = socket.inet_aton(NODE)
        self._ethernet = _mac(APPLIANCE_MAC) + _mac(NODE_MAC) + b"\x08\x00"
        self._headers = (40 if load.ipv6 else 20) + (20 if load.tcp else 8)
        self.mark_at = INNER + self._headers
        """Where number and time stand in a frame."""
        room = load.size - self._headers - MARK_BYTES
        if room < 0:
            message = f"{load.size} bytes have no room for the headers, a number and a time"
            raise HarnessError(message)
        self._filler = bytes((i * 7 + 3) & 0xFF for i in range(room))

    def place(self, number: int) -> tuple[int, int]:
        """Flow and round of a frame."""
        flows = self.load.flows
        return (number % flows, number // flows) if flows else (number, 0)

    def datagram(self, number: int, time_ns: int = 0) -> tuple[int, bytes]:
        """Source port and UDP payload."""
        flow, turn = self.place(number)
        kind = ETHERTYPE_IPV6 if self.load.ipv6 else ETHERTYPE_IPV4
        cookie = (self.load.epoch << 26 ^ flow) & _MASK
        header = build_geneve(
            _ENDPOINT + flow % 4, cookie, attachment_id=_ATTACHMENT, ethertype=kind
        )
        mark = number.to_bytes(8, "big") + time_ns.to_bytes(8, "big")
        packet = self._packet(flow, turn, mark + self._filler)
        return _FIRST_PORT + flow % _PORTS, header + packet

    def frame(self, number: int, time_ns: int = 0) -> bytes:
        """The whole frame, from GWLB's node to the appliance."""
        return self._frame(number, time_ns, self._node, self._appliance)

    def reply(self, number: int, time_ns: int, sender: bytes) -> bytes:
        """The frame as it must come back from a MAC address, without a UDP checksum."""
        back = self._frame(number, time_ns, self._appliance, self._node)
        return _mac(NODE_MAC) + sender + back[12:]

    def _frame(self, number: int, time_ns: int, source: bytes, destination: bytes) -> bytes:
        port, payload = self.datagram(number, time_ns)
        udp = port.to_bytes(2, "big") + PORT.to_bytes(2, "big")
        udp += (8 + len(payload)).to_bytes(2, "big") + b"\0\0"
        return self._ethernet + build_ip(source, destination, UDP, udp + payload, ttl=254)

    def _packet(self, flow: int, turn: int, payload: bytes) -> bytes:
        load = self.load
        client = 0x0A000002 + flow
        server = 0xAC100001 + ((load.epoch & 0xFFF) << 8) + (flow & 7)
        ends = [(_address(client, 1, load.ipv6), 1024 + flow * 7 % 60000)]
        ends.append((_address(server, 2, load.ipv6), 8443))
        if turn & 1 and not load.one_way:
            ends.reverse()
        (source, source_port), (destination, destination_port) = ends
        if not load.tcp:
            return build_udp(
                source, destination, source_port, destination_port, payload=payload, ttl=63
            )
        seq, ack, flags = _numbers(flow, turn, load.size - self._headers)
        return build_tcp(
            source,
            destination,
            source_port,
            destination_port,
            seq=seq,
            ack=ack,
            flags=flags,
            window=_WINDOW,
            payload=payload if turn >= HANDSHAKE else b"",
            ttl=63,
        )


def _numbers(flow: int, turn: int, length: int) -> tuple[int, int, int]:
    """SEQ, ACK and flags: a handshake, then server and client say `length` bytes in turn."""
    client = (0x10000000 + flow * 7919) & _MASK
    server = client ^ 0x55AA0000
    if turn == 0:
        return client, 0, SYN
    if turn == 1:
        return server, client + 1, SYN | ACK
    if turn == 2:
        return client + 1, server + 1, ACK
    if turn & 1:
        said = length * ((turn - 3) // 2)
        return server + 1 + said, client + 1 + said, PSH | ACK
    said = length * ((turn - 4) // 2)
    return client + 1 + said, server + 1 + said + length, PSH | ACK


def _address(number: int, network: int, ipv6: bool) -> bytes:
    if not ipv6:
        return number.to_bytes(4, "big")
    return (0xFD00000000000000 | network).to_bytes(8, "big") + number.to_bytes(8, "big")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
