"""The socket plane with an engine that does as it is told, over real sockets on loopback."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from appliance_sdk.dataplane import sockets
from appliance_sdk.dataplane.addresses import open_listeners
from appliance_sdk.dataplane.mmsg import SO_RXQ_OVFL
from appliance_sdk.dataplane.sockets import STRIDE_BYTES, SocketPlane
from appliance_sdk.engine import DROP, FORWARD, REPLACED, Engine
from appliance_sdk.errors import ConfigError

if TYPE_CHECKING:
    from tests.dataplane.conftest import Node, ScriptedEngine

PORT = 6081


class Appliance:
    """Listeners, and planes on them that are taken down after the test."""

    def __init__(self, engine: ScriptedEngine, addresses: list[str]) -> None:
        self.engine = engine
        self.addresses = addresses
        self.listeners = open_listeners(addresses, PORT)
        self.planes: list[SocketPlane] = []

    @property
    def target(self) -> tuple[str, int]:
        return self.addresses[0], PORT

    def plane(self, **options: Any) -> SocketPlane:
        plane = SocketPlane(cast(Engine, self.engine), self.listeners, **options)
        self.planes.append(plane)
        return plane

    def close(self) -> None:
        for plane in self.planes:
            plane.close()
        for listener in self.listeners:
            listener.close()


@pytest.fixture
def appliance(engine: ScriptedEngine, own_address: Callable[[], str]) -> Iterator[Appliance]:
    made = Appliance(engine, [own_address(), own_address()])
    yield made
    made.close()


def _drain(plane: SocketPlane) -> int:
    total = 0
    while count := plane.poll(0):
        total += count
    return total


@pytest.mark.parametrize("port", [53, 1023, 6081, 20053, 61023, 65535])
def test_a_reply_keeps_ports_and_bytes_and_swaps_addresses(
    appliance: Appliance, node: Node, raw: bool, port: int
) -> None:
    plane = appliance.plane(raw=raw)
    payload = bytes(range(256)) * 33 + b"to 8,540 bytes: the longest that GWLB takes back"
    try:
        node.send(port, payload, appliance.target)
    except PermissionError:
        pytest.skip("ports below 1024 want CAP_NET_BIND_SERVICE")
    assert plane.poll(5) == 1
    assert node.answer() == (payload, (appliance.addresses[0], port))
    assert (plane.received, plane.sent) == (1, 1)
    assert plane.raw is raw
    (seen,) = appliance.engine.seen
    peer = port.to_bytes(2, "big") + socket.inet_aton(node.address)
    assert seen[:3] == (payload, peer, socket.inet_aton(appliance.addresses[0]))


def test_a_reply_leaves_from_the_address_that_was_hit(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    plane = appliance.plane(raw=raw)
    for number, address in enumerate(reversed(appliance.addresses)):
        node.send(20001, b"%d" % number, (address, PORT))
    assert plane.poll(5) == 2
    assert sorted(node.answers()) == [
        (b"0", (appliance.addresses[1], 20001)),
        (b"1", (appliance.addresses[0], 20001)),
    ]


def test_replies_go_to_the_node_that_each_packet_came_from(
    appliance: Appliance, node: Node, second_node: Node, raw: bool
) -> None:
    plane = appliance.plane(raw=raw)
    for payload, source in ((b"a", node), (b"b", second_node), (b"c", node)):
        source.send(20001, payload, appliance.target)
    assert plane.poll(5) == 3
    assert [data for data, _ in node.answers()] == [b"a", b"c"]
    assert [data for data, _ in second_node.answers()] == [b"b"]


def test_dropped_packets_stay_away_and_the_others_keep_their_order(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    plane = appliance.plane(raw=raw, batch=7)
    appliance.engine.decide = lambda payload: DROP if payload[0] % 3 == 0 else FORWARD
    for number in range(40):
        node.send(20001, bytes([number]), appliance.target)
    assert _drain(plane) == 40
    assert [data[0] for data, _ in node.answers()] == [n for n in range(40) if n % 3]


def test_one_batch_has_one_time(appliance: Appliance, node: Node) -> None:
    ticks = iter(range(1000))
    plane = appliance.plane(raw=False, batch=4, clock=lambda: float(next(ticks)))
    for number in range(6):
        node.send(20001, bytes([number]), appliance.target)
    plane.poll(5)
    plane.poll(5)
    times = [now for *_, now in appliance.engine.seen]
    assert len(set(times[:4])) == 1
    assert len(set(times[4:])) == 1
    assert (plane.received, plane.batches) == (6, 2)
    assert times[0] < times[4] <= appliance.engine.advanced[-1]


def test_what_comes_while_a_few_are_answered_is_taken_at_once_up_to_a_batch(
    appliance: Appliance, node: Node
) -> None:
    def decide(_payload: bytes) -> int:
        node.send(20001, b"more", appliance.target)
        return FORWARD

    plane = appliance.plane(raw=False, batch=5)
    appliance.engine.decide = decide
    node.send(20001, b"one", appliance.target)
    assert plane.poll(5) == 1
    node.send(20001, b"two", appliance.target)
    assert plane.poll(5) == 5
    assert plane.received == 6


def test_the_engine_is_advanced_when_it_wants_to_be_and_now_and_then(
    appliance: Appliance, node: Node
) -> None:
    now, engine = [1000.0], appliance.engine
    plane = appliance.plane(raw=False, clock=lambda: now[0])

    def polled(at: float, deadline: float) -> bool:
        now[0], engine.deadline = at, deadline
        before = len(engine.advanced)
        node.send(20001, b"packet", appliance.target)
        assert plane.poll(5) == 1
        return len(engine.advanced) > before

    assert polled(1000.0, 2000.0)
    assert not polled(1000.004, 2000.0)
    assert polled(1000.005, 1000.005)
    assert not polled(1000.01, 2000.0)
    assert polled(1000.02, 2000.0)


def test_the_outbox_keeps_its_place_in_the_order(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    engine = appliance.engine
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    local = socket.inet_aton(appliance.addresses[0])

    def decide(payload: bytes) -> int:
        if payload == b"edit":
            engine.outbox.append((peer, local, b"EDITED"))
            return REPLACED
        if payload == b"reject":
            engine.outbox.append((peer, local, b"reset 1"))
            engine.outbox.append((peer, local, b"reset 2"))
            return DROP
        if payload == b"and more":
            engine.outbox.append((peer, local, b"more"))
        return FORWARD

    engine.decide = decide
    plane = appliance.plane(raw=raw)
    for payload in (b"1", b"edit", b"2", b"reject", b"3", b"and more", b"4"):
        node.send(20001, payload, appliance.target)
    assert plane.poll(5) == 7
    assert [data for data, _ in node.answers()] == [
        *(b"1", b"EDITED", b"2", b"reset 1", b"reset 2", b"3", b"and more", b"more", b"4"),
    ]
    assert engine.outbox == []


def test_more_in_the_outbox_than_a_batch_holds(appliance: Appliance, node: Node, raw: bool) -> None:
    engine = appliance.engine
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    local = socket.inet_aton(appliance.addresses[0])
    made = [bytes([n]) * 8500 for n in range(100)]
    plane = appliance.plane(raw=raw, batch=8)
    engine.outbox += [(peer, local, payload) for payload in made]
    plane.poll(0)
    assert [data for data, _ in node.answers()] == made


def test_what_timers_make_is_sent(
    appliance: Appliance, node: Node, raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = appliance.engine
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    local = socket.inet_aton(appliance.addresses[1])
    plane = appliance.plane(raw=raw)
    engine.deadline = -1.0  # due: the poll does not wait its minute

    def advance(_now: float) -> None:
        engine.outbox.append((peer, local, b"timer"))

    monkeypatch.setattr(engine, "advance", advance)
    assert plane.poll(60) == 0
    assert node.answer() == (b"timer", (appliance.addresses[1], 20001))


def test_closing_sends_what_is_left(appliance: Appliance, node: Node, raw: bool) -> None:
    plane = appliance.plane(raw=raw)
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    appliance.engine.outbox.append((peer, socket.inet_aton(appliance.addresses[0]), b"last"))
    plane.close()
    assert node.answer()[0] == b"last"
    assert appliance.listeners[0].getsockname() == appliance.target  # still the caller's


def test_after_its_end_nothing_leaves_by_the_numbers_of_its_sockets(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    if not raw:
        pytest.skip("without a raw socket another one is bound")
    plane = appliance.plane(raw=True)
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    local = socket.inet_aton(appliance.addresses[0])
    appliance.engine.outbox.append((peer, local, b"last"))
    plane.close()
    assert node.answer()[0] == b"last"
    made = (socket.SOCK_RAW, socket.IPPROTO_RAW)
    strangers = [socket.socket(socket.AF_INET, *made) for _ in range(20)]
    appliance.engine.outbox.append((peer, local, b"too late"))
    plane.close()
    for stranger in strangers:
        stranger.close()
    assert node.answers() == []
    assert plane.send_errors == {"EADDRNOTAVAIL": 1}


def test_an_address_that_is_not_ours_is_counted(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    plane = appliance.plane(raw=raw)
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    appliance.engine.outbox.append((peer, socket.inet_aton("192.0.2.1"), b"from a former life"))
    plane.poll(0)
    assert plane.send_errors == {"EADDRNOTAVAIL": 1}
    assert node.answers() == []


def test_a_datagram_that_was_cut_never_reaches_the_engine(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    plane = appliance.plane(raw=raw)
    for size in (STRIDE_BYTES + 1, STRIDE_BYTES, 40_000, 100):
        node.send(20001, bytes(size), appliance.target)
    assert plane.poll(5) == 4
    assert plane.truncated == 2
    assert [len(payload) for payload in appliance.engine.payloads] == [STRIDE_BYTES, 100]
    assert [len(data) for data, _ in node.answers()] == [STRIDE_BYTES, 100]


def test_what_the_kernel_dropped_is_counted(
    engine: ScriptedEngine, own_address: Callable[[], str], node: Node
) -> None:
    address = own_address()
    listeners = open_listeners([address], PORT, receive_buffer_bytes=8192)
    plane = SocketPlane(cast(Engine, engine), listeners, raw=False)
    for _ in range(200):
        node.send(20001, bytes(1000), (address, PORT))
    kept = _drain(plane)
    node.send(20001, b"one more tells", (address, PORT))
    plane.poll(5)
    plane.close()
    assert 0 < kept < 200
    assert plane.kernel_drops == 200 - kept
    # Another plane on the same listener does not count them again.
    again = SocketPlane(cast(Engine, engine), listeners, raw=False)
    node.send(20001, b"x", (address, PORT))
    again.poll(5)
    again.close()
    listeners[0].close()
    assert again.kernel_drops == 0


def test_the_kernels_count_wraps(
    appliance: Appliance, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = appliance.plane(raw=False)
    told = iter([0x7FFFFFF0, 0xFFFFFFD0, 0xFFFFFFFE, 3])
    monkeypatch.setattr(plane._batch, "overflow", lambda: next(told))
    for _ in range(4):
        node.send(20001, b"x", appliance.target)
        plane.poll(5)
    assert plane.kernel_drops == (1 << 32) + 3


def test_what_the_kernel_dropped_is_known_when_asked_for(
    engine: ScriptedEngine, own_address: Callable[[], str], node: Node
) -> None:
    address = own_address()
    listeners = open_listeners([address], PORT, receive_buffer_bytes=8192)
    plane = SocketPlane(cast(Engine, engine), listeners, raw=False)
    for _ in range(200):
        node.send(20001, bytes(1000), (address, PORT))
    plane.ask_drops()
    asked = plane.kernel_drops
    kept = _drain(plane)  # these tell of a time when nothing was lost yet
    assert 0 < kept < 200
    assert plane.kernel_drops == asked == 200 - kept
    plane.close()
    listeners[0].close()


def test_a_port_that_cannot_be_bound_loses_its_packets_alone(
    appliance: Appliance, node: Node
) -> None:
    plane = appliance.plane(raw=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((appliance.addresses[0], 20001))
        for port in (20001, 20002, 20001):
            node.send(port, b"x", appliance.target)
        assert plane.poll(5) == 3
    assert [source[1] for _, source in node.answers()] == [20002]
    assert plane.unbindable_ports == 1
    assert plane.send_errors == {"EADDRINUSE": 2}


def test_reply_ports_do_not_stop_a_second_listener_from_being_refused(
    appliance: Appliance, node: Node
) -> None:
    plane = appliance.plane(raw=False, reply_ports=2)
    for port in (6081, 20001, 20002, 20003):
        node.send(port, b"x", appliance.target)
    assert plane.poll(5) == 4
    assert len(node.answers()) == 4
    with pytest.raises(ConfigError, match="another process has UDP"):
        open_listeners([appliance.addresses[0]], PORT)


def test_a_reply_to_ourselves_is_not_sent_for_ever(appliance: Appliance, raw: bool) -> None:
    plane = appliance.plane(raw=raw)
    one, other = appliance.listeners
    one.sendto(b"round and round", other.getsockname())
    assert _drain(plane) == 1
    assert plane.send_errors == {"ELOOP": 1}


def test_a_reply_to_ourselves_does_not_stop_the_others(
    appliance: Appliance, node: Node, raw: bool
) -> None:
    plane = appliance.plane(raw=raw)
    one, other = appliance.listeners
    node.send(20001, b"before", other.getsockname())
    one.sendto(b"round and round", other.getsockname())
    node.send(20001, b"after", other.getsockname())
    assert plane.poll(5) == 3
    assert [data for data, _ in node.answers()] == [b"before", b"after"]
    assert plane.send_errors == {"ELOOP": 1}


def test_every_datagram_keeps_its_own_length(appliance: Appliance, node: Node, raw: bool) -> None:
    plane = appliance.plane(raw=raw, batch=7)
    engine = appliance.engine
    peer = (20001).to_bytes(2, "big") + socket.inet_aton(node.address)
    locals_ = [socket.inet_aton(address) for address in appliance.addresses]

    def decide(payload: bytes) -> int:
        if len(payload) % 5 == 0:
            engine.outbox.append((peer, locals_[len(payload) % 2], payload * 2))
            return REPLACED
        return DROP if len(payload) % 7 == 0 else FORWARD

    engine.decide = decide
    sizes = [n * 311 % 4000 for n in range(100)]
    for number, size in enumerate(sizes):
        node.send(20001 + number % 3, bytes([number]) * size, appliance.target)
    assert _drain(plane) == 100
    wanted = [
        bytes([number]) * (size if size % 5 else 2 * size)
        for number, size in enumerate(sizes)
        if not size % 5 or size % 7
    ]
    assert sorted(data for data, _ in node.answers()) == sorted(wanted)
    assert plane.sent == len(wanted)
    assert not plane.send_errors


def test_a_send_that_fails_is_not_fatal(appliance: Appliance, node: Node, raw: bool) -> None:
    plane = appliance.plane(raw=raw)
    limited = b"\xff\xff\xff\xff"  # a broadcast: refused with EACCES
    local = socket.inet_aton(appliance.addresses[0])
    appliance.engine.outbox.append(((20001).to_bytes(2, "big") + limited, local, b"x"))
    node.send(20001, b"y", appliance.target)
    plane.poll(5)
    assert node.answer()[0] == b"y"
    assert plane.send_errors.total() == 1


def test_other_descriptors_end_the_wait(appliance: Appliance) -> None:
    plane = appliance.plane(raw=False)
    reading, writing = os.pipe()
    os.write(writing, b"!")
    assert plane.poll(60, (reading,)) == 0
    assert plane.ready == [reading]
    assert plane.poll(0) == 0
    assert plane.ready == []
    os.close(reading)
    os.close(writing)


def test_a_wait_may_be_asked_to_last_for_ever(appliance: Appliance, node: Node) -> None:
    plane = appliance.plane(raw=False)
    node.send(20001, b"x", appliance.target)
    assert plane.poll(math.inf) == 1


def test_an_error_at_a_listener_is_counted(
    appliance: Appliance, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = appliance.plane(raw=False)

    def fail(_descriptor: int, _most: int) -> int:
        raise OSError(errno.ECONNREFUSED, "Connection refused")

    node.send(20001, b"x", appliance.target)
    with monkeypatch.context() as patch:
        patch.setattr(plane._batch, "receive", fail)
        assert plane.poll(5) == 0
    assert plane.receive_errors == {"ECONNREFUSED": 1}
    assert plane.poll(5) == 1


def test_a_closed_listener_is_an_error_not_a_busy_loop(
    engine: ScriptedEngine, own_address: Callable[[], str]
) -> None:
    (listener,) = open_listeners([own_address()], PORT)
    plane = SocketPlane(cast(Engine, engine), [listener], raw=False)
    listener.close()
    with pytest.raises(OSError) as caught:
        plane.poll(0)
    assert caught.value.errno == errno.EBADF


def test_a_wildcard_listener_is_refused(engine: ScriptedEngine) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", 0))
        with pytest.raises(ConfigError, match="cannot tell which address was hit"):
            SocketPlane(cast(Engine, engine), [listener])


def test_without_the_privilege_ports_are_bound_or_the_user_is_told(
    appliance: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sockets, "RawReplies", type("Refused", (), {"__init__": refuse}))
    assert appliance.plane(raw=None).raw is False
    with pytest.raises(ConfigError, match="CAP_NET_RAW"):
        appliance.plane(raw=True)


@pytest.mark.parametrize("raw", ["raw"], indirect=True)
def test_the_outer_header_of_a_raw_reply(appliance: Appliance, node: Node, raw: bool) -> None:
    everything = socket.htons(0x0003)  # ETH_P_ALL
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, everything) as tap:
        tap.bind(("lo", 0))
        plane = appliance.plane(raw=raw)
        node.send(60123, b"payload", appliance.target)
        plane.poll(5)
        wanted = socket.inet_aton(appliance.addresses[0]) + socket.inet_aton(node.address)
        while select.select([tap], [], [], 5)[0]:
            packet = tap.recv(65536)
            if packet[12:20] == wanted:
                break
        else:
            pytest.fail("no reply was seen on the wire")
    assert packet[0] == 0x45
    assert struct.unpack_from(">H", packet, 2) == (35,)
    assert packet[8:10] == bytes([64, socket.IPPROTO_UDP])
    assert sum(struct.unpack_from(">10H", packet)) % 0xFFFF == 0
    assert packet[20:] == struct.pack(">HHHH", 60123, 6081, 15, 0) + b"payload"


def test_the_kernel_is_asked_for_its_drop_count(appliance: Appliance) -> None:
    assert appliance.listeners[0].getsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL) == 1
