"""Plays a Gateway Load Balancer against any appliance on loopback and checks every answer.

It shares no code with the project, so that a misreading there is not repeated here; it knows what
AWS documents and what others have observed:

* Outer IPv4/UDP from (node, S) to (appliance, 6081); the answer comes from (appliance, S) to
  (node, 6081): addresses swapped, ports kept.
* GENEVE header of 40 bytes (RFC 8926): options of class 0x0108, type 1 endpoint (8 bytes), type 2
  attachment (8), type 3 flow cookie (4); the same bytes in the answer.
* The inner packet, IPv4 or IPv6 and at most 8,500 bytes, comes back as it was sent.
* Both directions of a flow use the same S and cookie; S and the node may change during its life.

    python independent_sender.py --target 127.20.0.2 --nodes 127.20.0.11,127.20.0.12

Prints one JSON object, exits with 0 if every packet came back right.
"""

from __future__ import annotations

import argparse
import array
import collections
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

GENEVE_PORT = 6081
MAX_INNER = 8500
WINDOW = 48  # datagrams without an answer: some 800 kB of the appliance's receive buffer at most
SYN, ACK, PSH, FIN = 2, 16, 8, 1
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58


@dataclass
class Result:
    """What came of it. All lists empty and `answered == sent`: the appliance is right."""

    sent: int = 0
    answered: int = 0
    flows: int = 0
    ports: int = 0
    largest: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(text)

    @property
    def right(self) -> bool:
        return not self.wrong and self.answered == self.sent


def ones_complement(data: bytes) -> int:
    words = array.array("H", data + b"\0" if len(data) % 2 else data)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return socket.ntohs(~total & 0xFFFF)


def ip(source: bytes, destination: bytes, protocol: int, payload: bytes, ident: int) -> bytes:
    if len(source) == 16:
        head = struct.pack(">IHBB", 6 << 28 | ident & 0xFFFFF, len(payload), protocol, 60)
        return head + source + destination + payload
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, 0, 60, protocol, 0, source, destination
    )
    return head[:10] + struct.pack(">H", ones_complement(head)) + head[12:] + payload


def with_checksum(
    source: bytes, destination: bytes, protocol: int, segment: bytes, at: int
) -> bytes:
    if protocol == ICMP:
        pseudo = b""
    elif len(source) == 16:
        pseudo = source + destination + struct.pack(">IxxxB", len(segment), protocol)
    else:
        pseudo = source + destination + struct.pack(">xBH", protocol, len(segment))
    total = struct.pack(">H", ones_complement(pseudo + segment) or 0xFFFF)
    return segment[:at] + total + segment[at + 2 :]


class Conversation:
    """One flow: an endless conversation of two ends through one endpoint."""

    def __init__(self, number: int, dice: random.Random, ports: list[int], nodes: list[str]):
        self.dice = dice
        self.nodes, self.ports = nodes, ports
        self.node, self.port = dice.choice(nodes), ports[number % len(ports)]
        six = number % 3 == 2
        self.protocol = (TCP, TCP, UDP, ICMP)[number % 4]
        if six:
            if self.protocol == ICMP:
                self.protocol = ICMP6
            client = bytes.fromhex("20010db8000000000000") + struct.pack(">HI", 1, number + 1)
            server = bytes.fromhex("20010db8000000000000") + struct.pack(">HI", 2, number % 7)
        else:
            client = struct.pack(">BBH", 203, number >> 16 & 0xFF, number & 0xFFFF)
            server = struct.pack(">BBBB", 10, 0, 1, 10 + number % 7)
        self.ends = client, server
        self.client_port = dice.randrange(1024, 65536)
        self.server_port = dice.choice((22, 53, 80, 443, 8080))
        self.seq = [dice.getrandbits(32), dice.getrandbits(32)]
        ethertype = 0x86DD if six else 0x0800
        endpoint = 0xA1B2C3D4E5F60700 + number % 5
        attachment = dice.choice((0, 0, 0, 0x1234567890ABCDEF))
        # Two flows may share a port, even a cookie of another endpoint; no endpoint has one twice.
        cookie = (0xDEAD0000 + number) & 0xFFFFFFFF
        self.header = (
            struct.pack(">BBHI", 8, 0, ethertype, 0)
            + struct.pack(">HBBQ", 0x0108, 1, 2, endpoint)
            + struct.pack(">HBBQ", 0x0108, 2, 2, attachment)
            + struct.pack(">HBBI", 0x0108, 3, 1, cookie)
        )
        assert len(self.header) == 40
        self.steps = self._talk()

    def move(self) -> None:
        """What a node replacement does to a living flow."""
        self.node, self.port = self.dice.choice(self.nodes), self.dice.choice(self.ports)

    def _room(self) -> int:
        headers = (40 if len(self.ends[0]) == 16 else 20) + (20 if self.protocol == TCP else 8)
        kind = self.dice.random()
        if kind < 0.05:
            return MAX_INNER - headers
        if kind < 0.15:
            return self.dice.randrange(1400, MAX_INNER - headers + 1)
        return self.dice.randrange(1460)

    def _talk(self) -> Iterator[bytes]:
        if self.protocol == TCP:
            yield self._tcp(0, SYN, b"")
            yield self._tcp(1, SYN | ACK, b"")
            yield self._tcp(0, ACK, b"")
        while True:
            way = self.dice.randrange(2)
            data = self.dice.randbytes(self._room())
            if self.protocol == TCP:
                yield self._tcp(way, ACK | PSH, data)
                yield self._tcp(1 - way, ACK, b"")
            elif self.protocol == UDP:
                yield self._udp(way, data)
            else:
                yield self._echo(way, data)

    def _packet(self, way: int, protocol: int, segment: bytes, at: int) -> bytes:
        source, destination = self.ends[way], self.ends[1 - way]
        segment = with_checksum(source, destination, protocol, segment, at)
        ident = self.dice.getrandbits(16)
        return self.header + ip(source, destination, protocol, segment, ident)

    def _end_ports(self, way: int) -> tuple[int, int]:
        ports = self.client_port, self.server_port
        return ports[way], ports[1 - way]

    def _tcp(self, way: int, flags: int, data: bytes) -> bytes:
        seq, ack = self.seq[way], self.seq[1 - way] if flags & ACK else 0
        self.seq[way] = (seq + len(data) + (flags & SYN > 0)) & 0xFFFFFFFF
        head = struct.pack(">HHIIBBHHH", *self._end_ports(way), seq, ack, 0x50, flags, 65535, 0, 0)
        return self._packet(way, TCP, head + data, 16)

    def _udp(self, way: int, data: bytes) -> bytes:
        head = struct.pack(">HHHH", *self._end_ports(way), 8 + len(data), 0)
        return self._packet(way, UDP, head + data, 6)

    def _echo(self, way: int, data: bytes) -> bytes:
        kind = (8, 0) if self.protocol == ICMP else (128, 129)
        head = struct.pack(">BBHHH", kind[way], 0, 0, 77, self.dice.getrandbits(16))
        return self._packet(way, self.protocol, head + data, 2)


class Node:
    """One GWLB node: a socket that hears answers, one more for each source port."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.hears = self._bound(GENEVE_PORT)
        self.senders: dict[int, socket.socket] = {GENEVE_PORT: self.hears}

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((self.address, port))
        return sock

    def send(self, port: int, datagram: bytes, target: tuple[str, int]) -> None:
        if port not in self.senders:
            self.senders[port] = self._bound(port)
        self.senders[port].sendto(datagram, target)

    def close(self) -> None:
        for sock in self.senders.values():
            sock.close()


class LoadBalancer:
    """Sends packets and takes answers; one queue for each (node, port), since order is kept."""

    def __init__(self, target: tuple[str, int], nodes: list[str], patience: float) -> None:
        self.target = target
        self.patience = patience
        self.result = Result()
        self.nodes = {address: Node(address) for address in nodes}
        self.waiting: dict[tuple[str, int], collections.deque[bytes]] = collections.defaultdict(
            collections.deque
        )
        self.by_descriptor = {node.hears.fileno(): node for node in self.nodes.values()}

    def play(self, packets: int, flows: list[Conversation], dice: random.Random) -> Result:
        result = self.result
        result.flows = len(flows)
        began = time.monotonic()
        used = set()
        while result.sent < packets:
            flow = flows[result.sent % len(flows)]
            if dice.random() < 0.002:
                if not self.hear(until=0):  # the order of two ports is nobody's promise
                    break
                flow.move()
            datagram = next(flow.steps)
            self.waiting[flow.node, flow.port].append(datagram)
            self.nodes[flow.node].send(flow.port, datagram, self.target)
            used.add(flow.port)
            result.sent += 1
            result.largest = max(result.largest, len(datagram) - 40)
            if self.outstanding >= WINDOW and not self.hear(until=WINDOW // 2):
                break
        self.hear(until=0)
        self.late(0.2)
        result.ports = len(used)
        result.seconds = time.monotonic() - began
        return result

    @property
    def outstanding(self) -> int:
        return self.result.sent - self.result.answered

    def hear(self, until: int) -> bool:
        """Take answers until only so many are outstanding; False if they stop coming."""
        deadline = time.monotonic() + self.patience
        while self.outstanding > until:
            if self.late(max(0.0, deadline - time.monotonic())):
                deadline = time.monotonic() + self.patience
            elif time.monotonic() >= deadline:
                self.result.fault(f"{self.outstanding} packets were not answered")
                return False
        return True

    def late(self, wait: float) -> bool:
        """Take what comes within a time; whether anything came."""
        ready, _, _ = select.select(list(self.by_descriptor), [], [], wait)
        for descriptor in ready:
            node = self.by_descriptor[descriptor]
            answer, source = node.hears.recvfrom(65536)
            self.check(node.address, source, answer)
        return bool(ready)

    def check(self, node: str, source: tuple[str, int], answer: bytes) -> None:
        address, port = source
        where = f"answer from {address}:{port} to {node}:{GENEVE_PORT}"
        if address != self.target[0]:
            self.result.fault(f"{where}: not from the address that was hit, {self.target[0]}")
            return
        queue = self.waiting[node, port]
        if not queue:
            self.result.fault(f"{where}: nothing was sent from that port (are the ports swapped?)")
            return
        if queue[0] == answer:
            queue.popleft()
            self.result.answered += 1
        elif answer in queue:
            self.result.fault(f"{where}: out of order, {queue.index(answer)} too early")
            queue.remove(answer)
            self.result.answered += 1
        else:
            self.result.fault(f"{where}: {difference(queue[0], answer)}")

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()


def difference(sent: bytes, answer: bytes) -> str:
    """Where an answer leaves what was sent, for people."""
    for at, (one, other) in enumerate(zip(sent, answer, strict=False)):
        if one != other:
            part = "GENEVE header" if at < 40 else "inner packet"
            return f"byte {at} ({part}) is {other:#04x}, sent was {one:#04x}"
    return f"{len(answer)} bytes, sent were {len(sent)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", required=True, help="the appliance's address")
    parser.add_argument("--target-port", type=int, default=GENEVE_PORT)
    parser.add_argument("--nodes", required=True, help="node addresses, comma-separated")
    parser.add_argument("--ports", default="20000-20199", help="source ports: 53,6081,20000-20199")
    parser.add_argument("--packets", type=int, default=20_000)
    parser.add_argument("--flows", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=10.0, help="seconds without an answer")
    options = parser.parse_args()
    ports: list[int] = []
    for part in options.ports.split(","):
        first, _, last = part.partition("-")
        ports.extend(range(int(first), int(last or first) + 1))
    if 0 in ports:
        parser.error("source port 0 cannot be bound")
    dice = random.Random(options.seed)
    nodes = options.nodes.split(",")
    flows = [Conversation(number, dice, ports, nodes) for number in range(options.flows)]
    target = options.target, options.target_port
    balancer = LoadBalancer(target, nodes, options.patience)
    try:
        result = balancer.play(options.packets, flows, dice)
    finally:
        balancer.close()
    print(json.dumps({**asdict(result), "right": result.right}))
    return 0 if result.right else 1


if __name__ == "__main__":
    sys.exit(main())
