"""A flow's life: both directions, ends, tuples that are used again, what is met in its middle."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.compare import carries, is_reset
from appliance_sdk.conformance.conversation import TcpConversation
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire.packet import ACK

_F = Profile.FLOW
_IDLE = 'AWS guide, "Idle timeout": TCP 350 s by default, others 120 s'
_REUSE = "observed: a tuple that is used again is another flow (gwlbtun, pull request 15)"
_MIDSTREAM = 'AWS guide, "Target failover": flows move to a target that has not seen them begin'


@case("flow/connection", MUST, _F, reference="RFC 9293 §3.5-3.6")
def connection(rig: Rig) -> None:
    """A TCP connection passes from SYN to the last ACK, data both ways."""
    flow = rig.tcp()
    rig.returned(*flow.handshake())
    for _ in range(5):
        rig.returned(flow.to_server(b"request" * 50), flow.ack(to_client=True))
        rig.returned(flow.to_client(b"response" * 150), flow.ack())
    rig.returned(*flow.closing())


@case("flow/connection-ipv6", MUST, _F, needs=("ipv6",), reference="RFC 9293 §3.5-3.6")
def connection_ipv6(rig: Rig) -> None:
    """A TCP connection over IPv6 passes from SYN to the last ACK, data both ways."""
    flow = rig.tcp(ipv6=True)
    rig.returned(*flow.handshake(), flow.to_server(b"request"), flow.to_client(b"response" * 99))
    rig.returned(*flow.closing())


@case("flow/retransmissions", MUST, _F, reference="RFC 9293 §3.8.1: retransmission")
def retransmissions(rig: Rig) -> None:
    """Segments that are sent again, SYN and data, come back each time."""
    flow = rig.tcp()
    rig.returned(flow.syn(), flow.syn_again(), flow.syn_again())
    rig.returned(flow.syn_ack(), flow.ack())
    data = flow.to_server(b"lost on the way")
    rig.returned(data, data, flow.ack(to_client=True), data)


@case("flow/damaged", MUST, _F, reference="RFC 9293 §3.10.7: damaged segments are sent again")
def damaged(rig: Rig) -> None:
    """A segment that was damaged on its way, so that its checksum is wrong, does not keep its
    retransmission from passing."""
    flow = rig.tcp()
    rig.returned(*flow.handshake())
    data = flow.to_server(b"what was sent")
    broken = bytearray(data.inner)
    broken[-6:] = b"noise!"
    rig.answers(flow.carry(bytes(broken)))
    rig.returned(data, flow.ack(to_client=True), flow.to_client(b"on it goes"))


@case("flow/out-of-order", MUST, _F, reference="RFC 9293 §3.4: segments arrive in any order")
def out_of_order(rig: Rig) -> None:
    """Segments that overtake each other all come back; which first is not asked."""
    flow = rig.tcp()
    rig.returned(*flow.handshake())
    segments = [flow.to_server(bytes([65 + number]) * 100) for number in range(6)]
    shuffled = [segments[number] for number in (2, 0, 1, 5, 4, 3)]
    payloads = sorted(reply.payload[40:][20:] for reply in rig.answers(*shuffled))
    sent = sorted(segment.inner[20:] for segment in segments)
    expect(payloads == sent, f"of 6 segments {len(payloads)} came back, or altered")


@case("flow/keep-alive", MUST, _F, reference="RFC 1122 §4.2.3.6; " + _IDLE)
def keep_alive(rig: Rig) -> None:
    """Keep-alives, an old sequence number with one byte or none, come back."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"x"), flow.ack(to_client=True))
    old = flow.client_next - 1
    rig.returned(flow.segment(to_client=False, seq=old), flow.ack(to_client=True))
    rig.returned(flow.segment(to_client=False, seq=old, data=b"\0"), flow.ack(to_client=True))


@case("flow/half-closed", MUST, _F, reference="RFC 9293 §3.6: one direction may end first")
def half_closed(rig: Rig) -> None:
    """After the client's FIN the server still sends, and all of it passes."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"all I have"), flow.fin())
    rig.returned(flow.ack(to_client=True))
    for _ in range(5):
        rig.returned(flow.to_client(b"still coming" * 20), flow.ack())
    rig.returned(flow.fin(to_client=True), flow.ack())


@case("flow/last-ack", MUST, _F, reference="RFC 9293 §3.6: the last ACK may be lost")
def last_ack(rig: Rig) -> None:
    """When both FINs are through, a retransmitted FIN and its ACK still pass."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), *flow.closing())
    again = flow.server_next - 1
    rig.returned(flow.segment(to_client=True, seq=again, flags=0x11), flow.ack())


@case("flow/reset", MUST, _F, reference="RFC 9293 §3.5.2")
def reset(rig: Rig) -> None:
    """A RST passes, in either direction."""
    for to_client in (False, True):
        flow = rig.tcp()
        rig.returned(*flow.handshake(), flow.rst(to_client=to_client))


@case("flow/refused-by-server", MUST, _F, reference="RFC 9293 §3.10.7.1")
def refused_by_server(rig: Rig) -> None:
    """The RST of a server that does not listen passes, and the client may try again."""
    flow = rig.tcp()
    rig.returned(flow.syn(), flow.rst(to_client=True))
    rig.returned(flow.syn_again(), flow.rst(to_client=True))


@case("flow/reuse-after-close", MUST, _F, reference=_REUSE)
def reuse_after_close(rig: Rig) -> None:
    """A tuple that is used again right after FIN both ways, with another cookie and other
    sequence numbers, is a new connection."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), *flow.closing())
    flow.cookie = rig.cookie()
    flow.client_next, flow.server_next = 0x90000000, 0x20000000
    rig.returned(*flow.handshake(), flow.to_server(b"anew"), flow.to_client(b"welcome"))


@case("flow/reuse-after-reset", MUST, _F, reference=_REUSE)
def reuse_after_reset(rig: Rig) -> None:
    """A tuple that is used again right after a RST is a new connection."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.rst())
    flow.cookie = rig.cookie()
    flow.client_next, flow.server_next = 77, 99
    rig.returned(*flow.handshake(), flow.to_server(b"anew"))


@case("flow/reuse-without-close", MUST, _F, reference=_REUSE + "; RFC 9293 §3.10.7.4")
def reuse_without_close(rig: Rig) -> None:
    """A SYN on the tuple of a connection that the client has forgotten, and the server's
    challenge ACK, pass.

    A client that crashed begins anew; the server answers with an ACK, the client resets, and the
    next SYN succeeds.
    """
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"then it crashed"))
    challenge = flow.ack(to_client=True)
    forgotten = flow.client_next
    flow.cookie = rig.cookie()
    flow.client_next = 0x70000000
    syn = flow.syn()
    rig.returned(syn)
    rig.returned(challenge.changed(header=flow.header()))
    rig.returned(flow.segment(to_client=False, seq=forgotten, flags=0x04))
    rig.returned(syn)


@case("flow/midstream", MUST, _F, needs=("midstream",), reference=_MIDSTREAM)
def midstream(rig: Rig) -> None:
    """A connection whose beginning went to another appliance goes on: data from either side
    first."""
    for to_client in (False, True):
        flow = rig.tcp()
        flow.client_next, flow.server_next = 50_000, 60_000
        first = flow.to_client(b"server first") if to_client else flow.to_server(b"client first")
        rig.returned(first, flow.ack(to_client=not to_client), flow.ack(to_client=to_client))
        rig.returned(flow.to_server(b"on it goes"), flow.to_client(b"as before"), *flow.closing())


@case("flow/midstream-steady", MUST, _F, reference=_MIDSTREAM)
def midstream_steady(rig: Rig) -> None:
    """What becomes of connections met in their middle is a policy: the same for each of them,
    and nothing crashes."""
    outcomes = []
    for _ in range(3):
        flow = rig.tcp()
        flow.client_next, flow.server_next = 50_000, 60_000
        data = flow.to_server(b"who are you?")
        outcomes.append(any(carries(reply, data) for reply in rig.answers(data)))
    expect(len(set(outcomes)) == 1, f"returned or not, one after the other: {outcomes}")


@case("flow/one-sided", MUST, _F, reference='AWS guide: "asymmetric routing" is supported so far')
def one_sided(rig: Rig) -> None:
    """A connection whose answers take another way passes: the appliance sees the client only."""
    flow = rig.tcp()
    rig.returned(flow.syn())
    flow.server_next += 1
    rig.returned(flow.ack(), flow.to_server(b"request"))
    flow.server_next += 5000
    rig.returned(flow.ack(), flow.to_server(b"next request"), flow.fin())


@case("flow/many", MUST, _F, reference="flows do not disturb each other")
def many(rig: Rig) -> None:
    """Five hundred connections, their packets mixed, all pass."""
    flows = [rig.tcp() for _ in range(500)]
    for step in (TcpConversation.syn, TcpConversation.syn_ack, TcpConversation.ack):
        for at in range(0, len(flows), 50):
            some = [step(flow) for flow in flows[at : at + 50]]
            for one in some:
                rig.send(one)
            for one in some:  # in whatever order
                rig.comes_back(one)


@case("flow/stuck", SHOULD, _F, reference="one flow that is stuck must not stall the others")
def stuck(rig: Rig) -> None:
    """While one flow is flooded, another's packets still come back.

    flowdog's receive loop waits for the slowest flow.
    """
    loud, other = rig.udp(), rig.tcp()
    rig.returned(other.syn())
    for _ in range(10):
        for number in range(100):
            rig.send(loud.to_server(b"loud %d" % number))
        rig.answers(other.ack())


@case("flow/idle-tcp", SHOULD, _F, needs=("clock", "midstream"), reference=_IDLE)
def idle_tcp(rig: Rig) -> None:
    """A connection that says nothing for 340 s, less than GWLB's idle time, goes on."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"wait"), flow.ack(to_client=True))
    rig.advance(340.0)
    rig.returned(flow.to_client(b"here it is"), flow.ack())


@case("flow/idle-udp", MUST, _F, needs=("clock",), reference=_IDLE)
def idle_udp(rig: Rig) -> None:
    """UDP that says nothing for 121 s goes on, as a new flow with a new cookie."""
    flow = rig.udp()
    rig.returned(flow.to_server(b"question"), flow.to_client(b"answer"))
    rig.advance(121.0)
    flow.cookie = rig.cookie()
    rig.returned(flow.to_server(b"question again"), flow.to_client(b"answer again"))


@case("flow/idle-then-syn", MUST, _F, needs=("clock",), reference=_IDLE + "; a SYN opens anew")
def idle_then_syn(rig: Rig) -> None:
    """After 351 silent seconds GWLB has forgotten a connection; a SYN of the same tuple, with a
    new cookie, opens a new one."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"then silence"))
    rig.advance(351.0)
    flow.cookie = rig.cookie()
    flow.client_next, flow.server_next = 123_456, 654_321
    rig.returned(*flow.handshake(), flow.to_server(b"back again"))


@case("flow/reset-by-gwlb", MUST, _F, needs=("clock",), reference='AWS guide, "TCP reset"')
def reset_by_gwlb(rig: Rig) -> None:
    """Connections that GWLB has reset, which the appliance never sees, are forgotten in time:
    thousands of them leave room for new ones."""
    for number in range(3000):
        flow = rig.tcp()
        rig.send(flow.syn())
        if number % 100 == 99:
            rig.answers()
    rig.answers()
    rig.advance(4000.0)
    rig.returned(*rig.tcp().handshake())


@case("flow/sequence-wrap", MUST, _F, reference="RFC 9293 §3.4: sequence numbers wrap")
def sequence_wrap(rig: Rig) -> None:
    """Sequence numbers go over 2^32 and the connection goes on."""
    flow = rig.tcp()
    flow.client_next, flow.server_next = 0xFFFFFFF0, 0xFFFFFF00
    rig.returned(*flow.handshake())
    for _ in range(4):
        rig.returned(flow.to_server(b"w" * 100), flow.to_client(b"w" * 200), flow.ack())


@case("flow/syn-data", MUST, _F, reference="RFC 7413: TCP Fast Open")
def syn_data(rig: Rig) -> None:
    """A SYN that carries data comes back with its data, or not at all."""
    flow = rig.tcp()
    syn = flow.syn()
    opening = flow.segment(to_client=False, seq=flow.client_next - 1, flags=0x02, data=b"early")
    for reply in rig.answers(opening):
        whole = reply.payload[40:][20:] == opening.inner[20:]
        expect(whole, f"the SYN came back with {len(reply.payload) - 80} bytes, not with 5")
    rig.answers(syn)


@case("flow/strange-flags", MUST, _F, reference="RFC 9293 §3.10.7: what no host sends")
def strange_flags(rig: Rig) -> None:
    """Segments with no flags, with all, and with SYN+FIN do no harm to a connection: each is
    returned as it was, dropped, or answered with a RST."""
    flow = rig.tcp()
    rig.returned(*flow.handshake())
    for flags in (0x00, 0xFF, 0x03, 0x29):
        strange = rig.tcp()
        segment = strange.segment(to_client=False, seq=1, flags=flags)
        for reply in rig.answers(segment):
            fine = reply.payload[52:] == segment.inner[12:] or is_reset(reply)
            expect(fine, "it came back altered")
    rig.returned(flow.to_server(b"as before"), flow.segment(to_client=True, seq=900_001, flags=ACK))
