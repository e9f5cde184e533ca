"""The socket plane and the real engine together: what only the two of them can get wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from appliance_sdk.dataplane.addresses import open_listeners
from appliance_sdk.dataplane.sockets import SocketPlane
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.geneve import build_geneve
from appliance_sdk.wire.packet import ACK, RST, SYN, parse_packet

if TYPE_CHECKING:
    from tests.dataplane.conftest import Node

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


class Redact(FlowHandler["Guard"]):
    def packet(self, packet: Packet) -> Outcome:
        if packet.payload == b"secret":
            packet.patch(0, b"******")
        return None


class Guard(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Verdict.REJECT if flow.server_port == 23 else Redact()


@pytest.fixture
def address(own_address: Callable[[], str]) -> str:
    return own_address()


@pytest.fixture
def plane(address: str, node: Node, raw: bool) -> Iterator[SocketPlane]:
    engine = Engine(
        Pipeline.build([Enabled("guard", Guard)], {}),
        EngineSettings(origins=(f"{node.address}/32",)),
        now=time.monotonic(),
        emit=lambda event: None,
        log=lambda event, **fields: None,
    )
    engine.start()
    (listener,) = open_listeners([address])
    plane = SocketPlane(engine, [listener], raw=raw)
    yield plane
    plane.close()
    listener.close()


def test_a_reset_leaves_in_the_encapsulation_of_what_it_answers(
    plane: SocketPlane, node: Node, address: str
) -> None:
    header = build_geneve(0xA1B2C3D4E5F60718, 0xDEADBEEF, attachment_id=99)
    node.send(61000, header + build_tcp(A, B, 40000, 23, flags=SYN, seq=7), (address, 6081))
    plane.poll(5)
    answer, source = node.answer()
    assert source == (address, 61000)
    assert answer[:40] == header
    reset = parse_packet(answer, 40, len(answer))
    assert (reset.source, reset.destination) == (B, A)
    assert (reset.flags, reset.ack) == (RST | ACK, 8)
    assert node.answers() == []


def test_an_edited_packet_keeps_its_place(plane: SocketPlane, node: Node, address: str) -> None:
    header = build_geneve(0xA1B2C3D4E5F60718, 5)
    for text in (b"one", b"secret", b"two"):
        packet = build_udp(A, B, 40000, 5000, payload=text)
        node.send(61000, header + packet, (address, 6081))
    assert plane.poll(5) == 3
    answers = [data for data, _ in node.answers()]
    assert answers == [
        header + build_udp(A, B, 40000, 5000, payload=text) for text in (b"one", b"******", b"two")
    ]


def test_strangers_get_no_answer(
    plane: SocketPlane, second_node: Node, node: Node, address: str
) -> None:
    datagram = build_geneve(1, 5) + build_udp(A, B, 40000, 5000)
    second_node.send(61000, datagram, (address, 6081))
    node.send(61001, b"\x08", (address, 6081))
    assert plane.poll(5) == 2
    assert plane.sent == 0
    assert plane.engine.drops == {"origin": 1, "geneve_too_short": 1}
    assert plane.engine.flow_count == 0
