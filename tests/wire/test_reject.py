"""Answers that refuse: the right numbers, to the right end, and never where there must be none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.checksum import checksum, transport_checksum
from appliance_sdk.wire.packet import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    PSH,
    RST,
    SYN,
    TCP,
    Headers,
    parse_packet,
    parse_quoted,
)
from appliance_sdk.wire.reject import build_tcp_rst, build_tcp_rst_to, build_unreachable

A4, B4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A6, B6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"
ENDS = [(A4, B4), (A6, B6)]


def parse(packet: bytes) -> Headers:
    return parse_packet(packet, 0, len(packet))


def rst(packet: bytes) -> bytes | None:
    # Behind other bytes, as it lies in a receive buffer.
    return build_tcp_rst(
        b"\xee" * 7 + packet, 7, parse_packet(b"\xee" * 7 + packet, 7, 7 + len(packet))
    )


def unreachable(packet: bytes) -> bytes | None:
    buffer = b"\xee" * 7 + packet
    return build_unreachable(buffer, 7, parse_packet(buffer, 7, len(buffer)))


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        # RFC 9293 §3.10.7.1: with ACK, the answer's number is what the sender expects; without,
        # 0, and it acknowledges all that came.
        (SYN, b"", (0, 101, RST | ACK)),
        (SYN, b"fast open", (0, 110, RST | ACK)),
        (SYN | FIN, b"", (0, 102, RST | ACK)),
        (FIN, b"abc", (0, 104, RST | ACK)),
        (0, b"abc", (0, 103, RST | ACK)),
        (SYN | ACK, b"", (5000, 0, RST)),
        (ACK, b"", (5000, 0, RST)),
        (ACK | PSH, b"data", (5000, 0, RST)),
        (FIN | ACK, b"", (5000, 0, RST)),
    ],
)
def test_a_segment_is_reset_with_the_numbers_of_the_rfc(
    ends: tuple[bytes, bytes], flags: int, payload: bytes, expected: tuple[int, int, int]
) -> None:
    packet = build_tcp(*ends, 1000, 443, seq=100, ack=5000, flags=flags, payload=payload)
    answer = rst(packet)
    assert answer is not None
    h = parse(answer)
    assert (h.source, h.destination) == (ends[1], ends[0])
    assert (h.source_port, h.destination_port) == (443, 1000)
    assert (h.seq, h.ack, h.flags) == expected
    assert h.end == h.payload
    assert transport_checksum(h.source, h.destination, TCP, answer[h.transport :]) == 0


def test_the_acknowledgement_wraps() -> None:
    answer = rst(build_tcp(A4, B4, 1, 2, seq=0xFFFFFFFF, flags=SYN))
    assert answer is not None
    assert parse(answer).ack == 0


def test_trailing_bytes_are_not_acknowledged() -> None:
    answer = rst(build_tcp(A4, B4, 1, 2, seq=100, flags=SYN) + b"trailing")
    assert answer is not None
    assert parse(answer).ack == 101


def test_a_reset_inside_a_connection() -> None:
    h = parse(build_tcp_rst_to(A6, B6, 1, 2, seq=77, ack=88))
    assert (h.source, h.destination, h.source_port, h.destination_port) == (A6, B6, 1, 2)
    assert (h.seq, h.ack, h.flags, h.end - h.payload) == (77, 88, RST | ACK, 0)


MULTICAST4, BROADCAST4 = bytes((224, 0, 0, 251)), b"\xff" * 4
MULTICAST6 = b"\xff\x02" + bytes(13) + b"\xfb"
LATER4 = fragment_packet(build_udp(A4, B4, 1, 2, payload=bytes(3000), identification=1), 1500)[1]
LATER6 = fragment_packet(build_udp(A6, B6, 1, 2, payload=bytes(3000)), 1500)[1]
NEVER_ANSWERED = {
    "to multicast": build_tcp(A4, MULTICAST4, 1, 2, flags=SYN),
    "to broadcast": build_tcp(A4, BROADCAST4, 1, 2, flags=SYN),
    "to IPv6 multicast": build_tcp(A6, MULTICAST6, 1, 2, flags=SYN),
    "from multicast": build_tcp(MULTICAST4, A4, 1, 2, flags=SYN),
    "from IPv6 multicast": build_tcp(MULTICAST6, A6, 1, 2, flags=SYN),
    "from nobody": build_tcp(bytes(4), A4, 1, 2, flags=SYN),
    "from nobody, IPv6": build_tcp(bytes(16), A6, 1, 2, flags=SYN),
    "a later fragment": LATER4,
    "a later fragment, IPv6": LATER6,
}


@pytest.mark.parametrize("packet", NEVER_ANSWERED.values(), ids=NEVER_ANSWERED.keys())
def test_what_is_never_answered(packet: bytes) -> None:
    assert rst(packet) is None
    assert unreachable(packet) is None


def test_a_reset_is_not_reset_and_only_tcp_is() -> None:
    for flags in (RST, RST | ACK, RST | SYN):
        assert rst(build_tcp(A4, B4, 1, 2, flags=flags)) is None
    assert rst(build_udp(A4, B4, 1, 2)) is None


@pytest.mark.parametrize(
    ("ends", "protocol", "kind", "code", "largest"),
    [((A4, B4), ICMP, 3, 13, 576), ((A6, B6), ICMPV6, 1, 1, 1280)],
)
def test_an_unreachable_quotes_the_packet_within_the_limits(
    ends: tuple[bytes, bytes], protocol: int, kind: int, code: int, largest: int
) -> None:
    # RFC 1812 §4.3.2.3: as much as fits into 576 bytes; RFC 4443 §3.1: into 1,280.
    for size in (0, 1, 100, 519, 520, 521, 1200, 8000):
        packet = build_udp(*ends, 1000, 53, payload=b"\xab" * size)
        answer = unreachable(packet + b"trailing bytes")
        assert answer is not None
        h = parse(answer)
        assert (h.source, h.destination) == (ends[1], ends[0])
        assert (h.protocol, h.icmp_type, h.icmp_code) == (protocol, kind, code)
        quoted = answer[h.payload :]
        assert len(answer) == min(largest, h.payload + len(packet))
        assert packet.startswith(quoted)
        assert answer[h.transport + 4 : h.payload] == bytes(4)
        source, destination = parse_quoted(answer, h.payload, h.end)[2:4]
        assert (source, destination) == ends
        if protocol == ICMP:
            assert checksum(answer[h.transport :]) == 0
        else:
            whole = answer[h.transport :]
            assert transport_checksum(h.source, h.destination, ICMPV6, whole) == 0


def test_queries_are_answered_and_other_icmp_is_not() -> None:
    for kind in range(256):
        answered = unreachable(build_icmp(A4, B4, kind, 0, bytes(8))) is not None
        assert answered == (kind in (8, 13, 15, 17)), kind
        answered = unreachable(build_icmp(A6, B6, kind, 0, bytes(8))) is not None
        assert answered == (kind == 128), kind


def test_protocols_without_ports_are_answered() -> None:
    for ends in ENDS:
        for protocol in (47, 50, 51, 132, 255):
            assert unreachable(build_ip(*ends, protocol, b"\0" * 8)) is not None


def test_a_first_fragment_is_answered() -> None:
    first = fragment_packet(build_udp(A4, B4, 1, 2, payload=bytes(3000), identification=1), 1500)[0]
    assert unreachable(first) is not None


@given(
    st.binary(min_size=20, max_size=100), st.sampled_from([4, 6]), st.sampled_from([1, 6, 17, 58])
)
def test_no_answer_is_ever_answered(data: bytes, version: int, protocol: int) -> None:
    ends = (data[:4], data[4:8]) if version == 4 else (data[:16], data[4:20])
    packet = build_ip(*ends, protocol, data)
    with contextlib.suppress(MalformedPacket):
        for answer in (rst(packet), unreachable(packet)):
            if answer is not None:
                h = parse(answer)
                assert (h.source, h.destination) == (ends[1], ends[0])
                assert rst(answer) is None
                assert unreachable(answer) is None or h.protocol == TCP
