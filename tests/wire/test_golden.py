"""Golden vectors: one SYN of a flow as GWLB sends it, byte for byte, and the right answer."""

from __future__ import annotations

from appliance_sdk.dataplane.memory import Datagram, MemoryPlane
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.plugin.manager import Pipeline
from appliance_sdk.wire.build import build_tcp
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.geneve import build_geneve, format_endpoint, parse_endpoint, parse_geneve
from appliance_sdk.wire.packet import SYN, parse_packet

HEADER = bytes.fromhex(
    "080008000000000001080102a1b2c3d4e5f6071801080202000000000000000001080301deadbeef"
)
INNER = bytes.fromhex(
    "45000028000040004006f3bbcb00710a0a00010a9c4001bb11111111000000005002ffffa8b00000"
)
TO_TARGET = bytes.fromhex("4500006c00000000ff11a64f0a09000b0a090115eadb17c100580000")
REPLY = bytes.fromhex("4500006c0000000040116550 0a0901150a09000b eadb17c100580000".replace(" ", ""))


def test_the_header_is_built_and_read() -> None:
    assert build_geneve(parse_endpoint("vpce-0a1b2c3d4e5f60718"), 0xDEADBEEF) == HEADER
    geneve = parse_geneve(HEADER + INNER, 0, 80, strict=True)
    assert geneve.length == 40
    assert format_endpoint(geneve.endpoint_id) == "vpce-0a1b2c3d4e5f60718"
    assert (geneve.attachment_id, geneve.cookie, geneve.vni) == (0, 0xDEADBEEF, 0)


def test_the_inner_packet_is_built_and_read() -> None:
    client, server = bytes((203, 0, 113, 10)), bytes((10, 0, 1, 10))
    assert build_tcp(client, server, 40000, 443, seq=0x11111111, flags=SYN) == INNER
    headers = parse_packet(INNER, 0, 40)
    assert (headers.source, headers.destination) == (client, server)
    assert (headers.source_port, headers.destination_port) == (40000, 443)
    assert (headers.seq, headers.flags, headers.ttl) == (0x11111111, SYN, 64)


def test_the_outer_headers_add_up() -> None:
    assert checksum(TO_TARGET[:20]) == checksum(REPLY[:20]) == 0
    assert len(TO_TARGET + HEADER + INNER) == 108
    # Addresses swapped, ports kept, UDP checksum 0.
    assert REPLY[12:16] == TO_TARGET[16:20]
    assert REPLY[16:20] == TO_TARGET[12:16]
    assert REPLY[20:] == TO_TARGET[20:]


def test_the_engine_answers_with_the_same_bytes() -> None:
    engine = Engine(
        Pipeline.build([]),
        EngineSettings(origins=("10.9.0.0/24",)),
        now=0.0,
        emit=lambda event: None,
        log=lambda *a, **k: None,
    )
    peer = TO_TARGET[20:22] + TO_TARGET[12:16]
    local = TO_TARGET[16:20]
    sent = MemoryPlane(engine).deliver(HEADER + INNER, peer, local, 0.0)
    assert sent == [Datagram(peer, local, HEADER + INNER)]
