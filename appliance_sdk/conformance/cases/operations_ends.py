"""How an appliance ends when it is told to: drained, with nothing lost on the way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from appliance_sdk.conformance.case import MUST, NotConformant, Profile, case
from appliance_sdk.conformance.conversation import Datagram, TcpConversation
from appliance_sdk.conformance.prober import SHORTEST_TIMEOUT_S
from appliance_sdk.conformance.rig import Rig, expect

_O = Profile.OPERATIONS
_PROCESS = ("process",)
_DRAIN = ("process", "drain")
_STOP = "SIGTERM is how systemd, Docker and Kubernetes end a program; SIGKILL follows"
_PINNED = 'AWS guide, "Target failover": with no_rebalance flows stay with an unhealthy target'
_UNTIL = 'AWS guide, "Health checks": new flows come until two checks have failed'
_ENDS_S = 45.0
_SERVED_S = 2.0
_NEXT_S = 1.0
"""Checks come every 5 s at the most often: so soon after a signal none has to fail."""
_STEP_S = 0.1


@case("operations/terminate", MUST, _O, needs=_PROCESS, reference=_STOP)
def terminate(rig: Rig) -> None:
    """SIGTERM ends it within 45 s once its flows are closed: with status 0 or by the signal
    itself, with status 0 if it drains.

    One that drains may be told in its own settings to wait less long than in production.
    """
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"the last"), *flow.closing())
    rig.control.terminate()
    status = rig.control.ended_within(_ENDS_S)
    expect(status is not None, f"it runs yet, {_ENDS_S:g} s after SIGTERM")
    usual = (0,) if rig.features.drain else (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    expect(status in usual, f"SIGTERM ended it with status {status}" + rig.control.last_words())


@case("operations/drain-fails-checks", MUST, _O, needs=("health", *_DRAIN), reference=_UNTIL)
def drain_fails_checks(rig: Rig) -> None:
    """After SIGTERM the next health check fails while packets of a flow still come."""
    port = rig.healthy()
    with _draining(rig) as flow:
        for _ in range(round(_NEXT_S / _STEP_S)):
            rig.returned(flow.to_server(b"is it healthy?"))
            if port.failing(SHORTEST_TIMEOUT_S):
                return
            rig.advance(_STEP_S)
        raise NotConformant("checks succeed after SIGTERM")


@case("operations/drain-serves-flows", MUST, _O, needs=_DRAIN, reference=_PINNED)
def drain_serves_flows(rig: Rig) -> None:
    """After SIGTERM, unhealthy, it goes on with the flows that it has, for 2 s at least."""
    with _draining(rig) as flow:
        for number in range(round(_SERVED_S / _STEP_S)):
            rig.returned(flow.to_server(b"request %d" % number), flow.to_client(b"response"))
            rig.advance(_STEP_S)
        rig.returned(*flow.closing())


@case("operations/drain-takes-flows", MUST, _O, needs=_DRAIN, reference=_UNTIL)
def drain_takes_flows(rig: Rig) -> None:
    """After SIGTERM it takes new flows for 2 s at least: GWLB sends them until its checks have
    failed, and for good if no target is healthy."""
    with _draining(rig):
        for number in range(round(_SERVED_S / _STEP_S)):
            flow = rig.tcp()
            rig.returned(*flow.handshake(), rig.udp().to_server(b"new %d" % number))
            rig.advance(_STEP_S)


@case("operations/drain-loses-nothing", MUST, _O, needs=_DRAIN, reference=_PINNED)
def drain_loses_nothing(rig: Rig) -> None:
    """Packets that it was sent just before SIGTERM come back."""
    flow = rig.udp()
    sent = [flow.to_server(b"in flight %d" % number) for number in range(100)]
    with _draining(rig, *sent):
        for datagram in sent:
            rig.comes_back(datagram)


@contextlib.contextmanager
def _draining(rig: Rig, *in_flight: Datagram) -> Iterator[TcpConversation]:
    """The appliance is told to end while a flow is open, the one given, and packets come in.

    What is left of it is ended: no other case is asked of that.
    """
    flow = rig.tcp()
    rig.returned(*flow.handshake(), flow.to_server(b"before"))
    for datagram in in_flight:
        rig.send(datagram)
    rig.control.terminate()
    try:
        yield flow
    except NotConformant as error:
        raise NotConformant(f"{error}{rig.ended()}") from None
    finally:
        rig.control.kill()
