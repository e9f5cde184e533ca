"""The packet inside: what is given back as it came, and what cannot be read and is dropped."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.compare import carries, without_ttl
from appliance_sdk.conformance.packets import with_checksum, with_options
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_ip, build_udp

_T = Profile.TRANSPORT
_UNTOUCHED = 'AWS guide, "Gateway Load Balancers": transparent; packets go on as they came'


@case("inner/unaltered", MUST, _T, reference=_UNTOUCHED)
def unaltered(rig: Rig) -> None:
    """An IPv4 packet comes back byte for byte; only its TTL may have become one less."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(bytes(range(256))), flow.to_client(b"\0" * 700))


@case("inner/ttl", SHOULD, _T, reference="a bump in the wire is no router")
def ttl(rig: Rig) -> None:
    """The TTL of a packet stays as it was."""
    rig.returned(rig.udp().to_server(b"ttl"), ttl_may_fall=False)


@case("inner/ipv6", MUST, _T, needs=("ipv6",), reference='AWS guide, "IP address type"')
def ipv6(rig: Rig) -> None:
    """An IPv6 packet, inside IPv4 and GENEVE, comes back byte for byte."""
    tcp, udp, ping = rig.tcp(ipv6=True), rig.udp(ipv6=True), rig.ping(ipv6=True)
    rig.returned(*tcp.handshake(), tcp.to_server(b"over six"))
    rig.returned(udp.to_server(b"question"), udp.to_client(b"answer"))
    rig.returned(ping.request(), ping.reply())


@case("inner/ping", MUST, _T, reference="AWS guide: all IP traffic, ICMP as a 3-tuple flow")
def ping(rig: Rig) -> None:
    """ICMP echo request and reply come back."""
    flow = rig.ping()
    rig.returned(flow.request(1), flow.reply(1), flow.request(2), flow.reply(2))


@case("inner/dscp-ecn-df", MUST, _T, reference=_UNTOUCHED)
def dscp_ecn_df(rig: Rig) -> None:
    """DSCP, ECN, DF and the identification of a packet stay as they were."""
    flow = rig.udp()
    packet = bytearray(flow.to_server(b"marked").inner)
    packet[1] = 0xB8 | 0x01
    packet[4:8] = b"\xbe\xef\x40\x00"
    rig.returned(flow.carry(with_checksum(packet)))


@case("inner/bad-checksum", MUST, _T, reference="a bump in the wire does not repair")
def bad_checksum(rig: Rig) -> None:
    """A TCP or UDP checksum that is wrong is neither repaired nor removed: the packet comes back
    as it is, or not at all."""
    flow = rig.udp()
    for wrong in (b"\x12\x34", b"\x00\x00"):
        packet = bytearray(flow.to_server(b"checksum " + wrong.hex().encode()).inner)
        packet[26:28] = wrong
        datagram = flow.carry(bytes(packet))
        for reply in rig.answers(datagram):
            expect(carries(reply, datagram), "a packet came back with another checksum")


@case("inner/udp-without-checksum", MUST, _T, reference="RFC 768: 0 means that there is none")
def udp_without_checksum(rig: Rig) -> None:
    """UDP without a checksum comes back without one."""
    flow = rig.udp()
    packet = bytearray(flow.to_server(b"no checksum").inner)
    packet[26:28] = b"\0\0"
    rig.returned(flow.carry(bytes(packet)))


@case("inner/truncated", MUST, _T, reference="RFC 791 §3.1 (Total Length); RFC 8200 §3")
def truncated(rig: Rig) -> None:
    """A packet of which less came than its length field says is dropped."""
    four, six = rig.udp(), rig.udp(ipv6=True)
    for flow in (four, six):
        whole = flow.to_server(b"truncated").inner
        rig.silence(flow.carry(whole[:-1]), flow.carry(whole[: 20 if flow is four else 40]))


@case("inner/shorter-than-header", MUST, _T, reference="RFC 791 §3.1; RFC 8200 §3")
def shorter_than_header(rig: Rig) -> None:
    """One to 19 bytes of IPv4, or 39 of IPv6, are no packet: dropped, and nothing crashes."""
    four, six = rig.udp(), rig.udp(ipv6=True)
    whole = four.to_server(b"x").inner, six.to_server(b"x").inner
    rig.silence(*(four.carry(whole[0][:size]) for size in (1, 4, 12, 19)))
    rig.silence(*(six.carry(whole[1][:size]) for size in (1, 8, 24, 39)))


@case("inner/header-length", MUST, _T, reference="RFC 791 §3.1 (IHL)")
def header_length(rig: Rig) -> None:
    """An IPv4 header that says it is shorter than 20 bytes, or longer than its packet: dropped."""
    flow = rig.udp()
    whole = flow.to_server(b"x").inner
    for words in (0, 4, 15):
        packet = bytearray(whole)
        packet[0] = 0x40 | words
        rig.silence(flow.carry(with_checksum(packet)))


@case("inner/ip-options", MUST, _T, reference="RFC 791 §3.1 (Options)")
def ip_options(rig: Rig) -> None:
    """A packet with IPv4 options comes back with them, byte for byte."""
    flow = rig.udp()
    plain = flow.to_server(b"with options").inner
    options = b"\x94\x04\x00\x00" + b"\x01" * 8  # router alert, then padding
    rig.returned(flow.carry(with_options(plain, options)))


@case("inner/trailing-bytes", MUST, _T, reference="RFC 791 §3.1 (Total Length)")
def trailing_bytes(rig: Rig) -> None:
    """Bytes behind the packet's own end are cut off or come back as they were; the packet comes
    back in either case."""
    flow = rig.udp()
    packet = flow.to_server(b"padded")
    padded = flow.carry(packet.inner + b"\xee" * 6)
    payloads = [reply.payload for reply in rig.answers(padded)]
    one = len(payloads) == 1
    expect(one, f"the packet came back {len(payloads)} times")
    inner = without_ttl(payloads[0][len(packet.header) :])
    right = inner in (without_ttl(packet.inner), without_ttl(padded.inner))
    expect(right, f"{len(payloads[0])} bytes came back, neither with nor without what trailed")


@case("inner/tiny", MUST, _T, reference="RFC 791: 20 bytes are a packet")
def tiny(rig: Rig) -> None:
    """The smallest packets come back: an IP header alone, and UDP without data.

    gwlbtun wants more than 20 bytes.
    """
    flow = rig.udp()
    rig.returned(flow.to_server(b""))
    bare = rig.flow()
    rig.returned(bare.carry(build_ip(bare.client, bare.server, 59, b"")))


@case("inner/source-port-6081", MUST, _T, reference=_UNTOUCHED)
def geneve_inside(rig: Rig) -> None:
    """Inner packets from or to UDP port 6081 or 4789 are packets like others.

    What looks like GENEVE or VXLAN inside is a host's traffic, not the load balancer's.
    """
    for ports in ((6081, 53), (5353, 6081), (5353, 4789)):
        flow = rig.udp(ports[1], client_port=ports[0])
        body = flow.header() + flow.to_server(b"nested").inner
        rig.returned(flow.carry(build_udp(flow.client, flow.server, *ports, payload=body)))


@case("inner/multicast", SHOULD, _T, reference="AWS VPC: no broadcast or multicast")
def multicast(rig: Rig) -> None:
    """Packets to a multicast or broadcast address are dropped: a VPC has none."""
    for server in ("224.0.0.251", "255.255.255.255"):
        rig.silence(rig.udp(5353, server=server).to_server(b"anybody?"))
