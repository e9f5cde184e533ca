"""Ways around a policy: ports that stand elsewhere, in pieces, twice, or not at all."""

from __future__ import annotations

import struct

from appliance_sdk.conformance.case import MUST, Profile, case
from appliance_sdk.conformance.conversation import Conversation, Datagram
from appliance_sdk.conformance.packets import at_offset, numbered, with_extensions, with_options
from appliance_sdk.conformance.policed import blocked_hosts, hosts
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.wire import build_ip, build_udp, fragment_packet

_F = Profile.FIREWALL
_IHL = "RFC 791 §3.1 (IHL): ports stand behind the options"
_CHAIN = "RFC 8200 §4: ports stand behind the extension headers"
_FRAGMENTS = "RFC 791 §3.2; RFC 1858 §2: fragments share the fate of their datagram"
_OVERLAP = "RFC 1858 §4, RFC 3128: what overlaps may put other ports into the first bytes"


@case("firewall/ip-options", MUST, _F, reference=_IHL)
def ip_options(rig: Rig) -> None:
    """Ports are read behind IPv4 options: bytes in the options that look like an allowed port open
    nothing, and those that look like a denied one close nothing."""
    denied, allowed = rig.tcp(23, **hosts(rig)), rig.tcp(443, **hosts(rig))
    # Where the ports of a packet without options stand: 0x01BB is 443 and also a NOP and an option
    # of type 187; 0x0017 is 23, as a stream identifier.
    looks_allowed, looks_denied = b"\x01\x01\x01\xbb\x05\0\0\0", b"\x88\x04\x00\x17"
    rig.refused(denied.carry(with_options(denied.syn().inner, looks_allowed)))
    rig.refused(denied.carry(with_options(denied.syn().inner, b"\x01" * 40)))
    rig.returned(allowed.carry(with_options(allowed.syn().inner, looks_denied)))


@case("firewall/extension-headers", MUST, _F, needs=("ipv6",), reference=_CHAIN)
def extension_headers(rig: Rig) -> None:
    """Ports are read behind IPv6 extension headers: what is denied stays denied, and what is
    allowed passes, behind hop-by-hop, routing and destination options."""
    denied, allowed = rig.tcp(23, **hosts(rig, ipv6=True)), rig.tcp(443, **hosts(rig, ipv6=True))
    denied_udp = rig.udp(5353, **hosts(rig, ipv6=True))
    udp = denied_udp.to_server(b"any").inner
    # Where the ports of a packet without extensions stand: padding of 187 bytes (0x01 0xBB) looks
    # like port 443, and a padding byte before an option of type 0x35 like port 53.
    dns = bytes((17, 0, 0, 0x35, 3, 0, 0, 0))
    chain = _like_https(43) + bytes((60, 0, 4, 0, 0, 0, 0, 0)) + _like_https(6)
    rig.refused(denied.carry(with_extensions(denied.syn().inner, 0, chain)))
    rig.refused(denied.carry(with_extensions(denied.syn().inner, 60, _like_https(6))))
    rig.refused(denied_udp.carry(with_extensions(udp, 60, dns)))
    rig.returned(allowed.carry(with_extensions(allowed.syn().inner, 0, chain)))


@case("firewall/no-ports", MUST, _F, reference="what has no port is allowed to none")
def no_ports(rig: Rig) -> None:
    """TCP or UDP too short to hold its ports, or its whole header, does not pass."""
    for number, size in ((6, 20), (17, 8)):
        flow = rig.flow(**hosts(rig))
        header = struct.pack(">HH", 40000, 443 if number == 6 else 53) + bytes(size - 4)
        for length in (0, 1, 3, size - 1):
            rig.refused(flow.carry(build_ip(*flow.ends(False), number, header[:length])))


@case("firewall/fragments-allowed", MUST, _F, needs=("fragments",), reference=_FRAGMENTS)
def fragments_allowed(rig: Rig) -> None:
    """The fragments of an allowed flow pass: of a question in pieces, and of TCP data."""
    dns, web = rig.udp(53, **hosts(rig)), rig.tcp(443, **hosts(rig))
    rig.returned(*_pieces(dns, dns.to_server(b"f" * 3000).inner))
    rig.returned(*web.handshake(), *_pieces(web, web.to_server(b"t" * 3000).inner))


@case("firewall/fragments-denied", MUST, _F, reference=_FRAGMENTS)
def fragments_denied(rig: Rig) -> None:
    """No fragment of a denied datagram passes: neither the first nor the rest, which have no
    ports to be judged by."""
    for flow, packet in _denied(rig, ipv6=False):
        rig.refused(*_pieces(flow, packet))


@case("firewall/fragments-denied-ipv6", MUST, _F, needs=("ipv6",), reference=_FRAGMENTS)
def fragments_denied_ipv6(rig: Rig) -> None:
    """No fragment of a denied IPv6 datagram passes, nor a denied packet with a fragment header
    that says it is whole (RFC 6946)."""
    for flow, packet in _denied(rig, ipv6=True):
        rig.refused(*_pieces(flow, packet))
    flow = rig.tcp(23, **hosts(rig, ipv6=True))
    atomic = struct.pack(">BBHI", 6, 0, 0, 0x5EED)
    rig.refused(flow.carry(with_extensions(flow.syn().inner, 44, atomic)))


@case("firewall/fragments-denied-reversed", MUST, _F, reference=_FRAGMENTS)
def fragments_denied_reversed(rig: Rig) -> None:
    """No fragment of a denied datagram passes, also when the first one comes last."""
    for flow, packet in _denied(rig, ipv6=False):
        rig.refused(*reversed(_pieces(flow, packet)))


@case("firewall/fragments-borrowed", MUST, _F, reference=_FRAGMENTS)
def fragments_borrowed(rig: Rig) -> None:
    """The rest of a datagram does not pass because an allowed one has the same identification: the
    addresses and the protocol must be the same too."""
    allowed, blocked = rig.udp(53, **hosts(rig)), rig.udp(53, **blocked_hosts(rig))
    first, *_ = _pieces(allowed, allowed.to_server(b"a" * 3000).inner)
    rig.answers(first)
    _, second, _ = _pieces(blocked, blocked.to_server(b"b" * 3000).inner)
    rig.refused(second)
    as_tcp = bytearray(_pieces(allowed, allowed.to_server(b"c" * 3000).inner)[1].inner)
    as_tcp[9] = 6
    rig.refused(allowed.carry(at_offset(bytes(as_tcp), 1480, more=True)))


@case("firewall/fragment-overlap", MUST, _F, reference=_OVERLAP)
def fragment_overlap(rig: Rig) -> None:
    """A second first fragment, with a denied port where the allowed one stood, does not pass; nor
    does one that begins eight bytes later and rewrites the TCP flags."""
    ends = hosts(rig)
    allowed, denied = (rig.tcp(port, **ends, client_port=40003) for port in (443, 23))
    begins, again = (flow.syn().inner[20:] + bytes(32) for flow in (allowed, denied))
    for number, offset, rest in ((9, 0, again), (10, 8, begins[8:16] + bytes(40))):
        first = build_ip(*allowed.ends(False), 6, begins, identification=number)
        second = build_ip(*allowed.ends(False), 6, rest, identification=number)
        rig.answers(allowed.carry(at_offset(first, 0, more=True)))
        rig.refused(allowed.carry(at_offset(second, offset, more=False)))


@case("firewall/fragment-tiny", MUST, _F, reference="RFC 1858 §3: the tiny fragment attack")
def fragment_tiny(rig: Rig) -> None:
    """A denied SYN in fragments of eight bytes, so that its ports, numbers and flags come apart,
    does not pass in any of them."""
    flow = rig.tcp(23, **hosts(rig))
    rig.refused(
        *(flow.carry(piece) for piece in fragment_packet(numbered(flow.syn().inner, 5), 28))
    )


@case("firewall/nested", MUST, _F, reference="the outer packet of the two is what is judged")
def nested(rig: Rig) -> None:
    """A denied packet does not pass because an allowed one is inside."""
    flow, inside = rig.flow(**hosts(rig)), rig.tcp(443, **hosts(rig))
    rig.refused(flow.carry(build_ip(*flow.ends(False), 4, inside.syn().inner)))
    body = inside.header() + inside.syn().inner
    rig.refused(flow.carry(build_udp(*flow.ends(False), 40000, 6081, payload=body)))


@case("firewall/trailing-bytes", MUST, _F, reference="RFC 791 §3.1 (Total Length)")
def trailing_bytes(rig: Rig) -> None:
    """A denied packet does not pass because an allowed one stands behind its end."""
    flow, other = rig.tcp(23, **hosts(rig)), rig.tcp(443, **hosts(rig))
    rig.silence(flow.carry(flow.syn().inner + other.syn().inner))


def _pieces(flow: Conversation, packet: bytes) -> list[Datagram]:
    """The packet in fragments for an MTU of 1,500 bytes."""
    whole = packet if flow.ipv6 else numbered(packet, 0x1234)
    return [flow.carry(piece) for piece in fragment_packet(whole, 1500)]


def _denied(rig: Rig, *, ipv6: bool) -> list[tuple[Conversation, bytes]]:
    """Flows that the policy denies, each with a large packet: by port, and answers unasked.

    What they carry looks like allowed ports, wherever a fragment begins.
    """
    tcp, udp = rig.tcp(23, **hosts(rig, ipv6=ipv6)), rig.udp(5353, **hosts(rig, ipv6=ipv6))
    dns, ping = rig.udp(53, **hosts(rig, ipv6=ipv6)), rig.ping(**hosts(rig, ipv6=ipv6))
    web, names = (struct.pack(">HH", 40000, port) * 750 for port in (443, 53))
    return [
        (tcp, tcp.to_server(web).inner),
        (udp, udp.to_server(names).inner),
        (dns, dns.to_client(names).inner),
        (ping, ping.reply(data=names).inner),
    ]


def _like_https(following: int) -> bytes:
    """Options of 192 bytes, all of it padding, that begin like ports: to 443."""
    return bytes((following, 23, 1, 187)) + bytes(188)
