"""Targets and their states, with the reason codes of the ELBv2 API (`TargetHealth`)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    """The states of a target."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    UNUSED = "unused"
    UNAVAILABLE = "unavailable"


REGISTERING, CHECKING = "Elb.RegistrationInProgress", "Elb.InitialHealthChecking"
FAILED, TIMED_OUT = "Target.FailedHealthChecks", "Target.Timeout"
WRONG_CODE = "Target.ResponseCodeMismatch"
INTERNAL = "Elb.InternalError"
DEREGISTERING = "Target.DeregistrationInProgress"
NOT_REGISTERED, NOT_IN_USE = "Target.NotRegistered", "Target.NotInUse"

REASON_CODES: Mapping[State, Mapping[str, str]] = MappingProxyType(
    {
        State.INITIAL: {
            REGISTERING: "Target registration is in progress",
            CHECKING: "Initial health checks in progress",
        },
        State.HEALTHY: {"": ""},
        State.UNHEALTHY: {
            WRONG_CODE: "Health checks failed with an unexpected HTTP code",
            TIMED_OUT: "Request timed out",
            FAILED: "Health checks failed",
            INTERNAL: "Health checks failed due to an internal error",
        },
        State.DRAINING: {DEREGISTERING: "Target deregistration is in progress"},
        State.UNUSED: {
            NOT_REGISTERED: "Target is not registered to the target group",
            NOT_IN_USE: "Target is in an Availability Zone that is not enabled",
            "Target.InvalidState": "Target is in the stopped or terminated state",
            "Target.IpUnusable": "Target IP address is in use by a load balancer",
        },
        State.UNAVAILABLE: {
            "Target.HealthCheckDisabled": "Health checks are disabled",
            INTERNAL: "Target health is unavailable due to an internal error",
        },
    }
)
"""Why a target is in each state, and what that means."""


class Target(NamedTuple):
    """One appliance: its name, IPv4 address and zone."""

    name: str
    address: str
    zone: str


class Change(NamedTuple):
    """A target's state in the eyes of one zone's node became another one."""

    time: float
    target: str
    zone: str
    state: State
    reason: str
    """As AWS says it: "Target.FailedHealthChecks"."""


class TargetHealth(NamedTuple):
    """What `describe-target-health` says of a target, for each zone whose node asks it."""

    target: str
    zone: str
    state: State
    reason: str
    """One of `REASON_CODES[state]`, "" if it is healthy."""

    @property
    def description(self) -> str:
        """The reason in words."""
        return REASON_CODES[self.state][self.reason]
