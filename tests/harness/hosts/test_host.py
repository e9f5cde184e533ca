"""A host's IP, UDP and ICMP; what it counts and refuses; that its packets are right."""

from __future__ import annotations

import ipaddress
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from appliance_sdk.harness.hosts import (
    Banner,
    Datagram,
    Discard,
    Echo,
    Host,
    Sink,
    TcpSettings,
    UdpSocket,
)
from appliance_sdk.wire import (
    build_icmp,
    build_ip,
    build_tcp,
    build_udp,
    fragment_packet,
    parse_packet,
    patch_payload,
)
from appliance_sdk.wire.edit import fix_ipv4_checksum
from appliance_sdk.wire.packet import ACK, RST, SYN

if TYPE_CHECKING:
    from tests.harness.hosts.conftest import Network

A, B, B6 = "10.0.0.1", "10.0.0.2", "fd00::2"
addresses = pytest.mark.parametrize("address", [B, B6])


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@addresses
@pytest.mark.parametrize("size", [0, 56, 5000, 65_000])
def test_ping(network: type[Network], address: str, size: int) -> None:
    net = network()
    ping = net.client.ping(address, net.now, size=size)
    net.run()
    assert ping.rtt_s == pytest.approx(0.02)
    assert (ping.replies, ping.damaged, ping.unreachable) == (1, 0, False)
    assert len(net.sent) == (2 if size < 1400 else pytest.approx(2 * size / 1450, abs=2))


def test_a_ping_whose_answer_was_changed_or_doubled(network: type[Network]) -> None:
    net = network(double=1.0)
    doubled = net.client.ping(B, net.now)
    net.run()
    assert doubled.replies == 4
    ping = net.client.ping(B, net.now)
    body = net.client.outbox[-1][24:]
    net.client.receive(build_icmp(packed(B), packed(A), 0, 0, body[:-1] + b"!"), net.now)
    assert (ping.replies, ping.damaged, ping.rtt_s) == (0, 1, None)


@addresses
def test_udp_both_ways_in_fragments_too(network: type[Network], address: str) -> None:
    net = network(jitter_s=0.05)
    big = random.Random(1).randbytes(60_000)
    server = net.server.udp(53, handler=lambda socket, d: socket.reply(d, d.data[::-1]))
    client = net.client.udp()
    for data in (b"", b"question", big):
        client.send_to(address, 53, data)
        net.run()
        assert client.received[-1].data == data[::-1]
        assert server.received[-1].data == data
    answer = client.received[0]
    assert (answer.address, answer.port) == (address, 53)
    assert answer.at == pytest.approx(0.07, abs=0.06)
    assert not client.unreachable


@addresses
def test_a_closed_udp_port_is_said_to_be_closed(network: type[Network], address: str) -> None:
    net = network()
    client = net.client.udp()
    client.send_to(address, 53, b"x" * 3000)
    net.run()
    assert client.icmp_error == ((3, 3) if address == B else (1, 4))
    assert client.unreachable
    socket = net.server.udp(53)
    socket.close()
    again = net.client.udp()
    again.send_to(address, 53, b"x")
    net.run()
    assert again.unreachable
    again.close()
    assert net.client.udp(again.port).port == again.port


def test_udp_checksums_may_be_left_out_in_ipv4_only(network: type[Network]) -> None:
    net = network()
    socket = net.server.udp(53)
    for source, target in ((A, B), ("fd00::1", B6)):
        datagram = b"\x30\x39\x00\x35\x00\x09\x00\x00x"
        net.server.receive(build_ip(packed(source), packed(target), 17, datagram), 0.0)
    assert [d.data for d in socket.received] == [b"x"]
    assert net.server.dropped == {"udp_checksum": 1}


def test_an_edit_that_leaves_the_checksum_wrong_is_dropped_and_counted(
    network: type[Network],
) -> None:
    net = network()
    net.server.listen(80, Echo)
    conn = net.client.connect(B, 80, net.now)
    net.run(until=1.0)
    conn.send(b"secret")
    net.client.advance(1.0)
    (packet,) = net.client.outbox
    net.client.outbox.clear()
    net.server.receive(packet.replace(b"secret", b"SECRET"), 1.0)
    assert net.server.dropped == {"tcp_checksum": 1}
    right = bytearray(packet)
    patch_payload(right, parse_packet(right, 0, len(right)), 0, b"SECRET")
    net.server.receive(bytes(right), 1.0)
    net.run(until=2.0)
    assert conn.received == b"SECRET"
    assert net.server.dropped.total() == 1


def test_what_is_counted_and_not_answered(network: type[Network]) -> None:
    server = network().server
    a, b = packed(A), packed(B)
    wrong = {
        "not_addressed": build_udp(a, packed("10.0.0.3"), 1, 2),
        "own_address": build_tcp(b, b, 80, 80, flags=SYN),
        "malformed": b"\x45",
        "too_big": build_udp(a, b, 1, 2, payload=bytes(2000)),
        "ip_checksum": build_udp(a, b, 1, 2)[:8] + b"\x01" + build_udp(a, b, 1, 2)[9:],
        "udp_length": build_ip(a, b, 17, b"\0\1\0\2\0\7\0\0"),
        "icmp_checksum": build_icmp(a, b, 8, 0, b"1234")[:-1] + b"5",
        "no_protocol": build_ip(a, b, 99, b"?"),
        "icmp_unexpected": build_icmp(a, b, 0, 0, b"\0\0\0\0"),
    }
    for packet in wrong.values():
        server.receive(packet, 0.0)
    assert server.dropped == dict.fromkeys(wrong, 1)
    assert server.outbox == []


def test_a_closed_tcp_port_answers_with_reset_and_never_to_a_reset(network: type[Network]) -> None:
    server = network().server
    server.receive(build_tcp(packed(A), packed(B), 1, 80, seq=5, flags=SYN), 0.0)
    (reset,) = server.outbox
    headers = parse_packet(reset, 0, len(reset))
    assert (headers.flags, headers.ack) == (RST | ACK, 6)
    server.outbox.clear()
    server.receive(build_tcp(packed(A), packed(B), 1, 80, flags=RST), 0.0)
    server.receive(build_tcp(packed("224.0.0.1"), packed(B), 1, 80, flags=SYN), 0.0)
    server.receive(build_udp(packed("224.0.0.1"), packed(B), 1, 80), 0.0)
    server.receive(build_icmp(packed("224.0.0.1"), packed(B), 8, 0, b"1234"), 0.0)
    assert server.outbox == []


def test_fragments_that_overlap_never_come_together(network: type[Network]) -> None:
    server = network().server
    socket = server.udp(53)
    packet = build_udp(packed(A), packed(B), 9, 53, payload=bytes(100), identification=7)
    first, second = fragment_packet(packet, 96)
    overlap = bytearray(second)
    overlap[6:8] = (8).to_bytes(2, "big")  # where the first part still is
    fix_ipv4_checksum(overlap)
    for fragment in (first, bytes(overlap), second):
        server.receive(fragment, 0.0)
    assert socket.received == []
    for number in range(8, 500):  # first parts only
        packet = build_udp(packed(A), packed(B), 9, 53, payload=bytes(99), identification=number)
        server.receive(fragment_packet(packet, 96)[0], 0.0)
    assert len(server._fragments) <= 64
    rest = fragment_packet(packet, 96)[1]
    for fragment in (rest, rest):
        server.receive(fragment, 0.0)
    assert len(socket.received) == 1


def test_a_router_with_a_small_mtu_makes_segments_smaller(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, Sink)
    conn = net.client.connect(B, 80, net.now)
    net.run(until=1.0)
    conn.send(bytes(5000))
    net.client.advance(1.0)
    lost = net.client.outbox[0]
    net.client.outbox.clear()
    body = b"\0\0" + (600).to_bytes(2, "big") + lost[:28]
    net.client.receive(build_icmp(packed("10.9.9.9"), packed(A), 3, 4, body), 1.0)
    before = len(net.sent)
    net.run(until=20.0)
    assert listener.connections[0].received == bytes(5000)
    assert max(map(len, net.sent[before:])) <= 600


def test_banner_echo_discard(network: type[Network]) -> None:
    net = network()
    net.server.listen(22, Banner("SSH-2.0-harness"))
    net.server.listen(7, Echo)
    discard = net.server.listen(9, Discard)
    conns = [net.client.connect(B, port, net.now) for port in (22, 7, 9)]
    for conn in conns:
        conn.send(b"hello")
        conn.close()
    net.run()
    assert [conn.received for conn in conns] == [b"SSH-2.0-harness\r\n", b"hello", b""]
    assert [conn.ended for conn in conns] == ["closed"] * 3
    assert discard.connections[0].received_bytes == 5
    assert discard.connections[0].received == b""


def test_an_echo_nobody_reads_is_given_up(network: type[Network]) -> None:
    net = network(tcp=TcpSettings(send_buffer_bytes=10_000))
    net.server.listen(7, Echo)
    conn = net.client.connect(B, 7, net.now)
    net.run(until=1.0)
    conn.window = 0
    for _ in range(5):
        conn.send(bytes(5000))
        net.run(until=net.now + 1)
    assert conn.ended == "reset"


def test_the_same_seed_sends_the_same_bytes(network: type[Network]) -> None:
    def play(seed: int) -> list[bytes]:
        net = network(seed=seed, loss=0.1, jitter_s=0.1)
        net.server.listen(80, Echo)
        conn = net.client.connect(B, 80, net.now)
        conn.send(b"x" * 9000)
        conn.close()
        net.client.ping(B, 0.0)
        net.client.udp().send_to(B, 5, b"x")
        net.run()
        return net.sent

    assert play(1) == play(1) != play(2)


def test_timers_run_once_in_order_and_can_be_cancelled() -> None:
    host = Host("h", [A], seed=1)
    ran: list[tuple[str, float]] = []
    host.call_at(2.0, lambda now: ran.append(("b", now)))
    host.call_at(1.0, lambda now: ran.append(("a", now)))
    host.call_at(1.5, lambda now: ran.append(("never", now))).cancel()
    assert host.next_deadline() == 1.0
    host.advance(1.7)
    assert ran == [("a", 1.7)]
    host.advance(9.0)
    assert ran == [("a", 1.7), ("b", 9.0)]
    assert host.next_deadline() == math.inf


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda h: Host("h", [], seed=1), "needs a list"),
        (lambda h: Host("h", "10.0.0.1", seed=1), "needs a list"),
        (lambda h: Host("h", ["10.0.0.300"], seed=1), "10.0.0.300"),
        (lambda h: Host("h", [A], seed=1, mtu=100), "mtu of h is 100"),
        (lambda h: h.connect(B6, 80, 0.0), "no IPv6 address"),
        (lambda h: h.connect(B, 0, 0.0), "port is 0"),
        (lambda h: h.connect(B, 80, 0.0, source_port=70_000), "port is 70000"),
        (lambda h: [h.connect(B, 80, 0.0, source_port=5) for _ in "ab"], "port 5"),
        (lambda h: [h.connect(B, 80, 0.0) for _ in range(9)], "has 8 connections"),
        (lambda h: [h.listen(80, Echo) for _ in "ab"], "TCP port 80"),
        (lambda h: [h.udp(80) for _ in "ab"], "UDP port 80"),
        (lambda h: h.udp().send_to(B, 0, b""), "port is 0"),
        (lambda h: h.udp().send_to(B, 1, bytes(65_508)), "65,507"),
        (lambda h: h.udp().send_to(B, 1, b"", source=B), "does not have"),
        (lambda h: h.ping(B, 0.0, size=65_001), "size is 65001"),
    ],
)
def test_what_cannot_be_done_says_so(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(Host("h", [A], seed=1, max_connections=8))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_packet_makes_it_raise(network: type[Network], data: st.DataObject) -> None:
    net = network(seed=data.draw(st.integers(0, 3)))
    host = net.server
    host.listen(80, Echo)
    host.udp(53, lambda socket, d: socket.reply(d, d.data))
    host.connect(A, 80, 0.0, source_port=1)
    host.ping(A, 0.0)
    net.client.connect(B, 80, 0.0)
    net.client.ping(B6, 0.0, size=3000)
    net.client.udp().send_to(B, data.draw(st.sampled_from([53, 54])), b"x" * 2000)
    seen = [*net.client.outbox, *host.outbox]
    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            packet = data.draw(st.binary(max_size=120))
        elif kind == 1:
            protocol = data.draw(st.sampled_from([1, 6, 17, 44, 58]))
            body = data.draw(st.binary(max_size=80))
            ends = data.draw(st.sampled_from([(A, B), ("fd00::1", B6)]))
            packet = build_ip(packed(ends[0]), packed(ends[1]), protocol, body)
        elif kind == 2:
            quoted = data.draw(st.sampled_from(seen))[: data.draw(st.integers(0, 70))]
            ends = data.draw(st.sampled_from([(A, B), ("fd00::1", B6)]))
            code = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 4)))
            word = data.draw(st.binary(min_size=4, max_size=4))
            packet = build_icmp(packed(ends[0]), packed(ends[1]), *code, word + quoted)
        else:
            changed = bytearray(data.draw(st.sampled_from(seen)))
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(0, 255))
            packet = bytes(changed)
        host.outbox.clear()
        host.receive(packet, 0.0)
        assert len(host.outbox) <= 4
    host.advance(1e5)


@addresses
def test_scapy_finds_every_checksum_right(network: type[Network], address: str) -> None:
    net = network(loss=0.1, jitter_s=0.1)
    net.server.listen(80, Echo)
    conn = net.client.connect(address, 80, net.now)
    conn.send(random.Random(5).randbytes(20_000))
    conn.close()
    net.client.connect(address, 81, net.now)
    net.client.ping(address, net.now)
    net.client.udp().send_to(address, 5, b"odd")
    net.run()
    assert conn.ended == "closed"
    kinds = set()
    for packet in net.sent:
        layer = IP if packet[0] >> 4 == 4 else IPv6
        read = layer(packet)
        again = layer(packet)
        for part in again.iterpayloads():
            for field in ("chksum", "cksum"):
                if field in part.fields:
                    part.delfieldval(field)
            kinds.add(type(part))
        assert bytes(again) == bytes(read) == packet
        if TCP in read:
            mine = parse_packet(packet, 0, len(packet))
            assert (read[TCP].seq, read[TCP].ack, read[TCP].window) == (
                mine.seq,
                mine.ack,
                mine.window,
            )
            if mine.flags & SYN:
                assert ("MSS", 1400) in read[TCP].options
    assert {TCP, UDP} <= kinds
    assert address != B or ICMP in kinds


def test_udp_sockets_are_told_apart(network: type[Network]) -> None:
    net = network()
    heard: list[tuple[UdpSocket, Datagram]] = []
    sockets = [net.server.udp(port, lambda s, d: heard.append((s, d))) for port in (1, 2)]
    net.client.udp(9).send_to(B, 2, b"two")
    net.run()
    assert heard == [(sockets[1], Datagram(A, 9, b"two", B, 0.01))]
