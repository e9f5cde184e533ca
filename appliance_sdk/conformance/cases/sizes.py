"""Large packets and fragments: up to 8,500 bytes, and what comes in pieces."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.compare import carries
from appliance_sdk.conformance.encapsulation import option
from appliance_sdk.conformance.packets import at_offset, numbered
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_udp, fragment_packet

_T = Profile.TRANSPORT
_MTU = 'AWS guide, "MTU": packets of up to 8,500 bytes; GWLB sends no ICMP error'
_FRAGMENTS = "RFC 791 §3.2; AWS: GWLB does not support fragments, and some pass nevertheless"
_LIMIT = 8500


@case("size/1500", MUST, _T, reference=_MTU)
def ethernet_size(rig: Rig) -> None:
    """Packets of 1,400 to 1,500 bytes, whose encapsulation is larger than 1,500, come back
    whole."""
    flow = rig.udp()
    rig.returned(*(flow.to_server(b"e" * (size - 28)) for size in (1400, 1432, 1433, 1460, 1500)))


@case("size/8500", MUST, _T, needs=("jumbo",), reference=_MTU)
def jumbo(rig: Rig) -> None:
    """Packets of 2,000, 4,000, 8,499 and 8,500 bytes come back whole."""
    flow = rig.udp()
    rig.returned(*(flow.to_server(b"j" * (size - 28)) for size in (2000, 2049, 4096, 8499, _LIMIT)))


@case("size/8500-ipv6", MUST, _T, needs=("jumbo", "ipv6"), reference=_MTU)
def jumbo_ipv6(rig: Rig) -> None:
    """An IPv6 packet of 8,500 bytes comes back whole."""
    rig.returned(rig.udp(ipv6=True).to_server(b"j" * (_LIMIT - 48)))


@case("size/8500-largest-header", MUST, _T, needs=("jumbo",), reference=_MTU)
def jumbo_largest_header(rig: Rig) -> None:
    """A packet of 8,500 bytes behind a GENEVE header of 260 bytes comes back whole."""
    flow = rig.udp()
    more = [option(kind, b"\xff" * size, option_class=0xFFFE) for kind, size in ((7, 124), (8, 88))]
    packet = flow.to_server(b"j" * (_LIMIT - 28))
    rig.returned(packet.changed(header=flow.header([*flow.options, *more])))


@case("size/over-8500", MUST, _T, reference=_MTU + "; observed: larger ones do arrive")
def over_limit(rig: Rig) -> None:
    """A packet of more than 8,500 bytes, should one arrive, is never returned cut short: whole,
    or not at all."""
    flow = rig.udp()
    for size in (8501, 8933, 20000):
        packet = flow.to_server(b"o" * (size - 28))
        for reply in rig.answers(packet):
            got = len(reply.payload)
            expect(got == len(packet.payload), f"{got} of {len(packet.payload)} bytes came back")


@case("size/over-8500-not-returned", SHOULD, _T, reference=_MTU + "; replies above are lost")
def over_limit_not_returned(rig: Rig) -> None:
    """A packet of more than 8,500 bytes is not returned: GWLB would drop it without a word."""
    flow = rig.udp()
    rig.refused(flow.to_server(b"o" * (8933 - 28)))


@case("fragment/in-order", MUST, _T, needs=("fragments",), reference=_FRAGMENTS)
def in_order(rig: Rig) -> None:
    """The fragments of a packet that is allowed come back, each as it was."""
    flow = rig.udp()
    whole = flow.to_server(b"f" * 3000).inner
    rig.returned(*(flow.carry(piece) for piece in fragment_packet(numbered(whole, 1), 1500)))


@case("fragment/in-order-ipv6", MUST, _T, needs=("fragments", "ipv6"), reference="RFC 8200 §4.5")
def in_order_ipv6(rig: Rig) -> None:
    """The fragments of an IPv6 packet that is allowed come back, each as it was."""
    flow = rig.udp(ipv6=True)
    whole = flow.to_server(b"f" * 3000).inner
    rig.returned(*(flow.carry(piece) for piece in fragment_packet(whole, 1500)))


@case("fragment/out-of-order", MUST, _T, reference=_FRAGMENTS)
def out_of_order(rig: Rig) -> None:
    """Fragments of which the first comes last do no harm: each is returned as it was, or
    dropped."""
    flow = rig.udp()
    whole = numbered(flow.to_server(b"f" * 3000).inner, 2)
    pieces = [flow.carry(piece) for piece in reversed(fragment_packet(whole, 1500))]
    strange = [
        reply
        for reply in rig.answers(*pieces)
        if not any(carries(reply, piece) for piece in pieces)
    ]
    expect(not strange, f"{len(strange)} replies are none of the fragments")


@case("fragment/without-first", MUST, _T, reference=_FRAGMENTS)
def without_first(rig: Rig) -> None:
    """A thousand fragments of packets whose first fragment never comes do no harm: other flows
    go on."""
    flow, other = rig.udp(), rig.tcp()
    rig.returned(other.syn())
    for number in range(1000):
        whole = numbered(flow.to_server(b"f" * 2000).inner, number)
        rig.send(flow.carry(fragment_packet(whole, 1500)[1]))
        if number % 100 == 99:
            rig.answers()
    rig.answers()
    rig.returned(other.syn_ack(), other.ack())


@case("fragment/overlapping", SHOULD, _T, reference="RFC 1858; RFC 5722 §4 for IPv6")
def overlapping(rig: Rig) -> None:
    """A fragment that overlaps an earlier one with other bytes is dropped.

    Which bytes count is the receiver's choice, and a way past any inspection.
    """
    flow = rig.udp()
    first, second, *_ = fragment_packet(numbered(flow.to_server(b"A" * 3000).inner, 3), 1500)
    rig.answers(flow.carry(first))
    size = len(first) - 20
    evil = second[:20] + b"B" * (len(second) - 20)
    rig.refused(flow.carry(at_offset(evil, size - 32, more=True)))


@case("fragment/tiny-first", SHOULD, _T, reference="RFC 1858 §3: the tiny fragment attack")
def tiny_first(rig: Rig) -> None:
    """A first TCP fragment so small that the flags are not in it is dropped."""
    flow = rig.tcp()
    packet = numbered(flow.syn().inner, 4)
    rig.refused(flow.carry(fragment_packet(packet, 28)[0]))


@case("size/udp-length", MUST, _T, reference="RFC 768 (Length)")
def udp_length(rig: Rig) -> None:
    """UDP whose length field does not fit its packet is returned as it was, or dropped."""
    flow = rig.udp()
    for length in (0, 7, 9, 60000):
        packet = bytearray(build_udp(*flow.ends(False), 40000, 53, payload=b"length"))
        packet[24:26] = length.to_bytes(2, "big")
        sent = flow.carry(bytes(packet))
        for reply in rig.answers(sent):
            expect(reply.payload[40:][20:] == sent.inner[20:], "it came back altered")
