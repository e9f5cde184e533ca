"""What an IDS reports: each match once, with the right names, and nothing that merely resembles."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

from appliance_sdk.conformance.alerted import (
    ANSWER,
    ANY_CASE,
    CONTENT,
    NAME,
    REQUEST,
    http,
    opened,
    question,
    reported,
)
from appliance_sdk.conformance.case import MAY, MUST, SHOULD, Profile, case
from appliance_sdk.conformance.conversation import (
    ENDPOINT,
    OTHER_ENDPOINT,
    TcpConversation,
    UdpConversation,
)
from appliance_sdk.conformance.packets import with_extensions, with_options
from appliance_sdk.conformance.policed import Ends
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_tcp
from appliance_sdk.wire.packet import ACK

_I = Profile.IDS
_A = ("alerts",)
_RULES = "the suite's signatures (`appliance conformance policy --rules`)"
_SAME = Ends(client="198.18.9.9", server="198.19.9.9")
_EVE = 'Suricata user guide, "EVE JSON format": event type alert'


@case("ids/forwards", MUST, _I, reference=_RULES + ": an alert stops nothing")
def forwards(rig: Rig) -> None:
    """What is only reported passes, to the end of its flow."""
    request(rig, REQUEST)
    request(rig, ANY_CASE)
    answer(rig)
    dns = rig.udp(53)
    rig.returned(dns.to_server(question(NAME)), dns.to_client(b"answer"))


@case("ids/alert", MUST, _I, needs=_A, reference=_RULES)
def alert(rig: Rig) -> None:
    """A request that a signature describes is reported, once."""
    request(rig, REQUEST)
    reported(rig, REQUEST)


@case("ids/alert-ipv6", MUST, _I, needs=("alerts", "ipv6"), reference=_RULES)
def alert_ipv6(rig: Rig) -> None:
    """A request over IPv6 is reported likewise, and so is a question over UDP."""
    flow = request(rig, REQUEST, ipv6=True)
    _check(reported(rig, REQUEST)[0], flow, to_client=False)
    dns = rig.udp(53, ipv6=True)
    rig.returned(dns.to_server(question(NAME)))
    _check(reported(rig, NAME)[0], dns, to_client=False)


@case("ids/alert-udp", MUST, _I, needs=_A, reference=_RULES)
def alert_udp(rig: Rig) -> None:
    """A question over UDP that a signature describes, bytes that are no text included, is
    reported, once."""
    dns = rig.udp(53)
    rig.returned(dns.to_server(question(NAME)), dns.to_client(b"answer"))
    _check(reported(rig, NAME)[0], dns, to_client=False)


@case("ids/alert-to-client", MUST, _I, needs=_A, reference=_RULES)
def alert_to_client(rig: Rig) -> None:
    """What a server sends is looked at too: the alert has the server as its source."""
    flow = answer(rig)
    _check(reported(rig, ANSWER)[0], flow, to_client=True)


@case("ids/alert-fields", MUST, _I, needs=_A, reference=_EVE)
def alert_fields(rig: Rig) -> None:
    """An alert has timestamp, src_ip, src_port, dest_ip, dest_port, proto, flow_id, and in `alert`
    signature_id, signature and action."""
    flow = request(rig, REQUEST)
    found = reported(rig, REQUEST)[0]
    _check(found, flow, to_client=False)
    details = found["alert"]
    expect(bool(details.get("signature")), "alert.signature, the rule's message, is missing")
    action = details.get("action")
    expect(action == "allowed", f"alert.action is {action!r}, and what was allowed is not blocked")


@case("ids/nocase", MUST, _I, needs=_A, reference=_RULES + ": nocase")
def nocase(rig: Rig) -> None:
    """A signature that does not mind the case of letters finds them in any."""
    text = CONTENT[ANY_CASE]
    for variant in (text, text.upper(), text.title(), text.swapcase()):
        request(rig, ANY_CASE, content=variant)
    reported(rig, ANY_CASE, 4)


@case("ids/near-miss", MUST, _I, needs=_A, reference=_RULES + ": every byte counts")
def near_miss(rig: Rig) -> None:
    """What is almost described is not reported: other letters, another case, another port,
    another direction, another protocol."""
    text = CONTENT[REQUEST]
    for variant in (text[:-1] + b"T", text.title(), text[:-1], text[1:], text.replace(b"-", b"--")):
        request(rig, REQUEST, content=variant)
    request(rig, REQUEST, port=8080)
    answer(rig, content=text)
    udp = rig.udp(80)
    rig.returned(udp.to_server(text))
    dns = rig.udp(53)
    rig.returned(dns.to_server(question(NAME).replace(b"\x07example", b"\x07exampla")))
    rig.returned(dns.to_client(question(NAME)), rig.udp(5353).to_server(question(NAME)))
    reported(rig, REQUEST, 0)
    reported(rig, NAME, 0)


@case("ids/apart", MUST, _I, needs=_A, reference=_RULES + ": within one stream or datagram")
def apart(rig: Rig) -> None:
    """Halves that are not in one stream or one datagram are not put together: of two connections,
    of two directions, of two datagrams, behind two endpoints."""
    half, other = CONTENT[REQUEST][:9], CONTENT[REQUEST][9:]
    one, two, three = rig.tcp(80), rig.tcp(80), rig.tcp(80)
    rig.returned(*one.handshake(), *two.handshake(), *three.handshake())
    rig.returned(one.to_server(half), two.to_server(other), one.to_client(other))
    rig.returned(three.to_client(half), three.to_server(other))
    here, there = (
        rig.tcp(80, **_SAME, client_port=40009, endpoint=endpoint)
        for endpoint in (ENDPOINT, OTHER_ENDPOINT)
    )
    rig.returned(*here.handshake(), *there.handshake(), here.to_server(half))
    there.client_next = here.client_next
    rig.returned(there.to_server(other))
    dns, name = rig.udp(53), question(NAME)
    rig.returned(dns.to_server(name[:21]), dns.to_server(name[21:]))
    reported(rig, REQUEST, 0)
    reported(rig, NAME, 0)


@case("ids/each-flow", MUST, _I, needs=_A, reference=_EVE + ", flow_id")
def each_flow(rig: Rig) -> None:
    """Each flow is reported by itself, with a flow_id of its own: two clients, and a tuple that is
    used again."""
    first, second = request(rig, REQUEST), request(rig, REQUEST)
    first.cookie = rig.cookie()
    first.client_next, first.server_next = 5_000_000, 7_000_000
    _exchange(rig, first, http(CONTENT[REQUEST]), b"HTTP/1.1 200 OK\r\n\r\n")
    found = reported(rig, REQUEST, 3)
    ports = sorted(one.get("src_port", 0) for one in found)
    expected = sorted([first.client_port, first.client_port, second.client_port])
    expect(ports == expected, f"the alerts are about the client ports {ports}, not {expected}")
    ids = {one.get("flow_id") for one in found}
    expect(len(ids) == 3, "the alerts of three flows do not have three flow_ids")


@case("ids/two-endpoints", MUST, _I, needs=_A, reference="address ranges of two endpoints overlap")
def two_endpoints(rig: Rig) -> None:
    """The same 5-tuple behind two endpoints is two flows, and both are reported."""
    flows = [
        rig.tcp(80, **_SAME, client_port=40008, endpoint=endpoint)
        for endpoint in (ENDPOINT, OTHER_ENDPOINT)
    ]
    for flow in flows:
        rig.returned(*flow.handshake())
    for flow in flows:
        rig.returned(flow.to_server(http(CONTENT[REQUEST])), flow.ack(to_client=True))
        rig.returned(flow.to_client(b"HTTP/1.1 200 OK\r\n\r\n"), flow.ack(), *flow.closing())
    found = reported(rig, REQUEST, 2)
    expect(len({one.get("flow_id") for one in found}) == 2, "two flows have one flow_id")


@case(
    "ids/headers", MUST, _I, needs=_A, reference="RFC 791 §3.1, RFC 9293 §3.1: headers have options"
)
def headers(rig: Rig) -> None:
    """Content behind IPv4 options and behind the largest TCP header is found."""
    flow, data = opened(rig), http(CONTENT[REQUEST])
    packet = build_tcp(
        *flow.ends(False),
        flow.client_port,
        80,
        seq=flow.client_next,
        ack=flow.server_next,
        flags=ACK,
        payload=data,
        options=b"\x01" * 40,
    )
    rig.returned(flow.carry(with_options(packet, b"\x01" * 40)))
    flow.client_next += len(data)
    rig.returned(flow.ack(to_client=True), *flow.closing())
    dns = rig.udp(53)
    rig.returned(dns.carry(with_options(dns.to_server(question(NAME)).inner, b"\x01" * 4)))
    reported(rig, REQUEST)
    reported(rig, NAME)


@case("ids/extension-headers", MUST, _I, needs=("alerts", "ipv6"), reference="RFC 8200 §4")
def extension_headers(rig: Rig) -> None:
    """Content behind IPv6 extension headers is found."""
    dns = rig.udp(53, ipv6=True)
    chain = bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((17, 0, 1, 4, 0, 0, 0, 0))
    rig.returned(dns.carry(with_extensions(dns.to_server(question(NAME)).inner, 0, chain)))
    reported(rig, NAME)


@case("ids/length-field", SHOULD, _I, needs=_A, reference="RFC 791 §3.1 (Total Length)")
def length_field(rig: Rig) -> None:
    """Bytes behind a packet's end are no part of it: content there is not reported."""
    dns = rig.udp(53)
    packet = dns.to_server(b"question").inner
    rig.answers(dns.carry(packet + question(NAME)))
    reported(rig, NAME, 0)


@case("ids/midstream", SHOULD, _I, needs=("alerts", "midstream"), reference="AWS: target failover")
def midstream(rig: Rig) -> None:
    """A connection that is met in its middle is looked at from there on."""
    flow = rig.tcp(80)
    flow.client_next, flow.server_next = 50_000, 60_000
    rig.returned(flow.to_server(b"what came before"), flow.ack(to_client=True))
    rig.returned(flow.to_server(http(CONTENT[REQUEST])), flow.ack(to_client=True))
    rig.returned(*flow.closing())
    reported(rig, REQUEST)


@case("ids/endpoint-named", MAY, _I, needs=_A, reference="addresses alone do not say whose it was")
def endpoint_named(rig: Rig) -> None:
    """An alert names the GWLB endpoint, since the ranges behind two endpoints may overlap."""
    flow = request(rig, REQUEST)
    named = flow.endpoint in str(reported(rig, REQUEST)[0])
    expect(named, f"{flow.endpoint} is nowhere in the alert")


def request(
    rig: Rig, sid: int, *, content: bytes = b"", port: int = 80, ipv6: bool = False
) -> TcpConversation:
    """A whole connection, with content (by default what the signature looks for) in a request."""
    flow = rig.tcp(port, ipv6=ipv6)
    _exchange(rig, flow, http(content or CONTENT[sid]), b"HTTP/1.1 200 OK\r\n\r\n")
    return flow


def answer(rig: Rig, *, content: bytes = CONTENT[ANSWER]) -> TcpConversation:
    """A whole connection, with content in the server's answer."""
    flow = rig.tcp(80)
    _exchange(rig, flow, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + content)
    return flow


def _exchange(rig: Rig, flow: TcpConversation, sent: bytes, received: bytes) -> None:
    rig.returned(*flow.handshake(), flow.to_server(sent), flow.ack(to_client=True))
    rig.returned(flow.to_client(received), flow.ack(), *flow.closing())


def _check(
    event: dict[str, Any], flow: TcpConversation | UdpConversation, *, to_client: bool
) -> None:
    """The event is about this flow, and what one end of it sent."""
    text = str(event.get("timestamp"))
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    expect(
        moment is not None and moment.tzinfo is not None,
        f"{text!r} is no ISO 8601 time, or says no zone",
    )
    source, destination = (ipaddress.ip_address(end) for end in flow.ends(to_client))
    ports = flow.client_port, flow.server_port
    right = {
        "src_ip": source,
        "dest_ip": destination,
        "src_port": ports[to_client],
        "dest_port": ports[not to_client],
        "proto": "TCP" if isinstance(flow, TcpConversation) else "UDP",
    }
    for name, value in right.items():
        got = event.get(name)
        same = got == value or (name.endswith("_ip") and _address(got) == value)
        expect(same, f"{name} is {got!r}, not {value}")
    expect(isinstance(event.get("flow_id"), int), f"flow_id is {event.get('flow_id')!r}, no number")


def _address(text: Any) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
