"""What an IPS stops: the content never arrives whole, and the rest of its flow not at all."""

from __future__ import annotations

from appliance_sdk.conformance.alerted import (
    CONTENT,
    LOGIN,
    LOOKUP,
    UPLOAD,
    arrived,
    http,
    opened,
    pieces,
    question,
    reported,
)
from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.conformance.made import Made, check_reset_between, read_made
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.conformance.policed import Ends
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import fragment_packet

_I = Profile.IDS
_P = ("prevention",)
_PS = ("prevention", "streams")
_DROP = "the suite's signatures with action drop; Suricata: drop is for the packet and its flow"
_STREAM = "RFC 9293 §3.4: the receiver puts the pieces together"
_RST = "RFC 5961 §3: a RST counts if it has the very number that its receiver expects"


@case("ids/drop", MUST, _I, needs=_P, reference=_DROP)
def drop(rig: Rig) -> None:
    """A segment that a drop signature describes does not pass, also when it is sent again, and
    what came before it does."""
    flow = opened(rig)
    rig.returned(flow.to_server(b"what comes before\r\n"), flow.ack(to_client=True))
    upload = flow.to_server(http(CONTENT[UPLOAD]))
    for _ in range(3):
        rig.refused(upload)


@case("ids/drop-ipv6", MUST, _I, needs=("prevention", "ipv6"), reference=_DROP)
def drop_ipv6(rig: Rig) -> None:
    """What a drop signature describes does not pass over IPv6 either."""
    flow = rig.tcp(80, ipv6=True)
    rig.returned(*flow.handshake())
    rig.refused(flow.to_server(http(CONTENT[UPLOAD])))
    rig.refused(rig.udp(53, ipv6=True).to_server(question(LOOKUP)))


@case("ids/drop-udp", MUST, _I, needs=_P, reference=_DROP)
def drop_udp(rig: Rig) -> None:
    """A datagram that a drop signature describes does not pass, and one before it does."""
    flow = rig.udp(53)
    rig.returned(flow.to_server(b"question"), flow.to_client(b"answer"))
    rig.refused(flow.to_server(question(LOOKUP)))
    rig.refused(flow.to_server(question(LOOKUP)))


@case("ids/drop-rest", MUST, _I, needs=_P, reference=_DROP)
def drop_rest(rig: Rig) -> None:
    """When a connection has been stopped, nothing of it passes any more, in either direction."""
    flow = opened(rig)
    rig.refused(flow.to_server(http(CONTENT[UPLOAD])))
    rig.refused(flow.to_server(b"harmless"), flow.ack(), flow.fin())
    rig.refused(flow.to_client(b"HTTP/1.1 200 OK\r\n\r\n"), flow.ack(to_client=True))


@case("ids/drop-others", MUST, _I, needs=_P, reference="flows do not disturb each other")
def drop_others(rig: Rig) -> None:
    """When a connection has been stopped, others between the same hosts go on, and new ones
    begin."""
    ends = Ends(client="198.18.7.1", server="198.19.7.1")
    old, bad = rig.tcp(80, **ends), rig.tcp(80, **ends)
    rig.returned(*old.handshake(), *bad.handshake())
    rig.refused(bad.to_server(http(CONTENT[UPLOAD])))
    new = rig.tcp(80, **ends)
    rig.returned(*new.handshake(), new.to_server(http(b"harmless")))
    rig.returned(old.to_server(http(b"harmless")), old.to_client(b"HTTP/1.1 200 OK\r\n\r\n"))


@case("ids/drop-reported", MUST, _I, needs=("prevention", "alerts"), reference=_DROP)
def drop_reported(rig: Rig) -> None:
    """What is stopped is reported once, of a connection and of a datagram."""
    flow = opened(rig)
    rig.refused(flow.to_server(http(CONTENT[UPLOAD])))
    rig.refused(rig.udp(53).to_server(question(LOOKUP)))
    reported(rig, UPLOAD)
    reported(rig, LOOKUP)


@case("ids/drop-blocked", SHOULD, _I, needs=("prevention", "alerts"), reference=_DROP)
def drop_blocked(rig: Rig) -> None:
    """The alert about what was stopped says so: its action is "blocked"."""
    flow = opened(rig)
    rig.refused(flow.to_server(http(CONTENT[UPLOAD])))
    action = reported(rig, UPLOAD)[0]["alert"].get("action")
    expect(action == "blocked", f"alert.action is {action!r}")


@case("ids/drop-split", MUST, _I, needs=_PS, reference=_STREAM)
def drop_split(rig: Rig) -> None:
    """Content in pieces does not arrive whole, wherever it is cut; what comes before the last
    piece may have left."""
    text = CONTENT[UPLOAD]
    for cut in range(1, len(text), 3):
        flow = opened(rig)
        rig.answers(flow.to_server(b"PUT /" + text[:cut]), flow.ack(to_client=True))
        rig.refused(flow.to_server(text[cut:] + b" HTTP/1.1\r\n\r\n"))


@case("ids/drop-out-of-order", MUST, _I, needs=_PS, reference=_STREAM)
def drop_out_of_order(rig: Rig) -> None:
    """Content whose segments overtake each other does not arrive whole, in any order."""
    for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1), (2, 0, 1), (1, 2, 0)):
        flow = opened(rig)
        segments = pieces(flow, CONTENT[UPLOAD], 3)
        through = {number for number in order if arrived(rig, segments[number])}
        expect(len(through) < 3, f"all pieces came back, sent in the order {order}")
        through |= {number for number in range(3) if arrived(rig, segments[number])}
        expect(len(through) < 3, f"all pieces came back, sent again behind the order {order}")


@case("ids/drop-overlapping", MUST, _I, needs=_PS, reference=_STREAM)
def drop_overlapping(rig: Rig) -> None:
    """Content in segments that overlap and differ does not arrive, whichever of them the receiver
    takes."""
    text = CONTENT[UPLOAD]
    middle = len(text) // 2
    false = b"x" * (len(text) - middle)
    for first, second in (
        ((0, text[:middle] + false), (middle, text[middle:])),
        ((middle, false), (0, text)),
        ((middle, text[middle:]), (0, text[:middle] + false)),
    ):
        flow = opened(rig)
        segments = [
            flow.segment(to_client=False, seq=flow.client_next + at, data=data)
            for at, data in (first, second)
        ]
        through = [arrived(rig, segment) for segment in segments]
        expect(not all(through), "both segments came back, and hold the content together")


@case("ids/drop-fragments", MUST, _I, needs=("prevention", "fragments"), reference="RFC 791 §3.2")
def drop_fragments(rig: Rig) -> None:
    """Content over the border of two IP fragments does not arrive: one of the fragments is
    kept."""
    dns, flow = rig.udp(53), opened(rig)
    name, text = question(LOOKUP), CONTENT[UPLOAD]
    for one, packet in (
        (dns, dns.to_server(b"q" * (1480 - 8 - 20) + name + b"q" * 500)),
        (flow, flow.to_server(b"x" * (1480 - 20 - 9) + text + b"x" * 500)),
    ):
        fragments = [one.carry(p) for p in fragment_packet(numbered(packet.inner, 3), 1500)]
        through = [arrived(rig, piece) for piece in fragments]
        expect(not all(through), "every fragment came back")


@case("ids/reject", MUST, _I, needs=("prevention", "reject"), reference=_RST)
def reject(rig: Rig) -> None:
    """What a reject signature describes does not pass, and its sender is told, with the number
    that it expects next."""
    flow = opened(rig)
    rig.returned(flow.to_client(b"220 ready\r\n"), flow.ack())
    login = flow.to_server(http(CONTENT[LOGIN]))
    told = [made for made in _made(rig, login) if made.goes_to(flow.client)]
    expect(len(told) == 1, f"the client was told {len(told)} times")
    ends = flow.server, flow.client, flow.server_port, flow.client_port
    check_reset_between(told[0], ends)
    seq = told[0].headers.seq
    expect(seq == flow.server_next, f"RST with sequence number {seq}, expected {flow.server_next}")


@case("ids/reject-both", SHOULD, _I, needs=("prevention", "reject"), reference=_RST)
def reject_both(rig: Rig) -> None:
    """The other end of a rejected connection is told too, with the number that it expects next:
    that of the segment which was stopped."""
    flow = opened(rig)
    rig.returned(flow.to_server(b"what came before"), flow.ack(to_client=True))
    expected = flow.client_next
    login = flow.to_server(http(CONTENT[LOGIN]))
    told = [made for made in _made(rig, login) if made.goes_to(flow.server)]
    expect(len(told) == 1, f"the server was told {len(told)} times")
    check_reset_between(told[0], (flow.client, flow.server, flow.client_port, flow.server_port))
    seq = told[0].headers.seq
    expect(seq == expected, f"RST with sequence number {seq}, expected {expected}")


def _made(rig: Rig, trigger: Datagram) -> list[Made]:
    """Send what must not pass; the packets that the appliance makes for it."""
    return [read_made(rig, trigger, reply) for reply in rig.refused(trigger)]
