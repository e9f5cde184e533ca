"""How a firewall says no: who is told, with which numbers, and when nobody may be."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.conversation import Conversation, Datagram
from appliance_sdk.conformance.made import (
    Made,
    check_refusal,
    check_reset,
    check_reset_between,
    read_made,
)
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.conformance.policed import closed_hosts, hosts
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_icmp, build_ip, fragment_packet
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

_F = Profile.FIREWALL
_POLICY = "the suite's policy (`appliance conformance policy`)"
_RST = "RFC 9293 §3.10.7.1: what a closed port answers"
_ICMP = "RFC 1812 §5.2.7.1; RFC 4443 §3.1"
_NEVER = "RFC 1122 §3.2.2; RFC 4443 §2.4(e): never in answer to an error, a group, a later fragment"
_OWN = "GWLB takes what comes in the encapsulation of a live flow, with its newest cookie"


@case("firewall/reject-blocks", MUST, _F, reference=_POLICY)
def reject_blocks(rig: Rig) -> None:
    """What a rule rejects does not pass, whether or not anybody is told: in no packet of the flow,
    in neither direction."""
    for flow in (rig.tcp(25, **hosts(rig)), rig.tcp(443, **closed_hosts(rig))):
        rig.refused(flow.syn())
        rig.refused(flow.syn_again())
        rig.refused(flow.syn_ack())
        rig.refused(flow.ack(), flow.to_server(b"EHLO"))
        rig.refused(flow.to_client(b"250"))
    for udp in (rig.udp(69, **hosts(rig)), rig.udp(53, **closed_hosts(rig))):
        rig.refused(udp.to_server(b"read"))
        rig.refused(udp.to_client(b"data"))
    ping = rig.ping(**closed_hosts(rig))
    rig.refused(ping.request())
    rig.refused(ping.reply())


@case("firewall/reject-tcp", MUST, _F, needs=("reject",), reference=_RST)
def reject_tcp(rig: Rig) -> None:
    """A SYN that is rejected is answered with a RST to the client, as from the server: sequence
    number 0, the SYN acknowledged. The server is told nothing."""
    _reject_tcp(rig, ipv6=False)


@case("firewall/reject-tcp-ipv6", MUST, _F, needs=("reject", "ipv6"), reference=_RST)
def reject_tcp_ipv6(rig: Rig) -> None:
    """A SYN over IPv6 that is rejected is answered with a RST likewise."""
    _reject_tcp(rig, ipv6=True)


@case("firewall/reject-tcp-numbers", MUST, _F, needs=("reject",), reference=_RST)
def reject_tcp_numbers(rig: Rig) -> None:
    """The RST acknowledges all that the SYN takes of the sequence: its data and a FIN too, and
    beyond 2^32."""
    for flags, data, seq in ((SYN, b"early", 7), (SYN | FIN, b"", 9), (SYN, b"", 0xFFFFFFFF)):
        flow = rig.tcp(25, **hosts(rig))
        segment = flow.segment(to_client=False, seq=seq, flags=flags, data=data)
        for made in _answers(rig, segment):
            check_reset(segment, made)


@case("firewall/reject-udp", MUST, _F, needs=("reject",), reference=_ICMP)
def reject_udp(rig: Rig) -> None:
    """UDP that is rejected is answered with an ICMP error to the client, unreachable or
    prohibited, that quotes the IP header and at least eight bytes more."""
    _reject_udp(rig, ipv6=False)


@case("firewall/reject-udp-ipv6", MUST, _F, needs=("reject", "ipv6"), reference=_ICMP)
def reject_udp_ipv6(rig: Rig) -> None:
    """UDP over IPv6 that is rejected is answered with an ICMPv6 error, of 1,280 bytes at most."""
    _reject_udp(rig, ipv6=True)


@case("firewall/reject-encapsulation", MUST, _F, needs=("reject",), reference=_OWN)
def reject_encapsulation(rig: Rig) -> None:
    """An answer comes in the encapsulation of the packet that it answers, also when cookie and
    source port have changed since the flow's first one."""
    tcp, udp = rig.tcp(25, **hosts(rig)), rig.udp(69, **hosts(rig))
    for port in (61003, 61017):
        for flow in (tcp, udp):
            flow.source_port, flow.cookie = port, rig.cookie()
        syn = tcp.syn() if port == 61003 else tcp.syn_again()
        for made in _answers(rig, syn):
            check_reset(syn, made)
        question = udp.to_server(b"read")
        for made in _answers(rig, question):
            check_refusal(question, made)


@case("firewall/reject-two-nodes", MUST, _F, needs=("reject", "nodes"), reference=_OWN)
def reject_two_nodes(rig: Rig) -> None:
    """An answer goes to the node that sent the packet."""
    flow = rig.tcp(25, **hosts(rig))
    flow.node = 1
    syn = flow.syn()
    check_reset(syn, _one_answer(rig, syn))


@case("firewall/reject-again", SHOULD, _F, needs=("reject",), reference=_RST)
def reject_again(rig: Rig) -> None:
    """Each retransmission of a rejected SYN is answered: the first RST may have been lost."""
    flow = rig.tcp(25, **hosts(rig))
    for syn in (flow.syn(), flow.syn_again(), flow.syn_again()):
        check_reset(syn, _one_answer(rig, syn))


@case("firewall/reject-of-reset", MUST, _F, needs=("reject",), reference="RFC 9293 §3.10.7.1")
def reject_of_reset(rig: Rig) -> None:
    """A RST is never answered with a RST."""
    for flags in (RST, RST | ACK, RST | SYN):
        flow = rig.tcp(25, **hosts(rig))
        rig.silence(flow.segment(to_client=False, seq=1000, flags=flags))


@case("firewall/reject-of-icmp", MUST, _F, needs=("reject",), reference=_NEVER)
def reject_of_icmp(rig: Rig) -> None:
    """An ICMP error or an echo reply that is rejected is not answered with an ICMP error."""
    _reject_of_icmp(rig, ipv6=False)


@case("firewall/reject-of-icmpv6", MUST, _F, needs=("reject", "ipv6"), reference=_NEVER)
def reject_of_icmpv6(rig: Rig) -> None:
    """An ICMPv6 error or an echo reply that is rejected is not answered with an ICMPv6 error."""
    _reject_of_icmp(rig, ipv6=True)


@case("firewall/reject-of-group", MUST, _F, needs=("reject",), reference=_NEVER)
def reject_of_group(rig: Rig) -> None:
    """What was sent to a multicast or broadcast address is not answered."""
    for server in ("224.0.0.251", "239.255.255.250", "255.255.255.255"):
        rig.silence(rig.udp(69, client="192.0.2.30", server=server).to_server(b"anybody?"))
    six = rig.udp(69, client="2001:db8:1::30", server="ff02::1")
    rig.silence(six.to_server(b"anybody?"))


@case("firewall/reject-of-fragments", MUST, _F, needs=("reject",), reference=_NEVER)
def reject_of_fragments(rig: Rig) -> None:
    """Of a datagram in fragments at most the first is answered, and that with an error that quotes
    it; a later one alone is not answered."""
    flow = rig.udp(69, **hosts(rig))
    whole = numbered(flow.to_server(b"f" * 3000).inner, 0x77)
    pieces = [flow.carry(piece) for piece in fragment_packet(whole, 1500)]
    made = [read_made(rig, pieces[0], reply) for reply in rig.refused(*pieces)]
    expect(len(made) <= 1, f"a datagram in fragments was answered {len(made)} times")
    for one in made:
        check_refusal(pieces[0], one)
    closed = rig.flow(**closed_hosts(rig))
    later = build_ip(*closed.ends(False), 17, bytes(1480), identification=0x78)
    rig.silence(closed.carry(fragment_packet(later, 600)[1]))


@case("firewall/reject-midstream", MUST, _F, needs=("reject",), reference=_RST)
def reject_midstream(rig: Rig) -> None:
    """When a connection to a rejected port is met in its middle, whoever is told is told with
    numbers that they believe: the client with what it acknowledged, the server with what comes
    next."""
    flow = rig.tcp(25, **hosts(rig))
    flow.client_next, flow.server_next = 50_000, 60_000
    data = flow.segment(to_client=False, seq=50_000, flags=ACK | PSH, data=b"MAIL FROM")
    for made in [read_made(rig, data, reply) for reply in rig.refused(data)]:
        if made.goes_to(flow.client):
            check_reset(data, made)
            continue
        ends = flow.client, flow.server, flow.client_port, flow.server_port
        check_reset_between(made, ends)
        seq = made.headers.seq
        expect(seq == 50_000, f"RST to the server with sequence number {seq}, expected 50000")


@case("firewall/reject-no-more", MUST, _F, needs=("reject",), reference="no appliance amplifies")
def reject_no_more(rig: Rig) -> None:
    """A thousand rejected packets are answered with a thousand at most, none of them larger than
    the packet by more than an ICMP error's headers."""
    ends = hosts(rig)
    total = 0
    for _ in range(20):
        syns = [rig.tcp(25, **ends).syn() for _ in range(25)]
        reads = [rig.udp(69, **ends).to_server(b"read") for _ in range(25)]
        replies = rig.refused(*syns, *reads)
        total += len(replies)
        largest = max((len(reply.payload) for reply in replies), default=0)
        expect(largest <= max(len(read.payload) for read in reads) + 28, f"{largest} bytes")
    expect(total <= 1000, f"1000 packets were answered {total} times")


def _answers(rig: Rig, trigger: Datagram) -> list[Made]:
    """Send it; what the appliance makes in answer, one packet at least."""
    made = [read_made(rig, trigger, reply) for reply in rig.refused(trigger)]
    expect(bool(made), "nobody was told")
    return made


def _one_answer(rig: Rig, trigger: Datagram) -> Made:
    made = _answers(rig, trigger)
    expect(len(made) == 1, f"one packet was answered {len(made)} times")
    return made[0]


def _reject_tcp(rig: Rig, *, ipv6: bool) -> None:
    for ends in (hosts(rig, ipv6=ipv6), closed_hosts(rig, ipv6=ipv6)):
        syn = rig.tcp(25, **ends).syn()
        check_reset(syn, _one_answer(rig, syn))


def _reject_udp(rig: Rig, *, ipv6: bool) -> None:
    for ends in (hosts(rig, ipv6=ipv6), closed_hosts(rig, ipv6=ipv6)):
        for size in (0, 20, 1400):
            question = rig.udp(69, **ends).to_server(b"r" * size)
            check_refusal(question, _one_answer(rig, question))


def _reject_of_icmp(rig: Rig, *, ipv6: bool) -> None:
    for ends in (hosts(rig, ipv6=ipv6), closed_hosts(rig, ipv6=ipv6)):
        udp = rig.udp(69, **ends)
        flow = Conversation(**ends, cookie=rig.cookie(), source_port=61009)
        quoted = udp.to_client(b"quoted").inner[:48]
        unreachable, reply = ((1, 4), (129, 0)) if ipv6 else ((3, 3), (0, 0))
        for kind, code in (unreachable, reply):
            rig.silence(flow.carry(build_icmp(*flow.ends(False), kind, code, bytes(4) + quoted)))
