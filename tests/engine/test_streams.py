"""Streams through the engine: what leaves is what was judged, whatever order it comes in."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any, ClassVar

import pytest

from appliance_sdk.engine import EngineSettings, credibility
from appliance_sdk.flow.reassembly import StreamLimits
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_tcp
from appliance_sdk.wire.checksum import transport_checksum
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, URG, parse_packet

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
ISN, PEER_ISN = 0xFFFFFFF0, 500


class Scans(Plugin):
    """Blocks a stream with "evil" in it; keeps what it was shown."""

    shown: ClassVar[list[tuple[bytes, int, int]]] = []

    def flow_opened(self, flow: Flow) -> Opening:
        return Scan()


class Scan(FlowHandler["Scans"]):
    lookback = 8

    def data(self, chunk: Chunk) -> Outcome:
        if chunk.to_server:
            Scans.shown.append((chunk.data[chunk.fresh :], chunk.offset, chunk.gap))
        return Verdict.BLOCK.because("evil") if b"evil" in chunk else None


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Scans.shown = []


class Client:
    """Sends segments at positions of its stream, numbers wrapping around."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.send(build_tcp(A, B, 4000, 80, seq=ISN, flags=SYN))
        bench.send(
            build_tcp(B, A, 80, 4000, seq=PEER_ISN, ack=(ISN + 1) & 0xFFFFFFFF, flags=SYN | ACK)
        )
        bench.send(build_tcp(A, B, 4000, 80, seq=ISN + 1, ack=PEER_ISN + 1, flags=ACK))

    def sends(self, at: int, data: bytes, flags: int = ACK) -> bytes | None:
        """The payload that reaches the server, None if the segment was dropped."""
        seq = (ISN + 1 + at) & 0xFFFFFFFF
        packet = build_tcp(A, B, 4000, 80, seq=seq, ack=PEER_ISN + 1, flags=flags, payload=data)
        for out in self.bench.send(packet):
            headers = parse_packet(out, 0, len(out))
            if headers.source == A and not headers.flags & RST:
                return out[headers.payload : headers.end]
        return None

    def acknowledged(self, at: int) -> bool:
        """The server acknowledges everything before a position; whether that is let through."""
        ack = (ISN + 1 + at) & 0xFFFFFFFF
        packet = build_tcp(B, A, 80, 4000, seq=PEER_ISN + 1, ack=ack, flags=ACK)
        return packet in self.bench.send(packet)


def test_the_segment_that_completes_a_pattern_is_the_one_that_is_dropped() -> None:
    client = Client(Bench(Scans))
    assert client.sends(2, b"il") == b"il"
    assert client.sends(0, b"ev") is None
    assert client.sends(0, b"ev") is None
    assert client.sends(4, b"more") is None


def test_a_copied_segment_cannot_be_sent_again_with_other_bytes() -> None:
    client = Client(Bench(Scans))
    assert client.sends(4, b"harm") == b"harm"
    assert client.sends(4, b"evil") is None
    assert client.sends(0, b"....evil") is None
    assert client.sends(0, b"....") == b"...."
    assert Scans.shown == [(b"....harm", 0, 0)]
    assert client.bench.engine.drops == {"stream_conflict": 2}


def test_what_was_shown_cannot_be_sent_again_with_other_bytes_until_it_is_acknowledged() -> None:
    client = Client(Bench(Scans))
    assert client.sends(0, b"harmless") == b"harmless"
    assert client.sends(4, b"evil") is None
    assert client.sends(0, b"harmless") == b"harmless"
    assert client.acknowledged(8)
    assert client.sends(7, b"?") == b"?", "a keep-alive: the receiver ignores its byte"


def test_every_byte_is_shown_once_in_whatever_order_segments_come() -> None:
    rng = random.Random(7)
    stream = rng.randbytes(3000)
    for _ in range(20):
        Scans.shown = []
        client = Client(Bench(Scans))
        cuts = sorted({0, 3000, *(rng.randrange(3000) for _ in range(15))})
        parts = list(itertools.pairwise(cuts))
        parts += rng.choices(parts, k=5)
        rng.shuffle(parts)
        for start, end in parts:
            assert client.sends(start, stream[start:end]) == stream[start:end]
        assert b"".join(data for data, _, _ in Scans.shown) == stream
        positions = [offset for _, offset, _ in Scans.shown]
        assert positions == sorted(positions)


def test_bytes_that_only_the_receiver_saw_are_a_gap() -> None:
    client = Client(Bench(Scans))
    client.sends(0, b"one")
    client.sends(8, b"three")
    assert client.acknowledged(13)
    assert client.sends(13, b"four") == b"four"
    assert Scans.shown == [(b"one", 0, 0), (b"three", 8, 5), (b"four", 13, 0)]


@pytest.mark.parametrize("policy", ["block", "reject"])
def test_a_gap_can_be_refused(policy: str) -> None:
    client = Client(Bench(Scans, gap=policy))
    client.sends(0, b"one")
    client.sends(8, b"three")
    assert not client.acknowledged(13)
    assert client.sends(13, b"four") is None
    (flow,) = client.bench.flows
    assert flow.verdict == Verdict.of(policy)  # type: ignore[arg-type]


def test_too_much_behind_a_missing_segment_is_dropped_until_it_comes() -> None:
    limits = EngineSettings(stream=StreamLimits(pending_bytes=100))
    client = Client(Bench(Scans, settings=limits))
    assert client.sends(50, b"x" * 60) is not None
    assert client.sends(110, b"y" * 60) is None
    assert client.bench.engine.drops == {"stream_full": 1}
    assert client.sends(0, b"z" * 50) is not None
    assert client.sends(110, b"y" * 60) is not None
    assert sum(len(data) for data, _, _ in Scans.shown) == 170


def test_bytes_in_a_syn_are_the_first_of_the_stream() -> None:
    bench = Bench(Scans)
    syn = build_tcp(A, B, 4000, 80, seq=99, flags=SYN, payload=b"early ")
    assert bench.send(syn) == [syn]
    answer = build_tcp(B, A, 80, 4000, seq=5, ack=106, flags=SYN | ACK)
    assert bench.send(answer) == [answer]
    more = build_tcp(A, B, 4000, 80, seq=106, ack=6, flags=ACK, payload=b"late")
    assert bench.send(more) == [more]
    assert Scans.shown == [(b"early ", 0, 0), (b"late", 6, 0)]


def test_a_fin_with_bytes_brings_them_first() -> None:
    client = Client(Bench(Scans))
    assert client.sends(0, b"ev") == b"ev"
    assert client.sends(2, b"il", FIN | ACK) is None


class Redacts(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Redact()


class Redact(FlowHandler["Redacts"]):
    lookback = 3
    edits = True

    def data(self, chunk: Chunk) -> Outcome:
        for found in re.finditer(rb"\d+", chunk.data):
            chunk.mask(found.start(), found.end())
        return None


def test_edited_bytes_are_edited_again_when_they_are_sent_again() -> None:
    client = Client(Bench(Redacts))
    assert client.sends(0, b"pin 1234 ok") == b"pin **** ok"
    assert client.sends(0, b"pin 1234 ok") == b"pin **** ok"
    assert client.sends(4, b"1234 ok and 5") == b"**** ok and *"
    assert client.sends(4, b"9999") is None, "other bytes than those that were judged"


def test_an_edited_stream_must_come_in_order() -> None:
    client = Client(Bench(Redacts))
    assert client.sends(4, b"1234") is None
    assert client.sends(0, b"pin ") == b"pin "
    assert client.sends(4, b"1234") == b"****"
    assert client.bench.engine.drops == {"stream_out_of_order": 1}


def test_two_handlers_edit_one_after_the_other() -> None:
    class Upper(FlowHandler[Any]):
        edits = True

        def data(self, chunk: Chunk) -> Outcome:
            assert b"1" not in chunk.data
            chunk.mask(0, 1, b"#")
            return None

    class Second(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Upper()

    client = Client(Bench(Redacts, Second))
    assert client.sends(0, b"pin 1234") == b"#in ****"
    assert not client.bench.engine.guard.errors


def test_mask_without_edits_is_a_mistake_of_the_plugin() -> None:
    class Forgets(FlowHandler[Any]):
        def data(self, chunk: Chunk) -> Outcome:
            chunk.mask(0, 1)
            return None

    class Forgetful(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Forgets()

    client = Client(Bench(Forgetful))
    assert client.sends(0, b"x") is None
    assert client.bench.engine.guard.errors == {"forgetful": 1}


def test_memory_is_given_back_when_flows_end() -> None:
    bench = Bench(Scans)
    client = Client(bench)
    client.sends(0, b"x" * 1000)
    client.sends(5000, b"y" * 1000)
    assert bench.engine.streams._budget.used >= 2000
    bench.close()
    assert bench.engine.streams._budget.used == 0


def client(seq: int, ack: int = 0, flags: int = ACK, payload: bytes = b"") -> bytes:
    return build_tcp(A, B, 4000, 80, seq=seq, ack=ack, flags=flags, payload=payload)


def server(seq: int, ack: int = 0, flags: int = ACK, payload: bytes = b"") -> bytes:
    return build_tcp(B, A, 80, 4000, seq=seq, ack=ack, flags=flags, payload=payload)


OPENING = [client(1000, flags=SYN), server(500, 1001, SYN | ACK), client(1001, 501)]
"""A handshake; the streams begin at 1001 and 501."""


@pytest.mark.parametrize("wrong", [999, 500, 900, 1100, 30_000, 0x80000000])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("early", [b"", b"data"])
def test_a_second_syn_does_not_move_the_stream(wrong: int, after: int, early: bytes) -> None:
    """The server refuses it: it has answered the first, or the checksum is bad."""
    bench = Bench(Scans)
    packets = OPENING.copy()
    packets.insert(after + 1, client(wrong, flags=SYN, payload=early))
    for packet in packets:
        bench.send(packet)
    assert bench.send(client(1001, 501, payload=b"evil")) == []


@pytest.mark.parametrize("wrong", [900, 1100, 30_000])
def test_of_two_syns_the_one_counts_that_is_answered(wrong: int) -> None:
    bench = Bench(Scans)
    for packet in (client(wrong, flags=SYN), *OPENING):
        bench.send(packet)
    good = client(1001, 501, payload=b"good")
    assert bench.send(good) == [good]
    assert bench.send(client(1005, 501, payload=b"evil")) == []


@pytest.mark.parametrize("wrong", [400, 600, 30_000])
def test_a_second_answer_to_the_syn_does_not_move_the_stream(wrong: int) -> None:
    bench = Bench(Scans)
    for packet in (*OPENING[:2], server(wrong, 1001, SYN | ACK), OPENING[2]):
        bench.send(packet)
    assert bench.send(server(501, 1001, payload=b"evil")) == []


@pytest.mark.parametrize("flags", [ACK, FIN | ACK])
def test_a_number_that_the_receiver_ignores_does_not_move_the_stream(flags: int) -> None:
    bench = Bench(Scans)
    for packet in (*OPENING, client(50_000, 501, flags)):
        bench.send(packet)
    assert bench.send(client(1001, 501, payload=b"evil")) == []


@pytest.mark.parametrize("lie", [504, 600, 1_000_000, 1 << 29])
def test_a_receiver_cannot_hide_bytes_by_acknowledging_them_first(lie: int) -> None:
    bench = Bench(Scans)
    for packet in (*OPENING, server(501, 1001, payload=b"hi")):
        bench.send(packet)
    bench.send(client(1001, lie))
    good = server(503, 1001, payload=b"good")
    assert bench.send(good) == [good]
    assert bench.send(server(507, 1001, payload=b"evil")) == []


def test_after_bytes_that_only_the_receiver_saw_the_next_are_judged_at_once() -> None:
    sender = Client(Bench(Scans))
    sender.sends(0, b"one")
    assert sender.acknowledged(8)
    assert sender.sends(8, b"evil") is None
    assert Scans.shown == [(b"one", 0, 0), (b"evil", 8, 5)]
    strict = Client(Bench(Scans, gap="block"))
    strict.sends(0, b"one")
    assert strict.acknowledged(8)
    assert strict.sends(8, b"fine") is None


def test_everything_behind_several_holes_is_shown_when_it_is_acknowledged() -> None:
    sender = Client(Bench(Scans))
    sender.sends(9, b"one")
    sender.sends(19, b"evil")
    assert not sender.acknowledged(23)
    assert [data for data, _, _ in Scans.shown] == [b"one", b"evil"]


class Late(FlowHandler[Any]):
    """Comes when the flow is under way."""

    lookback = 8

    def data(self, chunk: Chunk) -> Outcome:
        return Verdict.BLOCK if b"evil" in chunk else None


class Masking(FlowHandler[Any]):
    edits = True

    def data(self, chunk: Chunk) -> Outcome:
        chunk.mask(0, len(chunk.data))
        return None


class Changes(Plugin):
    """Sees nothing at first; gives another handler when the rules are loaded again."""

    later: type[FlowHandler[Any]] = Late

    def flow_opened(self, flow: Flow) -> Opening:
        class First(FlowHandler[Any]):
            def data(self, chunk: Chunk) -> Outcome:
                return None

        return First()

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        return self.later()


def test_a_handler_that_takes_over_is_shown_what_waits_for_a_missing_segment() -> None:
    bench = Bench(Changes)
    sender = Client(bench)
    assert sender.sends(0, b"...") == b"..."
    assert sender.sends(5, b"il") == b"il"
    bench.plugin(Changes).recheck_flows()
    bench.advance(0)
    assert sender.sends(3, b"ev") is None


def test_bytes_that_left_before_an_editing_handler_came_cannot_be_edited() -> None:
    bench = Bench(Changes)
    bench.plugin(Changes).later = Masking
    sender = Client(bench)
    assert sender.sends(2, b"34") == b"34"
    bench.plugin(Changes).recheck_flows()
    bench.advance(0)
    assert sender.sends(0, b"12") is None
    assert bench.engine.guard.errors == {"changes": 1}
    assert bench.flows[0].verdict == Verdict.BLOCK


@pytest.mark.parametrize("again", [False, True])
def test_a_reset_and_a_syn_that_the_server_ignores_do_not_start_the_stream_again(
    again: bool,
) -> None:
    """The number of the reset is in the window, but not the one that the server expects."""
    bench = Bench(Scans)
    for packet in (*OPENING, client(1001, 501, payload=b"..."), client(1006, 501, payload=b"il")):
        bench.send(packet)
    bench.send(client(1007, 501, RST | ACK))
    bench.send(client(900, flags=SYN))
    bench.send(server(501, 1004))
    if again:
        bench.send(client(901, 501, RST | ACK))
    assert bench.send(client(1004, 501, payload=b"ev")) == []


def test_an_urgent_byte_is_made_an_ordinary_one() -> None:
    bench = Bench(Scans)
    Client(bench)
    packet = bytearray(
        build_tcp(A, B, 4000, 80, seq=ISN + 1, ack=PEER_ISN + 1, flags=ACK | URG, payload=b"evXil")
    )
    packet[38:40] = (3).to_bytes(2, "big")  # the X: Linux would take it out of the stream
    packet[36:38] = b"\0\0"
    packet[36:38] = transport_checksum(A, B, 6, bytes(packet[20:])).to_bytes(2, "big")
    (sent,) = bench.send(bytes(packet))
    headers = parse_packet(sent, 0, len(sent))
    assert not headers.flags & URG
    assert sent[38:40] == b"\0\0"
    assert transport_checksum(A, B, 6, sent[20:]) == 0
    assert sent[headers.payload :] == b"evXil"
    assert Scans.shown == [(b"evXil", 0, 0)]


@pytest.mark.parametrize("damaged", [True, False])
def test_a_reset_with_a_wrong_checksum_resets_nothing(damaged: bool) -> None:
    bench = Bench(Scans)
    client = Client(bench)
    client.sends(0, b"ev")
    reset = bytearray(build_tcp(A, B, 4000, 80, seq=ISN + 3, flags=RST))
    reset[36] ^= damaged
    assert bench.send(bytes(reset)) == [bytes(reset)]
    bench.advance(5)
    assert bool(bench.flows) is damaged
    assert (client.sends(2, b"il") is None) is damaged


def damaged(packet: bytes) -> bytes:
    """A TCP packet with a wrong checksum."""
    return packet[:36] + bytes((packet[36] ^ 0x55,)) + packet[37:]


def test_a_damaged_segment_hides_nothing_and_its_retransmission_passes() -> None:
    bench = Bench(Scans)
    client = Client(bench)
    lost = build_tcp(A, B, 4000, 80, seq=ISN + 1, ack=PEER_ISN + 1, flags=ACK, payload=b"xxxx")
    assert bench.send(damaged(lost)) == []
    assert bench.engine.drops == {"stream_ignored": 1}
    assert client.sends(0, b"fine") == b"fine"
    assert client.sends(4, b"evil") is None
    assert Scans.shown == [(b"fine", 0, 0), (b"evil", 4, 0)]


def test_what_was_captured_before_its_checksums_were_filled_in_is_looked_at() -> None:
    bench = Bench(Scans)
    bench.send(damaged(build_tcp(A, B, 4000, 80, seq=ISN, flags=SYN)))
    bench.send(build_tcp(B, A, 80, 4000, seq=PEER_ISN, ack=ISN + 1, flags=SYN | ACK))
    opens = build_tcp(A, B, 4000, 80, seq=ISN + 1, ack=PEER_ISN + 1, flags=ACK, payload=b"evil")
    assert bench.send(damaged(opens)) == []
    assert bench.flows[0].verdict == Verdict.BLOCK


@pytest.mark.parametrize("flags", [0, FIN, URG, RST, RST | ACK])
def test_bytes_that_no_receiver_takes_are_not_shown(flags: int) -> None:
    client = Client(Bench(Scans))
    ignored = 20_000 if flags & RST else 0  # a RST counts by its number; beside it, it is nothing
    client.sends(ignored, b"xxxx", flags)
    assert client.sends(0, b"evil") is None
    assert Scans.shown == [(b"evil", 0, 0)]


@pytest.mark.parametrize("heard", [False, True])
def test_a_server_that_is_never_heard_answers_another_way(heard: bool) -> None:
    bench = Bench(Scans)
    if heard:
        Client(bench)
    for number, expected in ((5000, b"fine"), (5001, b"evil")):
        bench.send(build_tcp(A, B, number, 80, seq=100, flags=SYN))
        packet = build_tcp(A, B, number, 80, seq=101, ack=900, flags=ACK, payload=expected)
        passes = expected == b"fine" and not heard
        assert bench.send(packet) == ([packet] if passes else [])
    assert len(Scans.shown) == (0 if heard else 2)


def test_of_servers_that_were_heard_so_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credibility, "_SERVERS_REMEMBERED", 2)
    bench = Bench(Scans)
    for last in (2, 3, 4):
        bench.tcp("10.0.0.1", f"10.0.0.{last}", 80).server_sends(b"hello")
    for last, passes in ((2, True), (4, False)):
        ends = A, bytes((10, 0, 0, last))
        bench.send(build_tcp(*ends, 6000, 80, seq=100, flags=SYN))
        packet = build_tcp(*ends, 6000, 80, seq=101, ack=900, flags=ACK, payload=b"fine")
        assert bool(bench.send(packet)) is passes
