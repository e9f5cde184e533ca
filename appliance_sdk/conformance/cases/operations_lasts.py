"""What lasts: descriptors and memory that do not grow, and what an appliance reports."""

from __future__ import annotations

from collections.abc import Callable

from appliance_sdk.conformance.case import SHOULD, Profile, case
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.harness.process_tree import descriptors, memory_bytes

_O = Profile.OPERATIONS
_LEAK = "an appliance runs for months: what is not given back is gone"
_SETTLE_S = 10.0
_SPARE_DESCRIPTORS = 8
_SPARE_BYTES = 1024 * 1024


@case("operations/descriptors", SHOULD, _O, needs=("process",), reference=_LEAK)
def descriptors_given_back(rig: Rig) -> None:
    """After thousands of packets of two thousand flows it has no more files and sockets open than
    after six hundred before them."""
    _flows(rig, 600)  # each of several processes may open a socket for each port
    before = descriptors(rig.control.family())
    _flows(rig, 2000)
    _not_more(rig, "descriptors", before, _SPARE_DESCRIPTORS, descriptors)


@case("operations/descriptors-of-checks", SHOULD, _O, needs=("process", "health"), reference=_LEAK)
def descriptors_of_checks(rig: Rig) -> None:
    """After a thousand health checks and as many connections that say nothing or are reset, it
    has no more files and sockets open than before."""
    port = rig.healthy()
    before = descriptors(rig.control.family())
    for number in range(1000):
        port.check(number % len(port.nodes))
        connection = port.connect(number % len(port.nodes))
        (connection.abort if number % 2 else connection.close)()
    _not_more(rig, "descriptors", before, _SPARE_DESCRIPTORS, descriptors)


@case("operations/memory", SHOULD, _O, needs=("process",), reference=_LEAK)
def memory(rig: Rig) -> None:
    """Eight thousand more packets of flows that it knows need no more memory than the first eight
    thousand did."""
    problem = rig.restart()  # what ends of the flows of other cases takes memory too
    expect(not problem, f"it does not start again: {problem}")
    flows = [rig.udp() for _ in range(200)]

    def packets() -> None:
        for _ in range(40):
            for flow in flows:
                rig.send(flow.to_server(b"m" * 100))
            rig.answers()

    packets()
    before = memory_bytes(rig.control.family())
    packets()
    _not_more(rig, "bytes of memory", before, _SPARE_BYTES, memory_bytes)


@case("operations/events", SHOULD, _O, needs=("alerts",), reference="Suricata's EVE JSON format")
def events(rig: Rig) -> None:
    """What it writes to CONFORMANCE_EVENTS, if anything, is a JSON object a line, with
    `timestamp` and `event_type`."""
    flow = rig.tcp()
    rig.returned(*flow.handshake(), *flow.closing())
    rig.advance(1.0)
    for event in rig.alerts():
        for name in ("timestamp", "event_type"):
            value = event.get(name)
            expect(isinstance(value, str) and bool(value), f"{name} is {value!r} in {event}")


def _flows(rig: Rig, count: int) -> None:
    """So many flows, from all the ports that are used, opened and closed."""
    for start in range(0, count, 40):
        flows = [rig.tcp() for _ in range(40)]
        for number, flow in enumerate(flows):
            flow.source_port = 61000 + (start + number) % 32
        for flow in flows:
            rig.send(flow.syn())
        rig.answers()
        for flow in flows:
            for datagram in (flow.syn_ack(), flow.ack(), *flow.closing()):
                rig.send(datagram)
        rig.answers()


def _not_more(
    rig: Rig, what: str, before: int, spare: int, count: Callable[[list[int]], int]
) -> None:
    """There are no more of them than there were, or soon are not."""
    deadline = rig.wire.now + _SETTLE_S
    while (now := count(rig.control.family())) > before + spare:
        expect(rig.wire.now < deadline, f"{before:,} {what} became {now:,}")
        rig.advance(0.2)
