"""Content that comes in pieces: cut anywhere, out of order, twice, and among decoys."""

from __future__ import annotations

from appliance_sdk.conformance.alerted import (
    ANSWER,
    CONTENT,
    NAME,
    REQUEST,
    alerts,
    arrived,
    http,
    opened,
    pieces,
    question,
    reported,
)
from appliance_sdk.conformance.case import MUST, SHOULD, Profile, case
from appliance_sdk.conformance.conversation import TcpConversation
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import fragment_packet

_I = Profile.IDS
_S = ("alerts", "streams")
_STREAM = "RFC 9293 §3.4: TCP is a stream; where it is cut means nothing"
_IGNORED = "RFC 9293 §3.10.7.4: what the receiver ignores is no part of the stream"
_AMBIGUOUS = 'Ptacek, Newsham: "Insertion, Evasion, and Denial of Service" (1998)'


@case("ids/split", MUST, _I, needs=_S, reference=_STREAM)
def split(rig: Rig) -> None:
    """Content that is cut in two segments is found, wherever it is cut."""
    text = CONTENT[REQUEST]
    for cut in range(1, len(text)):
        flow = opened(rig)
        rig.returned(flow.to_server(b"GET /" + text[:cut]), flow.ack(to_client=True))
        rig.returned(flow.to_server(text[cut:] + b" HTTP/1.1\r\n\r\n"))
        _ended(rig, flow)
    reported(rig, REQUEST, len(text) - 1)


@case("ids/split-bytes", MUST, _I, needs=_S, reference=_STREAM)
def split_bytes(rig: Rig) -> None:
    """Content that comes one byte in a segment is found, from either end."""
    flow = opened(rig)
    rig.returned(*(flow.to_server(bytes([byte])) for byte in http(CONTENT[REQUEST])))
    rig.returned(flow.ack(to_client=True))
    rig.returned(*(flow.to_client(bytes([byte])) for byte in CONTENT[ANSWER]), flow.ack())
    _ended(rig, flow)
    reported(rig, REQUEST)
    reported(rig, ANSWER)


@case("ids/out-of-order", MUST, _I, needs=_S, reference=_STREAM)
def out_of_order(rig: Rig) -> None:
    """Content whose segments overtake each other is found, and every segment passes."""
    for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1), (2, 0, 1)):
        flow = opened(rig)
        segments = pieces(flow, http(CONTENT[REQUEST]), 3)
        through = arrived(rig, *(segments[number] for number in order))
        expect(len(through) == 3, f"{len(through)} of 3 segments came back")
        _ended(rig, flow)
    reported(rig, REQUEST, 4)


@case("ids/retransmitted", MUST, _I, needs=_S, reference="RFC 9293 §3.8.1: retransmission")
def retransmitted(rig: Rig) -> None:
    """Content that is sent again, as it was or cut elsewhere, is reported once."""
    flow = opened(rig)
    start, whole = flow.client_next, http(CONTENT[REQUEST])
    segment = flow.to_server(whole)
    rig.returned(segment, segment)
    for begin, end in ((0, 10), (4, 22), (8, len(whole))):
        rig.returned(flow.segment(to_client=False, seq=start + begin, data=whole[begin:end]))
    _ended(rig, flow)
    reported(rig, REQUEST)


@case("ids/overlapping", MUST, _I, needs=_S, reference="RFC 9293 §3.10.7.4: segments may overlap")
def overlapping(rig: Rig) -> None:
    """Content in segments that overlap, and agree where they do, is found."""
    flow = opened(rig)
    start, whole = flow.client_next, http(CONTENT[REQUEST])
    for begin, end in ((0, 9), (5, 16), (12, 14), (10, len(whole))):
        rig.returned(flow.segment(to_client=False, seq=start + begin, data=whole[begin:end]))
    flow.client_next = start + len(whole)
    _ended(rig, flow)
    reported(rig, REQUEST)


@case("ids/long-stream", MUST, _I, needs=_S, reference=_STREAM)
def long_stream(rig: Rig) -> None:
    """Content is found behind two hundred kilobytes of other bytes, over the border of two large
    segments."""
    flow, text = opened(rig), CONTENT[REQUEST]
    for _ in range(150):
        rig.returned(flow.to_server(b"x" * 1400), flow.ack(to_client=True))
    rig.returned(flow.to_server(b"x" * 1395 + text[:5]), flow.to_server(text[5:] + b"x" * 1300))
    _ended(rig, flow)
    reported(rig, REQUEST)


@case("ids/many-streams", MUST, _I, needs=_S, reference="flows do not disturb each other")
def many_streams(rig: Rig) -> None:
    """Content in a hundred connections at once, their segments mixed, is found in each."""
    flows = [opened(rig) for _ in range(100)]
    cut = [pieces(flow, http(CONTENT[REQUEST]), 4) for flow in flows]
    for step in range(4):
        through = arrived(rig, *(segments[step] for segments in cut))
        expect(len(through) == 100, f"{len(through)} of 100 segments came back")
    for flow in flows:
        rig.returned(flow.ack(to_client=True), flow.fin())
    found = reported(rig, REQUEST, 100)
    expect(len({one.get("flow_id") for one in found}) == 100, "not every flow has its own flow_id")


@case("ids/sequence-wrap", MUST, _I, needs=_S, reference="RFC 9293 §3.4: sequence numbers wrap")
def sequence_wrap(rig: Rig) -> None:
    """Content whose sequence numbers go over 2^32 is found."""
    flow = rig.tcp(80)
    flow.client_next = 0xFFFFFFF0
    rig.returned(*flow.handshake(), *pieces(flow, http(CONTENT[REQUEST]), 12))
    _ended(rig, flow)
    reported(rig, REQUEST)


@case("ids/damaged-segment", MUST, _I, needs=_S, reference=_IGNORED)
def damaged_segment(rig: Rig) -> None:
    """A segment with a wrong TCP checksum, which its receiver ignores, hides nothing: what comes
    in its place passes and is found."""
    flow = opened(rig)
    start, whole = flow.client_next, http(CONTENT[REQUEST])
    decoy = flow.segment(to_client=False, seq=start, data=b"x" * len(whole))
    damaged = bytearray(decoy.inner)
    damaged[36] ^= 0x55
    rig.answers(flow.carry(bytes(damaged)))
    rig.returned(flow.to_server(whole))
    _ended(rig, flow)
    reported(rig, REQUEST)


@case("ids/old-sequence", MUST, _I, needs=_S, reference=_IGNORED)
def old_sequence(rig: Rig) -> None:
    """Segments with sequence numbers from before the stream, or far beyond the window, hide
    nothing: what belongs to the stream passes and is found."""
    flow = opened(rig)
    start, whole = flow.client_next, http(CONTENT[REQUEST])
    for seq in (start - 30_000, start - 1_000_000, start + 0x60000000):
        decoy = flow.segment(to_client=False, seq=seq & 0xFFFFFFFF, data=b"x" * len(whole))
        rig.answers(decoy)
    rig.returned(flow.to_server(whole))
    _ended(rig, flow)
    reported(rig, REQUEST)


@case("ids/decoys", MUST, _I, needs=_S, reference=_AMBIGUOUS)
def decoys(rig: Rig) -> None:
    """Of segments that overlap and differ, the receiver takes the first or the last: content that
    it may have read is found, or one of the segments does not arrive."""
    text = http(CONTENT[REQUEST])
    middle = len(text) // 2
    false = b"x" * (len(text) - middle)
    for first, second in (
        ((0, b"x" * len(text)), (0, text)),
        ((0, text[:middle] + false), (middle, text[middle:])),
        ((middle, false), (0, text)),
        ((middle, text[middle:]), (0, text[:middle] + false)),
    ):
        before = len(alerts(rig, REQUEST))
        flow = opened(rig)
        segments = [
            flow.segment(to_client=False, seq=flow.client_next + at, data=data)
            for at, data in (first, second)
        ]
        through = [arrived(rig, segment) for segment in segments]
        flow.client_next += len(text)
        rig.answers(flow.ack(to_client=True), *flow.closing())
        if all(through):
            reported(rig, REQUEST, before + 1)


@case("ids/fragments", MUST, _I, needs=("alerts", "fragments"), reference="RFC 791 §3.2")
def fragments(rig: Rig) -> None:
    """Content over the border of two IP fragments is found, in UDP and in TCP."""
    name = question(NAME)
    dns, flow = rig.udp(53), opened(rig)
    packet = numbered(dns.to_server(b"q" * (1480 - 8 - 20) + name + b"q" * 500).inner, 1)
    rig.returned(*(dns.carry(piece) for piece in fragment_packet(packet, 1500)))
    text = CONTENT[REQUEST]
    packet = numbered(flow.to_server(b"x" * (1480 - 20 - 9) + text + b"x" * 500).inner, 2)
    rig.returned(*(flow.carry(piece) for piece in fragment_packet(packet, 1500)))
    _ended(rig, flow)
    reported(rig, NAME)
    reported(rig, REQUEST)


@case(
    "ids/fragments-ipv6", MUST, _I, needs=("alerts", "fragments", "ipv6"), reference="RFC 8200 §4.5"
)
def fragments_ipv6(rig: Rig) -> None:
    """Content over the border of two IPv6 fragments is found."""
    dns = rig.udp(53, ipv6=True)
    packet = dns.to_server(b"q" * (1448 - 8 - 20) + question(NAME) + b"q" * 500).inner
    rig.returned(*(dns.carry(piece) for piece in fragment_packet(packet, 1500)))
    reported(rig, NAME)


@case(
    "ids/syn-data", SHOULD, _I, needs=_S, reference="RFC 7413: data on a SYN is the stream's first"
)
def syn_data(rig: Rig) -> None:
    """Content that begins on the SYN and goes on behind the handshake is found, or the SYN's data
    does not arrive."""
    flow, text = rig.tcp(80), http(CONTENT[REQUEST])
    opening = flow.segment(to_client=False, seq=1000, flags=0x02, data=text[:12])
    through = arrived(rig, opening)
    flow.client_next = 1001 + 12
    rig.answers(flow.syn_ack(), flow.ack())
    rig.answers(flow.to_server(text[12:]), flow.ack(to_client=True), *flow.closing())
    if through:
        reported(rig, REQUEST)


@case("ids/one-sided", SHOULD, _I, needs=_S, reference='AWS guide: "asymmetric routing"')
def one_sided(rig: Rig) -> None:
    """Content of a client whose answers take another way is found."""
    flow = rig.tcp(80)
    rig.returned(flow.syn())
    flow.server_next += 1
    rig.returned(flow.ack(), *pieces(flow, http(CONTENT[REQUEST]), 3), flow.fin())
    reported(rig, REQUEST)


def _ended(rig: Rig, flow: TcpConversation) -> None:
    rig.returned(flow.ack(to_client=True), *flow.closing())
