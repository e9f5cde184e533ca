"""From frames to datagrams."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance_sdk.dataplane.encapsulate import Capture, Encapsulator
from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.wire.build import build_icmp, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.capture import ETHERNET, RAW, CaptureWriter, Frame
from appliance_sdk.wire.geneve import build_geneve, parse_endpoint, parse_geneve

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
A6, B6 = bytes([0x20, 1]) + bytes(13) + b"\1", bytes([0x20, 1]) + bytes(13) + b"\2"
NODE, LOCAL = socket.inet_aton("10.9.0.11"), socket.inet_aton("10.9.1.21")


def _raw(packet: bytes) -> Frame:
    return Frame(1.0, RAW, packet)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (build_tcp(A, B, 40000, 443), build_tcp(B, A, 443, 40000)),
        (build_udp(A6, B6, 40000, 53), build_udp(B6, A6, 53, 40000)),
        (build_icmp(A, B, 8, 0, bytes(4)), build_icmp(B, A, 0, 0, bytes(4))),
    ],
)
def test_both_directions_have_one_port_and_one_cookie(there: bytes, back: bytes) -> None:
    encapsulator = Encapsulator()
    one, other = encapsulator.datagram(_raw(there)), encapsulator.datagram(_raw(back))
    assert one is not None
    assert other is not None
    assert one.peer == other.peer
    assert one.peer[2:] == NODE
    assert one.local == LOCAL
    assert one.payload[:40] == other.payload[:40]
    assert one.payload[40:] == there
    geneve = parse_geneve(one.payload, 0, len(one.payload), strict=True)
    assert geneve.endpoint_id == 0xA1B2C3D4E5F60718
    assert geneve.ethertype == (0x86DD if there[0] >> 4 == 6 else 0x0800)


def test_different_flows_differ() -> None:
    encapsulator = Encapsulator()
    cookies = set()
    for port in range(1000):
        datagram = encapsulator.datagram(_raw(build_tcp(A, B, 40000 + port, 443)))
        assert datagram is not None
        cookies.add(parse_geneve(datagram.payload, 0, len(datagram.payload)).cookie)
    assert len(cookies) == 1000


def test_all_fragments_of_a_packet_go_together() -> None:
    encapsulator = Encapsulator()
    fragments = fragment_packet(build_udp(A, B, 40000, 53, payload=bytes(3000)), 1500)
    datagrams = [encapsulator.datagram(_raw(fragment)) for fragment in fragments]
    assert len({d.peer + d.payload[:40] for d in datagrams if d}) == 1


def test_padding_of_a_frame_is_not_sent_on() -> None:
    packet = build_udp(A, B, 1, 2, payload=b"x")
    frame = Frame(1.0, ETHERNET, bytes(12) + b"\x08\x00" + packet + bytes(17))
    datagram = Encapsulator().datagram(frame)
    assert datagram is not None
    assert datagram.payload[40:] == packet


def test_what_is_wrong_further_in_is_left_for_the_engine() -> None:
    broken = build_tcp(A, B, 1, 2)[:30]
    datagram = Encapsulator().datagram(_raw(broken))
    assert datagram is not None
    assert datagram.payload[40:] == broken


def test_a_frame_without_ip_says_why() -> None:
    with pytest.raises(MalformedPacket, match="not_ip"):
        Encapsulator().datagram(Frame(1.0, ETHERNET, bytes(12) + b"\x08\x06" + bytes(28)))


def test_geneve_stays_as_it_is_and_recorded_answers_are_known() -> None:
    node, local = bytes([10, 1, 0, 5]), bytes([10, 1, 0, 99])
    inner = build_tcp(A, B, 40000, 443)
    payload = build_geneve(parse_endpoint("vpce-00000000000000042"), 7) + inner
    encapsulator = Encapsulator()
    there = encapsulator.datagram(_raw(build_udp(node, local, 61000, 6081, payload=payload)))
    back = encapsulator.datagram(_raw(build_udp(local, node, 61000, 6081, payload=payload)))
    assert there == ((61000).to_bytes(2, "big") + node, local, payload)
    assert back is None


def test_a_damaged_capture_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    with CaptureWriter(path) as writer:
        for port in range(3):
            writer.write(1.0, build_udp(A, B, port, 2))
    path.write_bytes(path.read_bytes()[:-38])  # into the last record's header
    capture = Capture(path)
    assert len(list(capture)) == 2
    assert "damaged after 2 frames" in capture.damage


def test_no_capture_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("certainly no capture, though long enough for a header")
    with pytest.raises(ConfigError, match="is not a capture"):
        list(Capture(path))
