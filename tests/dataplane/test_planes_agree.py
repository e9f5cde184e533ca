"""The same traffic through memory and through sockets: the same answers, events and counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from firewall_in_memory import TURN_S, Answer, Firewalled, Played, in_memory
from seeded_traffic import Sent, rounds, seeded_flows

from appliance_sdk.dataplane.addresses import open_listeners
from appliance_sdk.dataplane.sockets import SocketPlane

if TYPE_CHECKING:
    from tests.dataplane.conftest import Node


def by_sockets(turns: list[list[Sent]], node: Node, address: str, *, raw: bool) -> Played:
    made = Firewalled(node.address)
    (listener,) = open_listeners([address])
    plane = SocketPlane(made.engine, [listener], raw=raw, batch=16, clock=lambda: made.now)
    answers: list[list[Answer]] = []
    for turn in turns:
        for port, payload in turn:
            node.send(port, payload, (address, 6081))
        taken = 0
        while taken < len(turn):
            count = plane.poll(5)
            assert count
            taken += count
        made.now += TURN_S
        plane.poll(0)
        found = node.answers()
        assert {source for _, (source, _) in found} <= {address}
        answers.append([(port, data) for data, (_, port) in found])
    assert plane.received == plane.engine.received
    assert plane.sent == sum(map(len, answers))
    assert (plane.kernel_drops, plane.truncated, plane.send_errors) == (0, 0, {})
    plane.close()
    listener.close()
    return made.played(answers)


def by_port(answers: list[list[Answer]]) -> list[list[Answer]]:
    """Without a raw socket replies leave port by port, in their order within one."""
    return [sorted(turn, key=lambda answer: answer[0]) for turn in answers]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_memory_and_sockets_agree(
    seed: int, own_address: Callable[[], str], node: Node, raw: bool
) -> None:
    turns = list(rounds(seeded_flows(seed)))
    address = own_address()
    expected = in_memory(turns, node.address, address)
    found = by_sockets(turns, node, address, raw=raw)
    assert found.counters == expected.counters
    assert by_port(found.answers) == by_port(expected.answers)
    assert found.events == expected.events
    # There was something to agree about.
    assert expected.counters["forwarded"] > 500
    assert expected.counters["injected"] > 400
    assert len(expected.counters["dropped"]) > 10
    kinds = {event["event_type"] for event in expected.events}
    assert {"flow", "drop", "anomaly"} <= kinds
