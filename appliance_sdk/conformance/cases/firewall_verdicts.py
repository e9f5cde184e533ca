"""What the suite's policy allows, drops and leaves to its default: by order, protocol, end."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, Profile, case
from appliance_sdk.conformance.compare import carries
from appliance_sdk.conformance.conversation import OTHER_ENDPOINT
from appliance_sdk.conformance.policed import Ends, blocked_hosts, hosts, open_hosts
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_ip, build_udp

_F = Profile.FIREWALL
_POLICY = "the suite's policy (`appliance conformance policy`)"
_DROP = 'AWS blog, "Integrate your custom logic": what is not returned is dropped'
_OVERLAP = "address ranges behind two endpoints may overlap, and their policies differ"


@case("firewall/allow", MUST, _F, reference=_POLICY)
def allow(rig: Rig) -> None:
    """What a rule allows passes, both ways and to its end: HTTP and HTTPS from SYN to the last
    ACK, DNS, ping."""
    _allowed(rig, ipv6=False)


@case("firewall/allow-ipv6", MUST, _F, needs=("ipv6",), reference=_POLICY)
def allow_ipv6(rig: Rig) -> None:
    """What a rule allows passes over IPv6 likewise."""
    _allowed(rig, ipv6=True)


@case("firewall/drop", MUST, _F, reference=_POLICY + "; " + _DROP)
def drop(rig: Rig) -> None:
    """What a rule drops does not pass: telnet, to any server."""
    rig.refused(rig.tcp(23, **hosts(rig)).syn())
    rig.refused(rig.tcp(23, **open_hosts(rig)).syn())


@case("firewall/drop-ipv6", MUST, _F, needs=("ipv6",), reference=_POLICY + "; " + _DROP)
def drop_ipv6(rig: Rig) -> None:
    """What a rule drops over IPv6, or no rule allows, does not pass."""
    rig.refused(rig.tcp(23, **hosts(rig, ipv6=True)).syn())
    rig.refused(rig.tcp(23, **open_hosts(rig, ipv6=True)).syn())
    rig.refused(rig.tcp(444, **hosts(rig, ipv6=True)).syn())
    rig.refused(rig.udp(5353, **hosts(rig, ipv6=True)).to_server(b"any"))
    rig.refused(rig.tcp(443, **blocked_hosts(rig, ipv6=True)).syn())


@case("firewall/drop-silent", MUST, _F, reference=_POLICY + ": nobody is told of a drop")
def drop_silent(rig: Rig) -> None:
    """Nothing at all is sent for what is dropped: no reset, no ICMP error."""
    rig.silence(rig.tcp(23, **hosts(rig)).syn(), rig.tcp(444, **hosts(rig)).syn())
    rig.silence(rig.udp(5353, **hosts(rig)).to_server(b"anybody there?"))
    rig.silence(rig.ping(client="192.0.2.9", server="198.51.100.9").request())


@case("firewall/default", MUST, _F, reference=_POLICY + ": the default is drop")
def default(rig: Rig) -> None:
    """What no rule allows does not pass: other ports, other servers, other clients."""
    for port in (1, 22, 79, 81, 442, 444, 8443, 65535):
        rig.refused(rig.tcp(port, **hosts(rig)).syn())
    for port in (52, 54, 123, 5353):
        rig.refused(rig.udp(port, **hosts(rig)).to_server(b"any"))
    for client, server in (
        ("192.0.3.1", "203.0.113.30"),
        ("192.0.1.255", "203.0.113.30"),
        ("192.0.2.1", "203.0.114.30"),
        ("192.0.2.1", "198.19.0.1"),
        ("198.18.0.1", "203.0.113.30"),
    ):
        rig.refused(rig.tcp(443, client=client, server=server).syn())


@case("firewall/protocol", MUST, _F, reference=_POLICY)
def protocol(rig: Rig) -> None:
    """A rule for TCP allows no UDP to the same port, and one for UDP no TCP."""
    rig.refused(rig.udp(443, **hosts(rig)).to_server(b"quic?"))
    rig.refused(rig.udp(80, **hosts(rig)).to_server(b"any"))
    rig.refused(rig.tcp(53, **hosts(rig)).syn())


@case("firewall/other-protocols", MUST, _F, reference=_POLICY + ": the default is drop")
def other_protocols(rig: Rig) -> None:
    """Protocols that no rule names do not pass, whatever is inside: GRE, ESP, SCTP, IP in IP, and
    unassigned ones."""
    for number in (47, 50, 132, 4, 41, 253, 255):
        flow = rig.flow(**hosts(rig))
        body = bytes(range(64))
        if number == 4:
            body = build_udp(flow.client, flow.server, 40000, 53, payload=b"inside")
        rig.refused(flow.carry(build_ip(*flow.ends(False), number, body)))


@case("firewall/first-match", MUST, _F, reference=_POLICY + ": the first rule that matches counts")
def first_match(rig: Rig) -> None:
    """Of two rules that match, the first counts: mail to the relay passes and to others does not,
    an open server's ports are open except telnet and mail."""
    rig.returned(*rig.tcp(25, client="192.0.2.7", server="203.0.113.25").handshake())
    for server in ("203.0.113.24", "203.0.113.26"):
        rig.refused(rig.tcp(25, client="192.0.2.7", server=server).syn())
    for port in (8080, 22, 444):
        rig.returned(*rig.tcp(port, **open_hosts(rig)).handshake())
    for port in (23, 25):
        rig.refused(rig.tcp(port, **open_hosts(rig)).syn())


@case("firewall/network-borders", MUST, _F, reference="RFC 4632 §3.1: prefixes of any length")
def network_borders(rig: Rig) -> None:
    """A network ends where its prefix says: nothing from 192.0.2.192/26 passes, and its
    neighbours' packets do."""
    for last, passes in ((191, True), (192, False), (224, False), (255, False), (1, True)):
        flow = rig.tcp(443, client=f"192.0.2.{last}", server="203.0.113.40")
        if passes:
            rig.returned(*flow.handshake())
        else:
            rig.refused(flow.syn())
    rig.refused(rig.tcp(8080, client="192.0.2.5", server="203.0.113.127").syn())
    rig.returned(*rig.tcp(8080, client="192.0.2.5", server="203.0.113.128").handshake())


@case("firewall/blocked-network", MUST, _F, reference=_POLICY)
def blocked_network(rig: Rig) -> None:
    """Nothing from a blocked network passes, of any protocol, to any server, and no answer to it
    either."""
    for flow in (
        rig.tcp(443, **blocked_hosts(rig)),
        rig.tcp(25, client="192.0.2.200", server="203.0.113.25"),
    ):
        rig.refused(flow.syn())
        rig.refused(flow.syn_ack(), flow.to_client(b"an answer nevertheless"))
    dns = rig.udp(53, **blocked_hosts(rig))
    rig.refused(dns.to_server(b"question"))
    rig.refused(dns.to_client(b"answer"))
    ping = rig.ping(**blocked_hosts(rig))
    rig.refused(ping.request())
    rig.refused(ping.reply())


@case("firewall/direction", MUST, _F, reference=_POLICY + ": source is who opens the flow")
def direction(rig: Rig) -> None:
    """That clients may open flows to servers does not allow servers to open the same to
    clients."""
    turned = Ends(client="203.0.113.50", server="192.0.2.50")
    for port in (443, 80):
        rig.refused(rig.tcp(port, **turned).syn())
    rig.refused(rig.udp(53, **turned).to_server(b"question"))
    rig.refused(rig.ping(**turned).request())


@case("firewall/scan", MUST, _F, reference=_POLICY)
def scan(rig: Rig) -> None:
    """Of the SYNs of a port scan those to the allowed ports pass, and no other."""
    ends = hosts(rig)
    through = set()
    for first in range(1, 501, 50):
        flows = [rig.tcp(port, **ends) for port in range(first, first + 50)]
        syns = [flow.syn() for flow in flows]
        replies = rig.answers(*syns)
        for flow, syn in zip(flows, syns, strict=True):
            if any(carries(reply, syn) for reply in replies):
                through.add(flow.server_port)
    expect(through == {80, 443}, f"let through: {_shown(through)}, not 80 and 443")


@case("firewall/endpoints", MUST, _F, needs=("endpoints",), reference=_OVERLAP)
def endpoints(rig: Rig) -> None:
    """The same 5-tuple behind two endpoints is judged by each endpoint's own rules, and what is
    known of one flow says nothing of the other."""
    for port, here in ((443, True), (23, False)):
        ends = hosts(rig)
        one = rig.tcp(port, **ends, client_port=40001)
        other = rig.tcp(port, **ends, client_port=40001, endpoint=OTHER_ENDPOINT)
        passes, stays = (one, other) if here else (other, one)
        rig.returned(passes.syn())
        rig.refused(stays.syn())
        rig.returned(passes.syn_ack(), passes.ack())
        rig.refused(stays.syn_ack(), stays.ack(), stays.to_server(b"not here"))
        rig.returned(passes.to_server(b"here"), passes.to_client(b"and back"))


def _allowed(rig: Rig, *, ipv6: bool) -> None:
    for port in (443, 80):
        flow = rig.tcp(port, **hosts(rig, ipv6=ipv6))
        rig.returned(*flow.handshake(), flow.to_server(b"request"), flow.ack(to_client=True))
        rig.returned(flow.to_client(b"response" * 150), flow.ack(), *flow.closing())
    dns = rig.udp(53, **hosts(rig, ipv6=ipv6))
    rig.returned(dns.to_server(b"question"), dns.to_client(b"answer"), dns.to_client(b"and more"))
    ping = rig.ping(**hosts(rig, ipv6=ipv6))
    rig.returned(ping.request(1), ping.reply(1), ping.request(2), ping.reply(2))


def _shown(ports: set[int]) -> str:
    """Some ports, in a line that can be read."""
    few = [str(port) for port in sorted(ports)[:8]]
    more = f" and {len(ports) - len(few)} more" if len(ports) > len(few) else ""
    return ", ".join(few) + more if few else "none"
