"""The form of a reply: which addresses and ports are swapped, and what stays as it is."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.conversation import OTHER_ENDPOINT
from appliance_sdk.conformance.rig import Rig, expect

_T = Profile.TRANSPORT
_INTEGRATE = 'AWS blog, "Integrate your custom logic or appliance with AWS Gateway Load Balancer"'


@case("reply/addresses-and-ports", MUST, _T, reference=_INTEGRATE)
def addresses_and_ports(rig: Rig) -> None:
    """A packet goes back with its outer IP addresses swapped and its UDP ports as they were: from
    the port that GWLB sent from, to 6081.

    An ordinary UDP socket swaps the ports too, and every such reply is lost.
    """
    for port in range(61000, 61032):
        flow = rig.tcp()
        flow.source_port = port
        rig.returned(*flow.handshake())


@case("reply/header-unchanged", MUST, _T, reference=_INTEGRATE)
def header_unchanged(rig: Rig) -> None:
    """The GENEVE header of a reply, with all options, is that of the packet, byte for byte."""
    first, second = rig.tcp(), rig.udp(endpoint=OTHER_ENDPOINT)
    rig.returned(*first.handshake(), second.to_server(b"question"), second.to_client(b"answer"))


@case("reply/once", MUST, _T, reference="every packet that is sent twice arrives twice")
def once(rig: Rig) -> None:
    """A packet is returned once, not twice."""
    flow, ping = rig.tcp(), rig.ping()
    for datagram in (rig.udp().to_server(b"once"), flow.syn(), flow.syn_ack(), ping.request()):
        count = len(rig.answers(datagram))
        expect(count == 1, f"one packet was answered {count} times")


@case("reply/same-packet-again", MUST, _T, reference="GWLB is stateless about contents")
def same_packet_again(rig: Rig) -> None:
    """The same packet sent three times, as a retransmission is, comes back three times."""
    flow = rig.tcp()
    rig.returned(flow.syn(), flow.syn_again(), flow.syn_again())


@case(
    "reply/asked-address",
    MUST,
    _T,
    needs=("every_address",),
    reference=_INTEGRATE + ": addresses are swapped",
)
def asked_address(rig: Rig) -> None:
    """An appliance with several addresses answers from the one that was asked."""
    flow = rig.tcp()
    rig.returned(*(one.changed(address=1) for one in flow.handshake()))


@case("reply/two-nodes", MUST, _T, needs=("nodes",), reference="AWS guide: one node per zone")
def two_nodes(rig: Rig) -> None:
    """Packets of two nodes, also from the same UDP port, go back each to its own node.

    flowdog keeps one socket per port, connected to the first node that it sees.
    """
    here, there = rig.tcp(), rig.tcp()
    there.node, there.source_port = 1, here.source_port
    rig.returned(here.syn(), there.syn(), here.syn_ack(), there.syn_ack(), here.ack(), there.ack())


@case(
    "reply/newest-node",
    MUST,
    _T,
    needs=("nodes",),
    reference="AWS guide: nodes are replaced, cross-zone load balancing",
)
def newest_node(rig: Rig) -> None:
    """When a flow's packets come from another node, replies go to that node from then on."""
    flow = rig.tcp()
    rig.returned(flow.syn())
    flow.node = 1
    rig.returned(flow.syn_ack(), flow.ack())
    flow.node = 0
    rig.returned(flow.to_server(b"moved back"))


@case("reply/newest-port", MUST, _T, reference="observed: a flow's source port may change")
def newest_port(rig: Rig) -> None:
    """When a flow's packets come from another UDP port, replies leave from that port."""
    flow = rig.tcp()
    rig.returned(flow.syn(), flow.syn_ack())
    flow.source_port = 61000 if flow.source_port != 61000 else 61001
    rig.returned(flow.ack(), flow.to_server(b"from another port"), flow.to_client(b"likewise"))


@case("reply/shared-port", MUST, _T, reference="the source port is a hash: flows may share it")
def shared_port(rig: Rig) -> None:
    """Flows that share a UDP source port stay apart."""
    flows = [rig.tcp() for _ in range(8)]
    for flow in flows:
        flow.source_port = 61007
    rig.returned(*(flow.syn() for flow in flows))
    rig.returned(*(flow.syn_ack() for flow in reversed(flows)))


@case(
    "reply/any-port",
    MUST,
    _T,
    needs=("every_source_port",),
    reference="AWS documents no range for the source port",
)
def any_port(rig: Rig) -> None:
    """Every UDP source port works: 1, 53, 1023, 6081, 32768, 65535."""
    for port in (1, 53, 1023, 6081, 32768, 49152, 65535):
        flow = rig.tcp()
        flow.source_port = port
        rig.returned(*flow.handshake())


@case("reply/port-6081", SHOULD, _T, reference="AWS documents no range for the source port")
def port_6081(rig: Rig) -> None:
    """A packet whose UDP source port is 6081 too is returned from 6081."""
    flow = rig.tcp()
    flow.source_port = 6081
    rig.returned(*flow.handshake())


@case(
    "reply/newest-cookie",
    MUST,
    _T,
    reference="observed: a 5-tuple that is used again has a new cookie (gwlbtun, pull request 15)",
)
def newest_cookie(rig: Rig) -> None:
    """The same 5-tuple with another cookie is another flow: replies carry the new cookie."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), *flow.closing())
    flow.cookie = rig.cookie()
    flow.client_next, flow.server_next = 5_000_000, 7_000_000
    rig.returned(*flow.handshake(), flow.to_server(b"again"))


@case(
    "reply/own-cookie",
    MUST,
    _T,
    reference="AWS blog: the header is returned with the packet; GWLB drops other cookies",
)
def own_cookie(rig: Rig) -> None:
    """Each packet goes back in its own encapsulation, also when packets of a tuple's former
    flow come among those of its present one.

    Who decides later, in a queue or another thread, and then takes the newest header of the
    tuple, gives some packets the header of others.
    """
    flow = rig.udp()
    rig.returned(flow.to_server(b"one"))
    late = flow.to_server(b"late")
    former = [flow.to_server(b"former %d" % number) for number in range(3)]
    flow.cookie = rig.cookie()
    rig.returned(flow.to_server(b"two"))
    rig.returned(late, flow.to_client(b"three"))
    present = [flow.to_server(b"present %d" % number) for number in range(3)]
    burst = [datagram for pair in zip(former, present, strict=True) for datagram in pair]
    for datagram in burst:
        rig.send(datagram)
    for datagram in burst:
        rig.comes_back(datagram)


@case("reply/order", MUST, _T, reference="a bump in the wire keeps the order of a flow")
def order(rig: Rig) -> None:
    """Packets of one flow that come in a burst go back in the order in which they came."""
    flow = rig.udp()
    burst = [flow.to_server(b"%03d" % number) for number in range(50)]
    replies = rig.answers(*burst)
    got = [reply.payload[-3:].decode(errors="replace") for reply in replies]
    expect(len(got) == len(burst), f"of {len(burst)} packets, {len(got)} came back")
    wrong = next((i for i, text in enumerate(got) if text != f"{i:03d}"), None)
    expect(wrong is None, f"packet {wrong} of a burst was overtaken: {' '.join(got[:60])}")


@case(
    "reply/outer-checksum",
    MUST,
    _T,
    needs=("sockets",),
    reference="RFC 8926 §3.3; RFC 768: 0 or correct",
)
def outer_checksum(rig: Rig) -> None:
    """Datagrams with a UDP checksum and without one (0) are both taken; no reply has a wrong one,
    or it would not arrive."""
    flow = rig.tcp()
    rig.outer_checksums(True)
    rig.returned(*flow.handshake())
    rig.outer_checksums(False)
    rig.returned(flow.to_server(b"without a checksum"))
