"""What a firewall knows of flows: answers pass because they were asked for, and nothing else."""

from __future__ import annotations

from appliance_sdk.conformance.case import MAY, MUST, SHOULD, Profile, case
from appliance_sdk.conformance.policed import Ends, hosts
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.wire import build_icmp
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN, URG

_F = Profile.FIREWALL
_STATE = (
    "a stateful firewall: what passes towards a client belongs to a flow that the client opened"
)
_DENIED = "what the policy denies, it denies in every packet of the flow"
_ECHO = "RFC 792: it matches echos and replies; GWLB does not know it, its flow is a 3-tuple"
_ICMP = "RFC 1191, RFC 4890 §4.3.1: errors about a flow belong to it"


@case("firewall/unsolicited-syn-ack", MUST, _F, reference=_STATE)
def unsolicited_syn_ack(rig: Rig) -> None:
    """A SYN+ACK to a client that sent no SYN does not pass.

    An appliance that takes connections up in their middle cannot know this of ports that it allows,
    and is only asked about others.
    """
    for port in _ports(rig):
        rig.refused(rig.tcp(port, **hosts(rig)).syn_ack())


@case("firewall/unsolicited-segment", MUST, _F, reference=_STATE)
def unsolicited_segment(rig: Rig) -> None:
    """ACKs, data, FINs and RSTs to a client that has no such connection do not pass, whatever the
    server's port.

    An appliance that takes connections up in their middle cannot know this of ports that it allows,
    and is only asked about others.
    """
    for port in _ports(rig):
        for flags in (ACK, ACK | PSH, ACK | FIN, RST, RST | ACK):
            flow = rig.tcp(port, **hosts(rig))
            data = b"unasked" if flags & PSH else b""
            rig.refused(flow.segment(to_client=True, seq=77_000, flags=flags, data=data))


@case("firewall/unsolicited-udp", MUST, _F, reference=_STATE)
def unsolicited_udp(rig: Rig) -> None:
    """UDP from a server's port 53 to a client that asked nothing does not pass; nor does it keep
    the client from asking, and the answer from passing then."""
    flow = rig.udp(53, **hosts(rig))
    rig.refused(flow.to_client(b"an answer to what?"))
    rig.refused(flow.to_client(b"an answer to what?"))
    rig.returned(flow.to_server(b"question"), flow.to_client(b"answer"))


@case("firewall/unsolicited-ping", MUST, _F, reference=_STATE)
def unsolicited_ping(rig: Rig) -> None:
    """An echo reply that nobody asked for does not pass; nor does it keep the client from asking,
    and the reply from passing then."""
    flow = rig.ping(**hosts(rig))
    rig.refused(flow.reply())
    rig.returned(flow.request(), flow.reply())


@case("firewall/ping-identifier", MAY, _F, reference=_ECHO)
def ping_identifier(rig: Rig) -> None:
    """An echo reply with another identifier than the request does not pass."""
    flow = rig.ping(**hosts(rig))
    rig.returned(flow.request())
    flow.identifier += 1
    rig.refused(flow.reply())
    flow.identifier -= 1
    rig.returned(flow.reply())


@case("firewall/answer-late", MUST, _F, needs=("clock",), reference=_STATE)
def answer_late(rig: Rig) -> None:
    """An hour after the question nothing passes as its answer any more, over UDP and ICMP."""
    dns, ping = rig.udp(53, **hosts(rig)), rig.ping(**hosts(rig))
    rig.returned(dns.to_server(b"question"), ping.request())
    rig.advance(3600.0)
    rig.refused(dns.to_client(b"answer"), ping.reply())


@case("firewall/drop-stays", MUST, _F, reference=_DENIED)
def drop_stays(rig: Rig) -> None:
    """A SYN that is dropped is dropped again each time it is retransmitted, and from other ports of
    the client too."""
    flow = rig.tcp(23, **hosts(rig))
    rig.refused(flow.syn())
    for _ in range(4):
        rig.refused(flow.syn_again())
    for port in range(50000, 50010):
        flow.client_port = port
        rig.refused(flow.syn_again())


@case("firewall/drop-other-direction", MUST, _F, reference=_DENIED)
def drop_other_direction(rig: Rig) -> None:
    """Nothing of a denied flow passes in the other direction either: the server's SYN+ACK, ACKs
    and data."""
    flow = rig.tcp(23, **hosts(rig))
    rig.refused(flow.syn())
    rig.refused(flow.syn_ack(), flow.ack(to_client=True), flow.to_client(b"login:"))
    udp = rig.udp(5353, **hosts(rig))
    rig.refused(udp.to_server(b"question"))
    rig.refused(udp.to_client(b"answer"))


@case("firewall/midstream-denied", MUST, _F, reference=_DENIED)
def midstream_denied(rig: Rig) -> None:
    """Of a connection to a denied port nothing passes though its SYN was never seen, from either
    side."""
    for port in (23, 444):
        flow = rig.tcp(port, **hosts(rig))
        flow.client_next, flow.server_next = 50_000, 60_000
        rig.refused(flow.to_server(b"root"), flow.ack(), flow.fin())
        rig.refused(flow.to_client(b"password:"), flow.ack(to_client=True))


@case("firewall/flags", MUST, _F, reference="RFC 9293 §3.10.7: hosts take some of these for a SYN")
def flags(rig: Rig) -> None:
    """No combination of TCP flags opens a denied port: none, all, FIN, SYN+FIN, SYN+RST, SYN+PSH
    with data."""
    for bits in (0x00, 0xFF, FIN, SYN | FIN, SYN | RST, SYN | URG, FIN | PSH | URG, RST, ACK):
        flow = rig.tcp(23, **hosts(rig))
        rig.refused(flow.segment(to_client=False, seq=1000, flags=bits))
    flow = rig.tcp(23, **hosts(rig))
    rig.refused(flow.segment(to_client=False, seq=1000, flags=SYN | PSH, data=b"root\r\n"))


@case("firewall/source-port", MUST, _F, reference="whoever sends chooses the source port")
def source_port(rig: Rig) -> None:
    """A well-known source port opens nothing, and closes nothing: the destination's counts."""
    for port in (443, 80, 53, 20, 123):
        rig.refused(rig.tcp(23, client_port=port, **hosts(rig)).syn())
        rig.refused(rig.udp(5353, client_port=port, **hosts(rig)).to_server(b"any"))
        turned = Ends(client="203.0.113.60", server="192.0.2.60")
        rig.refused(rig.tcp(40000, **turned, client_port=port).syn())
        rig.refused(rig.udp(40000, **turned, client_port=port).to_server(b"any"))
    rig.returned(*rig.tcp(443, client_port=23, **hosts(rig)).handshake())


@case("firewall/same-address", MUST, _F, reference="RFC 3330, RFC 2267: land, spoofed sources")
def same_address(rig: Rig) -> None:
    """A packet whose source is its own destination, or a server that is a client's address, does
    not pass."""
    for port, own in ((443, "203.0.113.70"), (443, "192.0.2.70"), (80, "203.0.113.70")):
        rig.refused(rig.tcp(port, client=own, server=own, client_port=port).syn())
        rig.refused(rig.tcp(port, client=own, server=own).syn())
    rig.refused(rig.tcp(443, client="203.0.113.71", server="203.0.113.72").syn())
    rig.refused(rig.tcp(443, client="192.0.2.71", server="192.0.2.72").syn())


@case("firewall/same-hosts", MUST, _F, reference=_DENIED + ", and of no other")
def same_hosts(rig: Rig) -> None:
    """A flow that is allowed opens no other one between the same hosts and from the same port, and
    one that is denied does not close it."""
    ends, port = hosts(rig), 40002
    web, dns = rig.tcp(443, **ends, client_port=port), rig.udp(53, **ends, client_port=port)
    rig.returned(*web.handshake(), dns.to_server(b"question"))
    denied, udp = rig.tcp(23, **ends, client_port=port), rig.udp(5353, **ends, client_port=port)
    rig.refused(denied.syn(), denied.ack(), udp.to_server(b"any"), udp.to_client(b"any"))
    rig.refused(rig.tcp(22, **ends, client_port=port).to_client(b"any"))
    rig.returned(dns.to_client(b"answer"), web.to_server(b"as before"), web.to_client(b"likewise"))


@case(
    "firewall/after-close", MUST, _F, reference="RFC 9293 §3.6: a connection ends, its ports stay"
)
def after_close(rig: Rig) -> None:
    """When a connection has ended, its ports may be used again by the client, with a new SYN, and
    open nothing for the server."""
    ends = hosts(rig)
    flow = rig.tcp(443, **ends)
    rig.returned(*flow.handshake(), flow.to_server(b"last"), *flow.closing())
    client, server = ends["server"], ends["client"]
    turned = rig.tcp(flow.client_port, client=client, server=server, client_port=443)
    turned.client_next = 88_000_000
    rig.refused(turned.syn())
    flow.server_port = 23
    rig.refused(flow.syn())
    flow.server_port = 443
    flow.cookie = rig.cookie()
    flow.client_next, flow.server_next = 5_000_000, 7_000_000
    rig.returned(*flow.handshake(), flow.to_server(b"again"), flow.to_client(b"and again"))


@case("firewall/forged-reset", SHOULD, _F, reference="RFC 5961 §3: only the exact number counts")
def forged_reset(rig: Rig) -> None:
    """A RST with a sequence number that the receiver would ignore does not end the connection in
    the firewall."""
    flow = rig.tcp(443, **hosts(rig))
    rig.returned(*flow.handshake(), flow.to_server(b"request"), flow.ack(to_client=True))
    for to_client in (False, True):
        rig.answers(flow.segment(to_client=to_client, seq=0x60000000, flags=RST))
    rig.returned(flow.to_client(b"as before"), flow.ack(), flow.to_server(b"as before"))


@case("firewall/icmp-error", SHOULD, _F, reference=_ICMP)
def icmp_error(rig: Rig) -> None:
    """An ICMP error that quotes an allowed flow passes to the flow's end: from the server, and from
    a router."""
    web, dns = rig.tcp(443, **hosts(rig)), rig.udp(53, **hosts(rig))
    rig.returned(*web.handshake(), dns.to_server(b"question"))
    data = web.to_server(b"too large")
    rig.returned(data)
    router = bytes((198, 51, 100, 1))
    for flow, quoted, sender in ((web, data, router), (dns, dns.to_server(b""), dns.server)):
        body = bytes(4) + quoted.inner[:28]
        rig.returned(flow.carry(build_icmp(sender, flow.client, 3, 4 if flow is web else 3, body)))
    rig.returned(web.to_server(b"smaller"))


@case("firewall/icmp-error-ipv6", SHOULD, _F, needs=("ipv6",), reference=_ICMP)
def icmp_error_ipv6(rig: Rig) -> None:
    """An ICMPv6 error, packet too big, that quotes an allowed flow passes to the flow's end."""
    web = rig.tcp(443, **hosts(rig, ipv6=True))
    rig.returned(*web.handshake())
    data = web.to_server(b"too large" * 100)
    rig.returned(data)
    body = (1280).to_bytes(4, "big") + data.inner[:1000]
    rig.returned(web.carry(build_icmp(web.server, web.client, 2, 0, body)))


@case("firewall/icmp-error-of-denied", MUST, _F, reference=_ICMP + "; and only those")
def icmp_error_of_denied(rig: Rig) -> None:
    """An ICMP error that quotes a denied flow, no flow, or nothing that can be read, does not
    pass."""
    denied, never = rig.tcp(23, **hosts(rig)), rig.udp(5353, **hosts(rig))
    syn = denied.syn()
    rig.refused(syn)
    for flow, quoted in ((denied, syn.inner), (never, never.to_server(b"x").inner)):
        body = bytes(4) + quoted[:28]
        rig.refused(flow.carry(build_icmp(flow.server, flow.client, 3, 3, body)))
    for garbage in (b"", b"\x45", bytes(28), b"\xff" * 28):
        rig.refused(
            denied.carry(build_icmp(denied.server, denied.client, 3, 3, bytes(4) + garbage))
        )


@case("firewall/icmp-local", MUST, _F, reference="RFC 4890 §4.3.3-4; RFC 1812 §5.2.7.2")
def icmp_local(rig: Rig) -> None:
    """Messages between neighbours do not pass: redirects, router and neighbour discovery."""
    four, six = rig.ping(**hosts(rig)), rig.ping(**hosts(rig, ipv6=True))
    quoted = four.request().inner[:28]
    rig.returned(four.request())
    rig.refused(four.carry(build_icmp(four.server, four.client, 5, 1, four.server + quoted)))
    rig.refused(four.carry(build_icmp(four.server, four.client, 9, 0, bytes(12))))
    for kind in (134, 135, 136, 137):
        rig.refused(six.carry(build_icmp(six.server, six.client, kind, 0, bytes(36))))


def _ports(rig: Rig) -> tuple[int, ...]:
    """Server ports from which nothing may come to a client that has not asked."""
    return (23, 12345) if rig.features.midstream else (23, 12345, 443, 80)
