"""Starting: after a crash, at once and again, beside another one, with nobody who reads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator

from appliance_sdk.conformance.case import MAY, MUST, SHOULD, NotConformant, Profile, case
from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.conformance.rig import START_S, Rig, expect

_O = Profile.OPERATIONS
_PROCESS = ("process",)
_CRASH = "whoever supervises an appliance starts it again at once"
_MIDSTREAM = 'AWS guide, "Target failover": flows stay with their target, which has forgotten them'
_TWO = "two instances would each get some of the packets of a flow"
_PRINTED = "a log's reader may stand still or be gone: that must not stop the packets"


@case("operations/crash", MUST, _O, needs=_PROCESS, reference=_CRASH)
def crash(rig: Rig) -> None:
    """After SIGKILL it starts at once on the same addresses, and packets come back within 20 s.

    A health port needs SO_REUSEADDR for that: connections that it closed keep it for a minute.
    """
    healthy = rig.control.health_port and not _never_healthy(rig)
    if healthy:
        for _ in range(10):
            rig.health.check()
    _started(rig)
    if healthy:
        rig.healthy()


@case("operations/starts-again", MUST, _O, needs=_PROCESS, reference=_CRASH)
def starts_again(rig: Rig) -> None:
    """Killed and started three times in a row, it forwards each time: nothing that it left behind
    keeps it from that."""
    for _ in range(3):
        _started(rig)
        rig.returned(*rig.tcp().handshake())


@case(
    "operations/flows-after-crash",
    MUST,
    _O,
    needs=("process", "midstream"),
    reference=_MIDSTREAM,
)
def flows_after_crash(rig: Rig) -> None:
    """After a crash the flows that it knew go on: also one in which only the server speaks.

    Each packet brings its own encapsulation, so that nothing needs to be remembered.
    """
    both, pushed, names = rig.tcp(), rig.tcp(), rig.udp()
    rig.returned(*both.handshake(), *pushed.handshake(), names.to_server(b"question"))
    _started(rig)
    rig.returned(both.to_server(b"as before"), both.ack(to_client=True), both.to_client(b"yes"))
    rig.returned(pushed.to_client(b"first"), pushed.to_client(b"second"))
    rig.returned(names.to_client(b"answer"))


@case("operations/second-instance", SHOULD, _O, needs=_PROCESS, reference=_TWO)
def second_instance(rig: Rig) -> None:
    """A second one on the same address ends, says why, and has a status that is not 0; the first
    one goes on."""
    flow = rig.tcp()
    rig.returned(*flow.handshake())
    status, said = rig.control.second(START_S)
    rig.returned(flow.to_server(b"as before"), flow.to_client(b"yes"))
    expect(status is not None, f"a second one runs beside the first, {START_S:g} s later")
    expect(status != 0, "a second one ended with status 0")
    expect(bool(said), f"a second one ended with status {status} and no word")


@case("operations/unread-output", SHOULD, _O, needs=_PROCESS, reference=_PRINTED)
def unread_output(rig: Rig) -> None:
    """With its output a pipe that is full and that nobody reads, it starts and forwards."""
    with _pipe() as (_, writer):
        _fill(writer)
        _prints_to(rig, writer)


@case("operations/closed-output", SHOULD, _O, needs=_PROCESS, reference=_PRINTED)
def closed_output(rig: Rig) -> None:
    """With its output a pipe whose reader is gone, it starts and forwards."""
    with _pipe() as (reader, writer):
        os.close(reader)
        _prints_to(rig, writer)


@case("operations/hang-up", MAY, _O, needs=_PROCESS, reference="daemons reload on SIGHUP")
def hang_up(rig: Rig) -> None:
    """SIGHUP does not end it, and its flows go on."""
    flow = rig.tcp()
    rig.returned(*flow.handshake())
    rig.control.process.signal(signal.SIGHUP)
    for _ in range(5):
        rig.advance(0.1)
        expect(rig.control.ended_within(0.0) is None, "SIGHUP ended it")
        rig.returned(flow.to_server(b"request"), flow.to_client(b"response"))


def _started(rig: Rig) -> None:
    problem = rig.restart()
    if problem:
        raise NotConformant(f"killed and started again, it does not forward: {problem}")


def _never_healthy(rig: Rig) -> bool:
    try:
        rig.healthy()
    except NotConformant:
        return True
    return False


def _prints_to(rig: Rig, descriptor: int) -> None:
    """Start it anew with this output, give it something to report, and look whether it works."""
    control = rig.control
    control.kill()
    control.start(descriptor)
    try:
        problem = rig.comes_up(START_S)
        if problem:
            raise NotConformant(f"it does not forward: {problem}")
        flow = rig.tcp()
        rig.returned(*flow.handshake())
        for number in range(100):
            rig.send(Datagram(b"", rig.random.randbytes(number), 61001))
            rig.send(rig.udp(endpoint=f"vpce-{number + 1:017x}").to_server(b"who is this?"))
        rig.answers()
        rig.returned(flow.to_server(b"as before"), flow.to_client(b"yes"))
    finally:
        control.kill()


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _fill(writer: int) -> None:
    """Write to a pipe until it takes no more; to whoever gets it, it blocks again."""
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    fcntl.fcntl(writer, fcntl.F_SETFL, 0)
