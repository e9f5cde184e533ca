"""Whether checks tell the truth: they fail when no packet is taken any more."""

from __future__ import annotations

import signal
import time

from appliance_sdk.conformance.case import MUST, NotConformant, Profile, case
from appliance_sdk.conformance.prober import SHORTEST_TIMEOUT_S
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.harness.process_tree import send_signal

_H = Profile.HEALTH
_NEEDS = ("health", "http_health", "process")
_TRUTH = (
    "observed: targets stayed healthy while packets were lost (fck-nat, pull request 95); "
    'aws-networking-best-practices: "health checks should exercise the real inspection path"'
)
_WITHIN_S = 20.0
"""Two checks at the default interval of 10 s: so long packets are lost unseen anyway."""
_LOOK_S = 0.1


@case("health/data-path-hangs", MUST, _H, needs=_NEEDS, reference=_TRUTH)
def data_path_hangs(rig: Rig) -> None:
    """When the processes that take packets hang, checks fail within 20 s, or packets pass again
    by then.

    Processes that hold the socket on UDP 6081, and not the health port, are stopped (SIGSTOP). If
    one process does both, it is stopped as a whole, and must not answer.
    """
    control = rig.control
    rig.healthy()
    with control.paused(control.data_path()):
        _found_out(rig, "hang")
    _settle(rig)


@case("health/data-path-dies", MUST, _H, needs=_NEEDS, reference=_TRUTH)
def data_path_dies(rig: Rig) -> None:
    """When the processes that take packets are killed, checks fail within 20 s, or packets pass
    again by then, or the appliance ends."""
    control = rig.control
    rig.healthy()
    for pid in control.data_path():
        send_signal(pid, signal.SIGKILL)
    _found_out(rig, "were killed")
    _settle(rig)


def _found_out(rig: Rig, what: str) -> None:
    """Wait until checks fail, packets pass, or the appliance has ended."""
    deadline = time.monotonic() + _WITHIN_S
    while True:
        if rig.control.ended_within(0.0) is not None or rig.health.failing(SHORTEST_TIMEOUT_S):
            return
        lost = rig.comes_up(_LOOK_S)
        if not lost:
            return
        if time.monotonic() > deadline:
            raise NotConformant(
                f"the processes that take packets {what}, and after {_WITHIN_S:g} s health checks "
                f"succeed yet ({lost})"
            )


def _settle(rig: Rig) -> None:
    """Leave an appliance that works: where it does not by itself, it is started again."""
    if not rig.control.running or rig.comes_up(_WITHIN_S) or rig.health.failing(SHORTEST_TIMEOUT_S):
        rig.control.kill()
