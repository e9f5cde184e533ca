"""Protocols and addresses: what has ports and what has none, and who is whose flow."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.conversation import ENDPOINT, OTHER_ENDPOINT
from appliance_sdk.conformance.packets import with_extensions
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_icmp, build_ip, build_udp

_T = Profile.TRANSPORT
_OTHERS = (OTHER_ENDPOINT, ENDPOINT[:-8] + "99999999", ENDPOINT[:-12] + "9999" + ENDPOINT[-8:])
"""Another endpoint; one that differs in the lower 32 bits only; one in the upper."""
_ALL_IP = 'AWS guide: "listens for all IP packets across all ports"'


@case("tuple/other-protocols", MUST, _T, needs=("other_protocols",), reference=_ALL_IP)
def other_protocols(rig: Rig) -> None:
    """ESP, AH, GRE, SCTP, IP in IP, and protocols 253 and 255 come back, both ways."""
    for protocol in (50, 51, 47, 132, 4, 253, 255):
        flow = rig.flow()
        body = bytes(range(64))
        if protocol == 4:
            body = build_udp(flow.client, flow.server, 1, 2, payload=b"inside")
        rig.returned(
            flow.carry(build_ip(*flow.ends(False), protocol, body)),
            flow.carry(build_ip(*flow.ends(True), protocol, body)),
        )


@case("tuple/short-transport", MUST, _T, reference="no port is read beyond the packet's end")
def short_transport(rig: Rig) -> None:
    """TCP or UDP with fewer bytes than its header has does no harm: returned as it was, or
    dropped."""
    for protocol in (6, 17):
        flow = rig.flow()
        for size in (0, 1, 3, 7):
            packet = build_ip(*flow.ends(False), protocol, b"\xff" * size)
            for reply in rig.answers(flow.carry(packet)):
                expect(reply.payload.endswith(packet[12:]), "it came back altered")


@case("tuple/tcp-offset", MUST, _T, reference="RFC 9293 §3.1 (Data Offset)")
def tcp_offset(rig: Rig) -> None:
    """A TCP header that says it is shorter than 20 bytes, or longer than its packet, does no
    harm."""
    flow = rig.tcp()
    for words in (0, 4, 15):
        packet = bytearray(flow.syn_again().inner[:40])
        packet[2:4] = b"\0\x28"
        packet[32] = words << 4
        for reply in rig.answers(flow.carry(bytes(packet))):
            expect(reply.payload[52:] == bytes(packet)[12:], "it came back altered")


@case("tuple/icmp-error", MUST, _T, reference="AWS guide: 3-tuple flows for what has no ports")
def icmp_error(rig: Rig) -> None:
    """An ICMP error from a router about a flow that the appliance never saw does no harm: it is
    forwarded or dropped, the same each time.

    Its 3-tuple is another one than the flow's: GWLB may send it to any appliance.
    """
    flow, router = rig.udp(), rig.flow()
    quoted = flow.to_server(b"too far").inner[:28]
    for kind, code in ((11, 0), (3, 1), (3, 4)):
        packet = build_icmp(router.server, flow.client, kind, code, bytes(4) + quoted)
        counts = {len(rig.answers(router.carry(packet))) for _ in range(2)}
        expect(len(counts) == 1, "it was forwarded once and dropped once")


@case("tuple/icmp-error-of-flow", SHOULD, _T, reference="RFC 1191: path MTU discovery needs them")
def icmp_error_of_flow(rig: Rig) -> None:
    """An ICMP error that quotes a flow which is forwarded comes back."""
    flow = rig.udp()
    question = flow.to_server(b"anybody there?")
    rig.returned(question)
    body = bytes(4) + question.inner[:28]
    rig.returned(flow.carry(build_icmp(flow.server, flow.client, 3, 3, body)))


@case("tuple/icmp-error-truncated", MUST, _T, reference="RFC 792: what is quoted may be cut")
def icmp_error_truncated(rig: Rig) -> None:
    """An ICMP error that quotes garbage, or less than a header, does no harm."""
    flow = rig.flow()
    for quoted in (b"", b"\x45", bytes(19), b"\xff" * 28, b"\x4f" + bytes(27)):
        packet = build_icmp(flow.server, flow.client, 3, 1, bytes(4) + quoted)
        rig.answers(flow.carry(packet))


@case("tuple/extension-headers", MUST, _T, needs=("ipv6",), reference="RFC 8200 §4")
def extension_headers(rig: Rig) -> None:
    """IPv6 with hop-by-hop, routing and destination options in front of UDP comes back."""
    flow = rig.udp(ipv6=True)
    plain = flow.to_server(b"behind extension headers").inner
    hop = bytes((43, 0, 1, 4, 0, 0, 0, 0))
    routing = bytes((60, 0, 4, 0, 0, 0, 0, 0))
    destination = bytes((17, 0, 1, 4, 0, 0, 0, 0))
    rig.returned(flow.carry(with_extensions(plain, 0, hop + routing + destination)))


@case("tuple/extension-chain", MUST, _T, needs=("ipv6",), reference="RFC 8200 §4: bounded work")
def extension_chain(rig: Rig) -> None:
    """A hundred extension headers, or one that is longer than the packet, do no harm."""
    flow = rig.udp(ipv6=True)
    plain = flow.to_server(b"x").inner
    many = bytes((60, 0, 1, 4, 0, 0, 0, 0)) * 99 + bytes((17, 0, 1, 4, 0, 0, 0, 0))
    rig.answers(flow.carry(with_extensions(plain, 60, many)))
    rig.answers(flow.carry(with_extensions(plain, 60, bytes((17, 255, 1, 4, 0, 0, 0, 0)))))


@case(
    "tuple/no-next-header",
    MUST,
    _T,
    needs=("ipv6", "other_protocols"),
    reference="RFC 8200 §4.7",
)
def no_next_header(rig: Rig) -> None:
    """IPv6 with no next header (59), and ESP over IPv6, come back."""
    flow = rig.flow(ipv6=True)
    for protocol in (59, 50):
        rig.returned(flow.carry(build_ip(*flow.ends(False), protocol, bytes(range(40)))))


@case("tuple/two-endpoints", MUST, _T, reference="address ranges behind two endpoints may overlap")
def two_endpoints(rig: Rig) -> None:
    """The same 5-tuple behind two endpoints is two flows: each packet goes back to its own."""
    for number, endpoint in enumerate(_OTHERS, 1):
        client, server = f"198.18.0.{number}", "198.19.0.1"
        one = rig.tcp(client=client, server=server, client_port=40000)
        other = rig.tcp(client=client, server=server, client_port=40000, endpoint=endpoint)
        other.source_port = one.source_port
        rig.returned(one.syn(), other.syn(), one.syn_ack(), other.syn_ack(), other.ack(), one.ack())
        rig.returned(one.rst(), other.to_server(b"not mine"), other.to_client(b"nor mine"))


@case("tuple/same-cookie", MUST, _T, reference="a cookie's scope is not documented")
def same_cookie(rig: Rig) -> None:
    """Two flows of two endpoints with the same cookie stay apart.

    flowdog's flow table knows the cookie alone.
    """
    one, other = rig.tcp(), rig.tcp(endpoint=OTHER_ENDPOINT)
    other.cookie = one.cookie
    rig.returned(one.syn(), other.syn(), one.syn_ack(), other.syn_ack(), one.ack(), other.ack())


@case("tuple/equal-ports", MUST, _T, reference="a symmetric key must still tell directions apart")
def equal_ports(rig: Rig) -> None:
    """A flow between equal ports, as NTP and IKE use them, comes back both ways."""
    for port in (123, 500):
        flow = rig.udp(port, client_port=port)
        rig.returned(flow.to_server(b"there"), flow.to_client(b"and back"))


@case("tuple/one-address", MUST, _T, reference="RFC 3330: the land attack")
def one_address(rig: Rig) -> None:
    """A packet from an address and port to the same address and port does no harm."""
    flow = rig.tcp(443, client="198.18.7.7", server="198.18.7.7", client_port=443)
    rig.answers(flow.syn())


@case("tuple/many-endpoints", MUST, _T, reference="endpoints come and go: state is bounded")
def many_endpoints(rig: Rig) -> None:
    """Packets of 2,000 different endpoints do no harm: flows of others go on."""
    known = rig.tcp()
    rig.returned(*known.handshake())
    for number in range(2000):
        flow = rig.udp(endpoint=f"vpce-0{0xABC0000000000000 + number:016x}")
        rig.send(flow.to_server(b"x"))
        if number % 100 == 99:
            rig.answers()
    rig.answers()
    rig.returned(known.to_server(b"still here"))


@case(
    "origin/stranger",
    MUST,
    _T,
    needs=("origins",),
    reference="whoever reaches UDP 6081 could send packets: AWS recommends security groups",
)
def stranger(rig: Rig) -> None:
    """GENEVE from an address outside the load balancer's subnets is dropped, and changes nothing
    for the flow that it names."""
    flow = rig.tcp()
    rig.returned(flow.syn())
    answer = flow.syn_ack()
    rig.silence(answer.changed(node=2), flow.rst().changed(node=2))
    rig.returned(answer, flow.ack(), flow.to_server(b"as before"))
