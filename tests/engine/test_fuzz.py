"""Whatever comes in: no error but ours, no answer to a malformed datagram, memory flat."""

from __future__ import annotations

import gc
import os
import random
import sys
from typing import Any

from appliance_sdk.engine import DROP, FORWARD, REPLACED, Engine, EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.geneve import Option, build_geneve
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN
from appliance_sdk.wire.reasons import MALFORMED

ROUNDS = 1_000_000 if os.environ.get("FULL") == "1" else 60_000
A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
A6, B6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x02"
LOCAL = b"\x0a\x09\x01\x15"


class Nosy(Plugin):
    """Looks at everything, and uses every verdict now and then."""

    def flow_opened(self, flow: Flow) -> Opening:
        if flow.server_port % 16 == 7:
            return Verdict.REJECT
        return Peek()


class Peek(FlowHandler["Nosy"]):
    lookback = 16
    edits = True
    seen: int = 0

    def packet(self, packet: Packet) -> Outcome:
        self.seen += len(packet.payload) + packet.ttl
        if packet.tcp and packet.tcp.syn:
            packet.clamp_mss(500)
        if packet.related is not None:
            self.seen += packet.related.to_server.packets
        return Verdict.DROP if self.seen % 97 == 0 else None

    def data(self, chunk: Chunk) -> Outcome:
        chunk.mask(chunk.fresh, chunk.fresh + 2)
        if b"evil" in chunk:
            return Verdict.REJECT.reply(b"no")
        return None


def seeds() -> list[bytes]:
    inner = [
        build_tcp(A, B, 4000, 80, seq=1, flags=SYN, options=b"\x02\x04\x05\xb4"),
        build_tcp(B, A, 80, 4000, seq=9, ack=2, flags=SYN | ACK),
        build_tcp(A, B, 4000, 80, seq=2, ack=10, flags=ACK, payload=b"GET / evil"),
        build_tcp(A, B, 4000, 80, seq=12, ack=10, flags=ACK | FIN),
        build_tcp(B, A, 80, 4000, seq=10, ack=13, flags=RST),
        build_tcp(A6, B6, 4000, 80, seq=1, flags=SYN),
        build_udp(A, B, 5000, 53, payload=b"query evil"),
        build_udp(A6, B6, 5000, 53, payload=bytes(600)),
        build_icmp(A, B, 8, 0, bytes(40)),
        build_icmp(B, A, 3, 3, bytes(4) + build_udp(A, B, 5000, 53)),
        build_icmp(A6, B6, 128, 0, bytes(40)),
        build_icmp(B6, A6, 1, 4, bytes(4) + build_udp(A6, B6, 5000, 53)),
        build_ip(A, B, 47, bytes(30)),
        build_ip(A6, B6, 0, bytes([60, 0]) + bytes(6) + bytes([6, 0]) + bytes(6) + bytes(24)),
        *fragment_packet(build_udp(A, B, 5000, 53, payload=bytes(900), identification=7), 500),
        *fragment_packet(build_udp(A6, B6, 5000, 53, payload=bytes(900)), 500),
    ]
    out = []
    for number, packet in enumerate(inner):
        ethertype = 0x86DD if packet[0] >> 4 == 6 else 0x0800
        extra = [Option(0x0102, 5, bytes(8))] if number % 3 == 0 else []
        out.append(build_geneve(number % 2, 77, ethertype=ethertype, extra=extra) + packet)
    return out


def mutated(rng: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        kind = rng.randrange(5)
        if not data:
            break
        at = rng.randrange(len(data))
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del data[at : at + rng.randrange(1, 9)]
    return bytes(data)


def test_random_and_mutated_datagrams() -> None:
    rng = random.Random(20261123)
    failures: list[Any] = []
    settings = EngineSettings(origins=("10.9.0.0/24",), max_flows=2000, stream_total_bytes=1 << 20)
    engine = Engine(
        Pipeline.build([Enabled("nosy", Nosy)]),
        settings,
        now=0.0,
        emit=lambda event: None,
        log=lambda name, **fields: failures.append(fields),
    )
    pool = seeds()
    blocks = []
    decisions = {FORWARD: 0, DROP: 0, REPLACED: 0}
    for number in range(ROUNDS):
        now = number * 0.001
        data = (
            rng.randbytes(rng.randrange(120)) if number % 8 == 0 else mutated(rng, rng.choice(pool))
        )
        peer = rng.randrange(1024, 65536).to_bytes(2, "big") + b"\x0a\x09\0" + bytes([number % 2])
        malformed = sum(engine.drops[r] for r in MALFORMED)
        decision = engine.receive(data, 0, len(data), peer, LOCAL, now)
        decisions[decision] += 1
        if sum(engine.drops[r] for r in MALFORMED) > malformed:
            assert decision == DROP
            assert not engine.outbox, data.hex()
        engine.outbox.clear()
        engine.advance(now)
        if number in (ROUNDS // 2, ROUNDS - 1):
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert not failures, failures[:1]
    assert all(decisions.values()), decisions
    assert engine.received == ROUNDS == engine.forwarded + sum(engine.drops.values())
    assert engine.flow_count <= 2000
    # Flows, fragments and remembered origins are bounded; beyond them nothing may pile up.
    assert blocks[1] - blocks[0] < 60_000, blocks
    engine.close(ROUNDS * 0.001)
    assert engine.flows_opened == engine.flows_closed
    assert engine.streams._budget.used == 0
