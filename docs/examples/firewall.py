"""A firewall without the SDK, on Python's library alone, that has the conformance suite's policy.

    appliance conformance run --profile transport,flow,firewall --features firewall-features.toml \\
        --exec 'python3 firewall.py {address} {health_port}'
"""

import ipaddress
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
NUMBERS = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMPV6)}
FIN, SYN, RST, ACK = 1, 2, 4, 16
ANSWERS, QUESTIONS = {ICMP: 0, ICMPV6: 129}, {ICMP: 8, ICMPV6: 128}
ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
NEXT_HEADERS = (0, 43, 60)
OPTIONS = {1: 8, 2: 8, 3: 4}
"""The lengths of AWS's: endpoint, attachment, cookie."""


class Unreadable(Exception):
    """Not a packet that can be judged: dropped."""


def read_geneve(datagram: bytes) -> tuple[int, bytes]:
    """Where the inner packet begins, and the GWLB endpoint (RFC 8926 §3.4-3.5, AWS's options).

    Raises Unreadable or struct.error.
    """
    first, flags, ethertype = struct.unpack_from(">BBH", datagram)
    end, at = 8 + (first & 63) * 4, 8
    if first >> 6 or flags & 0x80 or len(datagram) <= end:
        raise Unreadable
    if ethertype != {4: 0x0800, 6: 0x86DD}.get(datagram[end] >> 4):
        raise Unreadable
    found: dict[int, bytes] = {}
    while at < end:
        kind, number, words = struct.unpack_from(">HBB", datagram, at)
        data = datagram[at + 4 : at + 4 + (words & 31) * 4]
        at += 4 + (words & 31) * 4
        if number & 0x80:  # critical, and AWS has none that are
            raise Unreadable
        if kind != 0x0108 or number not in OPTIONS:
            continue
        if len(data) != OPTIONS[number] or found.setdefault(number, data) != data:
            raise Unreadable
    if at != end or found.keys() != OPTIONS.keys():
        raise Unreadable
    return end, found[1]


class Packet:
    """One inner packet. Raises Unreadable or struct.error."""

    def __init__(self, data: bytes, *, quoted: bool = False) -> None:
        self.version = data[0] >> 4
        if self.version == 4:
            at, length, self.protocol = (data[0] & 15) * 4, *struct.unpack_from(">2xH5xB", data)
            self.ends = data[12:16], data[16:20]
            fragment = struct.unpack_from(">H", data, 6)[0] & 0x3FFF
        elif self.version == 6:
            at, length, self.protocol = 40, *struct.unpack_from(">4xHB", data)
            length, fragment = length + 40, 0
            self.ends = data[8:24], data[24:40]
            while self.protocol in NEXT_HEADERS:
                self.protocol, at = data[at], at + (data[at + 1] + 1) * 8
        else:
            raise Unreadable
        if fragment or self.protocol == 44 or at < 20 or (length > len(data) and not quoted):
            raise Unreadable
        if length > 8500:
            raise Unreadable
        self.header, self.data = at, data[:length]
        rest = self.data[at:]
        self.ports, self.flags, self.kind = (0, 0), 0, -1
        if self.protocol in (TCP, UDP):
            self.ports = struct.unpack_from(">HH", rest)
            if not quoted and len(rest) < (20 if self.protocol == TCP else 8):
                raise Unreadable
        if self.protocol == TCP and not quoted:
            self.seq, self.ack, offset, self.flags = struct.unpack_from(">4xIIBB", rest)
            self.size = len(rest) - offset // 16 * 4
            if offset < 80 or self.size < 0:
                raise Unreadable
        if self.protocol in ANSWERS:
            self.kind = rest[0]

    def key(self, endpoint: bytes, *, turned: bool = False) -> tuple[object, ...]:
        """Its flow, in its direction or the other one."""
        step = -1 if turned else 1
        return endpoint, self.protocol, *self.ends[::step], *self.ports[::step]


class Policy:
    """Ordered rules, as in policy.txt."""

    def __init__(self, path: Path) -> None:
        lines = (line.split() for line in path.read_text().splitlines())
        self.rules = [
            (action, NUMBERS.get(protocol), network(source), network(destination), port, endpoint)
            for action, protocol, source, destination, port, endpoint, _ in filter(_is_rule, lines)
        ]

    def action(self, packet: Packet, endpoint: bytes) -> str:
        """What becomes of a flow that this packet opens."""
        source, destination = (ipaddress.ip_address(end) for end in packet.ends)
        name = f"vpce-{endpoint.hex():0>17}"
        for action, protocols, sources, destinations, port, where in self.rules:
            if (
                (protocols is None or packet.protocol in protocols)
                and (sources is None or source in sources)
                and (destinations is None or destination in destinations)
                and (port == "any" or packet.ports[1] == int(port))
                and where in ("any", name)
            ):
                return action
        return "drop"


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A network of a rule, None for any."""
    return None if text == "any" else ipaddress.ip_network(text)


def _is_rule(words: list[str]) -> bool:
    return bool(words) and not words[0].startswith("#")


class Firewall:
    """Flows that were allowed, and what is to be done with packets."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.flows: dict[tuple[object, ...], float] = {}

    def judge(self, packet: Packet, endpoint: bytes) -> str:
        """allow, drop or reject."""
        now = time.monotonic()
        own, other = packet.key(endpoint), packet.key(endpoint, turned=True)
        if packet.kind in ERRORS.get(packet.protocol, ()):
            quoted = Packet(packet.data[packet.header + 8 :], quoted=True)
            known = (
                quoted.key(endpoint) in self.flows
                or quoted.key(endpoint, turned=True) in self.flows
            )
            return "allow" if known and quoted.ends[0] == packet.ends[1] else "drop"
        opens = packet.flags & (SYN | ACK | RST | FIN) == SYN
        if packet.protocol in ANSWERS:
            if packet.kind == ANSWERS[packet.protocol]:
                return "allow" if self.live(other, now) else "drop"
            opens = packet.kind == QUESTIONS[packet.protocol]
            if not opens:
                return "drop"
        elif packet.protocol != TCP:
            opens = True
        if not opens or packet.protocol == UDP:
            for key in (own, other):
                if self.live(key, now):
                    return "allow"
        action = self.policy.action(packet, endpoint)
        if not opens and packet.protocol == TCP and action == "allow":
            return "drop"  # the beginning of this connection was not seen
        if action == "allow":
            self.flows[own] = now
        return action

    def live(self, key: tuple[object, ...], now: float) -> bool:
        """Whether the flow was allowed, and has not been silent for too long."""
        if now - self.flows.get(key, -1e9) > (350 if key[1] == TCP else 120):
            self.flows.pop(key, None)
            return False
        self.flows[key] = now
        return True


def checksum(data: bytes) -> bytes:
    """The Internet checksum."""
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return (~(number % 0xFFFF or (0xFFFF if number else 0)) & 0xFFFF).to_bytes(2, "big")


def ip(packet: Packet, protocol: int, body: bytes, at: int) -> bytes:
    """A packet back to the sender; the body's checksum belongs at `at`."""
    source, destination = packet.ends[::-1]
    pseudo = source + destination + struct.pack(">IHH", len(body), 0, protocol)
    covered = body if protocol == ICMP else pseudo + body
    body = body[:at] + checksum(covered) + body[at + 2 :]
    if packet.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(body), protocol, 64)
        return head + source + destination + body
    head = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(body), 0, 64, protocol, 0)
    head += source + destination
    return head[:10] + checksum(head) + head[12:] + body


def refusal(packet: Packet) -> bytes:
    """What tells the sender: a RST (RFC 9293 §3.10.7.1) or an ICMP error; b"" if nobody may be
    told."""
    target = ipaddress.ip_address(packet.ends[1])
    if target.is_multicast or target == ipaddress.ip_address("255.255.255.255"):
        return b""
    if packet.protocol == TCP:
        if packet.flags & RST:
            return b""
        ends = packet.ports[::-1]
        seq, ack, flags = packet.ack, 0, RST
        if not packet.flags & ACK:
            taken = packet.size + bool(packet.flags & SYN) + bool(packet.flags & FIN)
            seq, ack, flags = 0, (packet.seq + taken) & 0xFFFFFFFF, RST | ACK
        return ip(packet, TCP, struct.pack(">HHIIBBHHH", *ends, seq, ack, 80, flags, 0, 0, 0), 16)
    if packet.protocol != UDP:
        return b""
    if packet.version == 4:
        return ip(packet, ICMP, struct.pack(">BBHI", 3, 13, 0, 0) + packet.data[:548], 2)
    return ip(packet, ICMPV6, struct.pack(">BBHI", 1, 1, 0, 0) + packet.data[:1232], 2)


def main(address: str, health_port: int) -> None:
    """Serve until the end."""
    firewall = Firewall(Policy(Path(os.environ["CONFORMANCE_POLICY"]).with_name("policy.txt")))
    geneve = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    geneve.bind((address, 6081))
    health = socket.create_server((address, health_port))
    ports = {6081: geneve}
    while True:
        ready, _, _ = select.select([geneve, health], [], [])
        if health in ready:
            health.accept()[0].close()
        if geneve not in ready:
            continue
        datagram, (node, port) = geneve.recvfrom(65535)
        try:
            start, endpoint = read_geneve(datagram)
            packet = Packet(datagram[start:])
            action = firewall.judge(packet, endpoint)
        except (Unreadable, struct.error, IndexError):
            continue
        answer = datagram if action == "allow" else b""
        if action == "reject" and (told := refusal(packet)):
            answer = datagram[:start] + told
        if answer:
            if port not in ports:
                ports[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                ports[port].bind((address, port))
            ports[port].sendto(answer, (node, 6081))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
