"""Two other people's parsers read the same fields: dpkt and scapy."""

from __future__ import annotations

from typing import Any

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.wire.build import build_icmp, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.geneve import Option, build_geneve, parse_geneve, parse_options
from appliance_sdk.wire.packet import ICMPV6, TCP, UDP, parse_packet

ports = st.integers(0, 0xFFFF)
numbers = st.integers(0, 0xFFFFFFFF)
payloads = st.binary(max_size=64)
tcp_options = st.integers(0, 10).flatmap(lambda n: st.just(b"\x01" * 4 * n))


@st.composite
def ends(draw: st.DrawFn, size: int | None = None) -> tuple[bytes, bytes]:
    n = size or draw(st.sampled_from([4, 16]))
    return draw(st.binary(min_size=n, max_size=n)), draw(st.binary(min_size=n, max_size=n))


def dissect(packet: bytes) -> Any:
    return dpkt.ip.IP(packet) if packet[0] >> 4 == 4 else dpkt.ip6.IP6(packet)


@given(ends(), ports, ports, numbers, numbers, st.integers(0, 255), payloads, tcp_options)
def test_dpkt_reads_our_tcp_as_we_do(
    addresses: tuple[bytes, bytes],
    source_port: int,
    destination_port: int,
    seq: int,
    ack: int,
    flags: int,
    payload: bytes,
    options: bytes,
) -> None:
    packet = build_tcp(
        *addresses,
        source_port,
        destination_port,
        seq=seq,
        ack=ack,
        flags=flags,
        payload=payload,
        options=options,
    )
    ip, h = dissect(packet), parse_packet(packet, 0, len(packet))
    assert (ip.src, ip.dst) == addresses == (h.source, h.destination)
    tcp = ip.data
    assert (tcp.sport, tcp.dport) == (source_port, destination_port)
    assert (h.source_port, h.destination_port) == (source_port, destination_port)
    assert (tcp.seq, tcp.ack, tcp.flags) == (h.seq, h.ack, h.flags) == (seq, ack, flags)
    assert tcp.win == h.window
    assert tcp.data == packet[h.payload : h.end] == payload


@given(ends(), ports, ports, payloads)
def test_dpkt_reads_our_udp_as_we_do(
    addresses: tuple[bytes, bytes], source_port: int, destination_port: int, payload: bytes
) -> None:
    packet = build_udp(*addresses, source_port, destination_port, payload=payload)
    udp, h = dissect(packet).data, parse_packet(packet, 0, len(packet))
    assert (udp.sport, udp.dport) == (h.source_port, h.destination_port)
    assert udp.data == packet[h.payload : h.end] == payload


@given(ends(4), st.integers(0, 255), st.integers(0, 255), st.binary(min_size=4, max_size=40))
def test_dpkt_reads_our_icmp_as_we_do(
    addresses: tuple[bytes, bytes], kind: int, code: int, body: bytes
) -> None:
    packet = build_icmp(*addresses, kind, code, body)
    ip, h = dpkt.ip.IP(packet), parse_packet(packet, 0, len(packet))
    assert (ip.p, packet[20], packet[21]) == (h.protocol, h.icmp_type, h.icmp_code)
    assert dpkt.in_cksum(packet[:20]) == dpkt.in_cksum(packet[20:]) == 0


@pytest.fixture(scope="module")
def scapy() -> Any:
    # It logs about the machine's interfaces and routes when it loads; no test is about those.
    return pytest.importorskip("scapy.all", reason="scapy is not installed")


EXTENSIONS = st.lists(st.sampled_from(["hop", "destination", "routing", "atomic"]), max_size=5)


@settings(deadline=None)
@given(data=st.data(), kinds=EXTENSIONS, sport=ports, dport=ports, payload=payloads)
def test_scapy_builds_ipv6_chains_that_we_read(
    scapy: Any, data: st.DataObject, kinds: list[str], sport: int, dport: int, payload: bytes
) -> None:
    if kinds.count("atomic") > 1:
        kinds = [kind for kind in kinds if kind != "atomic"]
    packet = scapy.IPv6(src="fd00::1", dst="fd00::2", hlim=data.draw(st.integers(0, 255)))
    for kind in kinds:
        padding = [scapy.PadN(optdata=bytes(data.draw(st.integers(0, 40))))]
        if kind == "hop":
            packet /= scapy.IPv6ExtHdrHopByHop(options=padding)
        elif kind == "destination":
            packet /= scapy.IPv6ExtHdrDestOpt(options=padding)
        elif kind == "routing":
            packet /= scapy.IPv6ExtHdrRouting(addresses=["fd00::3"])
        else:
            packet /= scapy.IPv6ExtHdrFragment(id=5)
    upper = data.draw(st.sampled_from([scapy.TCP, scapy.UDP]))
    packet = packet / upper(sport=sport, dport=dport) / scapy.Raw(payload)
    raw = bytes(packet)
    h = parse_packet(raw, 0, len(raw))
    again = scapy.IPv6(raw)
    assert h.protocol == (TCP if upper is scapy.TCP else UDP)
    assert (h.source_port, h.destination_port) == (sport, dport)
    assert h.transport == len(raw) - len(bytes(again[upper]))
    assert raw[h.payload : h.end] == payload
    assert h.ttl == packet.hlim


@settings(deadline=None)
@given(addresses=ends(), sport=ports, dport=ports, payload=payloads, seq=numbers)
def test_scapy_computes_the_checksums_that_we_build(
    scapy: Any,
    addresses: tuple[bytes, bytes],
    sport: int,
    dport: int,
    payload: bytes,
    seq: int,
) -> None:
    icmp = 1 if len(addresses[0]) == 4 else ICMPV6
    for packet, protocol, at in (
        (build_tcp(*addresses, sport, dport, seq=seq, payload=payload), TCP, 16),
        (build_udp(*addresses, sport, dport, payload=payload), UDP, 6),
        (build_icmp(*addresses, 128, 0, payload), icmp, 2),
    ):
        h = parse_packet(packet, 0, len(packet))
        blank = bytearray(packet)
        blank[h.transport + at : h.transport + at + 2] = b"\0\0"
        layer = scapy.IP(packet) if h.version == 4 else scapy.IPv6(packet)
        segment = bytes(blank[h.transport :])
        if protocol == 1:
            expected = scapy.checksum(segment)
        elif h.version == 4:
            expected = scapy.in4_chksum(protocol, layer, segment)
        else:
            # With the addresses alone: a payload that scapy took for more could change the rest.
            bare = scapy.IPv6(src=layer.src, dst=layer.dst)
            expected = scapy.in6_chksum(protocol, bare, segment)
        if protocol == UDP:
            expected = expected or 0xFFFF
        assert int.from_bytes(packet[h.transport + at : h.transport + at + 2], "big") == expected
        if h.version == 4:
            assert scapy.checksum(packet[:20]) == 0


@settings(deadline=None)
@given(addresses=ends(), size=st.integers(1, 3000), mtu=st.integers(68, 1500))
def test_scapy_puts_our_fragments_together(
    scapy: Any, addresses: tuple[bytes, bytes], size: int, mtu: int
) -> None:
    packet = build_udp(*addresses, 1, 2, payload=bytes(range(256)) * 12, identification=9)
    packet = build_udp(*addresses, 1, 2, payload=packet[:size], identification=9)
    fragments = fragment_packet(packet, mtu)
    assert max(map(len, fragments)) <= mtu
    body = b""
    for raw in fragments:
        if raw[0] >> 4 == 4:
            layer = scapy.IP(raw)
            assert layer.frag * 8 == len(body)
            assert scapy.checksum(raw[:20]) == 0
            body += raw[20:]
        else:
            layer = scapy.IPv6(raw)
            assert layer[scapy.IPv6ExtHdrFragment].offset * 8 == len(body)
            body += raw[48:]
    assert body == packet[20 if packet[0] >> 4 == 4 else 40 :]


@settings(deadline=None)
@given(
    endpoint=st.integers(0, 2**64 - 1),
    cookie=numbers,
    extra=st.lists(
        st.builds(
            Option,
            st.sampled_from([0x0108, 0xFFFF]),
            st.integers(4, 0x7F),
            st.integers(0, 4).map(lambda n: b"\xa5" * 4 * n),
        ),
        max_size=6,
    ),
)
def test_scapy_reads_our_geneve_as_we_do(
    scapy: Any, endpoint: int, cookie: int, extra: list[Option]
) -> None:
    geneve = pytest.importorskip("scapy.contrib.geneve", reason="scapy has no GENEVE")
    inner = build_udp(bytes(4), bytes(4), 1, 2)
    raw = build_geneve(endpoint, cookie, extra=extra) + inner
    layer = geneve.GENEVE(raw)
    ours = parse_geneve(raw, 0, len(raw))
    assert (layer.version, layer.vni, layer.proto) == (0, ours.vni, ours.ethertype)
    assert layer.optionlen * 4 + 8 == ours.length
    theirs = [(o.classid, o.type, bytes(o)[4:]) for o in layer.options]
    assert theirs == [tuple(option) for option in parse_options(raw, 0, len(raw))]
