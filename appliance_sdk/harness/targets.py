"""A target group: who is registered, in what state each zone sees them, and who is picked."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.members import Member, check_address
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.states import (
    CHECKING,
    DEREGISTERING,
    NOT_IN_USE,
    NOT_REGISTERED,
    REASON_CODES,
    REGISTERING,
    Change,
    State,
    Target,
    TargetHealth,
)
from appliance_sdk.plugin.config import near_miss

_FAILED = (State.UNHEALTHY, State.UNUSED)
_NOT_ASKED = (State.DRAINING, State.UNUSED, State.UNAVAILABLE)


class TargetGroup:
    """The targets behind one Gateway Load Balancer; `changed` is told of every new state."""

    def __init__(
        self,
        settings: GatewaySettings,
        zones: Iterable[str],
        seed: int,
        changed: Callable[[Change], None],
    ) -> None:
        self._settings = settings
        self._zones: list[str] = []
        self._seed = str(seed).encode()
        self._random = random.Random(f"targets {seed}")
        self._members: dict[str, Member] = {}
        self.by_address: dict[str, Target] = {}
        """Every target; one that was deregistered still returns its flows."""
        self.failed: dict[str, set[str]] = {}
        """By zone, the names of targets that flows may have to leave: unhealthy or unused."""
        self._healthy: dict[str, list[Member]] = {}
        self._deadline: float | None = None
        """None: to be found out."""
        self._changed = changed
        for zone in zones:
            self.add_zone(zone, 0.0)

    def __iter__(self) -> Iterator[Target]:
        """Every target that is registered or was."""
        return (member.target for member in self._members.values())

    def configure(self, settings: GatewaySettings, now: float) -> None:
        """Other settings from now on."""
        self._settings = settings
        self.watch(now)

    def add_zone(self, zone: str, now: float) -> None:
        """Another zone has a node: its targets are in use from now on."""
        self._zones.append(zone)
        self.failed.setdefault(zone, set())
        self.watch(now)

    def watch(self, now: float) -> None:
        """Have every zone look at the targets that it has to: its own, or all across zones."""
        self._forget()
        for member in self._members.values():
            if member.registered:
                for zone in self.watching(member.target):
                    if member.reason.get(zone, NOT_IN_USE) == NOT_IN_USE:
                        self._begin(member, zone, now)

    def register(self, target: Target, now: float) -> None:
        """Add a target, or one that was deregistered again; its flows stay with it.

        In a zone without a node it is unused. Raises HarnessError if the name or the address is
        taken, the address is none that AWS takes, or there are too many.
        """
        former = self._members.get(target.name)
        if former is not None and former.registered:
            raise HarnessError(f"target {target.name} is registered already")
        holder = self.by_address.get(target.address, target).name
        if holder != target.name and self._members[holder].registered:
            raise HarnessError(f"{target.address} is the address of target {holder}")
        check_address(target)
        limit = self._settings.max_targets
        if sum(member.registered for member in self._members.values()) >= limit:
            raise HarnessError(f"TooManyTargets: {limit} are registered already (max_targets)")
        if former is not None:
            del self.by_address[former.target.address]
        member = Member(target, self._seed, now)
        self._members[target.name] = member
        self.by_address[target.address] = target
        self.watch(now)
        if target.zone not in self._zones:
            self.failed.setdefault(target.zone, set())
            self._set(member, target.zone, State.UNUSED, NOT_IN_USE, now)

    def deregister(self, name: str, now: float) -> None:
        """Take a target out: draining at once, unused after the deregistration delay."""
        member = self._member(name)
        if not member.registered:
            return
        member.registered = False
        member.deregistered_at = now
        for zone, state in member.state.items():
            if state is State.UNUSED:
                self._set(member, zone, State.UNUSED, NOT_REGISTERED, now)
            else:
                self._set(member, zone, State.DRAINING, DEREGISTERING, now)
        self.advance(now)

    def probed(self, name: str, zone: str, reason: str, now: float) -> bool:
        """The result of a health check: "" for a success, else why it failed.

        Returns whether the target became healthy by it. Raises HarnessError if that is none of
        AWS's reasons for unhealthy targets.
        """
        if reason and reason not in REASON_CODES[State.UNHEALTHY]:
            raise HarnessError(_unknown_reason(State.UNHEALTHY, reason))
        member = self._members.get(name)
        if member is None or not member.registered or zone not in self.watching(member.target):
            return False
        state = member.state[zone]
        if state in _NOT_ASKED:
            return False
        check = self._settings.health_check
        streak = member.streak[zone]
        member.streak[zone] = streak = max(streak, 0) + 1 if not reason else min(streak, 0) - 1
        needed = check.healthy_threshold
        if state is State.INITIAL:
            needed = self._settings.undocumented.initial_successes or needed
        if streak >= needed and state is not State.HEALTHY:
            self._set(member, zone, State.HEALTHY, "", now)
            return True
        if streak <= -check.unhealthy_threshold and state is not State.UNHEALTHY:
            self._set(member, zone, State.UNHEALTHY, reason, now)
        return False

    def report(self, name: str, state: State, reason: str, now: float, zone: str = "") -> None:
        """Put a target into a state that no health check leads to, until another is reported.

        An instance that was stopped is unused (Target.InvalidState); health that cannot be told
        is unavailable (Elb.InternalError); initial (Elb.InitialHealthChecking) asks it again. In
        one zone or in all that ask it. Raises HarnessError for a reason that is not the state's.
        """
        member = self._member(name)
        if reason not in REASON_CODES[state]:
            raise HarnessError(_unknown_reason(state, reason))
        for each in [zone] if zone else list(member.state):
            if each not in member.state:
                raise HarnessError(f"no zone {each!r} asks {name}: {', '.join(member.state)}")
            self._set(member, each, state, reason, now)

    def advance(self, now: float) -> None:
        """Begin to ask targets that are registered, end the deregistration delays that are over."""
        if now < self.next_deadline():
            return
        for member in self._members.values():
            for zone, state in member.state.items():
                if state is State.DRAINING and now >= self._unused_at(member):
                    self._set(member, zone, State.UNUSED, NOT_REGISTERED, now)
                elif member.reason[zone] == REGISTERING and now >= self._asked_at(member):
                    self._set(member, zone, State.INITIAL, CHECKING, now)

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing is pending."""
        if self._deadline is not None:
            return self._deadline
        deadline = math.inf
        for member in self._members.values():
            if State.DRAINING in member.state.values():
                deadline = min(deadline, self._unused_at(member))
            if REGISTERING in member.reason.values():
                deadline = min(deadline, self._asked_at(member))
        self._deadline = deadline
        return deadline

    def state(self, name: str, zone: str = "") -> State:
        """A target's state as a zone sees it, by default its own."""
        member = self._member(name)
        return member.state.get(zone or member.target.zone, State.UNUSED)

    def health(self, name: str = "") -> list[TargetHealth]:
        """The health of one target or of all, in the eyes of each zone that asks."""
        if name and name not in self._members:
            return [TargetHealth(name, "", State.UNUSED, NOT_REGISTERED)]
        members = [self._members[name]] if name else self._members.values()
        return [
            TargetHealth(member.target.name, zone, state, member.reason[zone])
            for member in members
            for zone, state in member.state.items()
        ]

    def at(self, address: str) -> Target | None:
        """The target with an address; one that was deregistered still returns its flows."""
        return self.by_address.get(address)

    def checked(self) -> list[tuple[str, Target]]:
        """Every (zone, target) that has health checks."""
        return [
            (zone, member.target)
            for member in self._members.values()
            if member.registered
            for zone in self.watching(member.target)
            if member.state[zone] not in _NOT_ASKED and member.reason[zone] != REGISTERING
        ]

    def usable(self, name: str, zone: str, now: float) -> bool:
        """Whether a flow on this target stays there when flows are rebalanced."""
        member = self._members[name]
        if member.state.get(zone, State.UNUSED) not in _FAILED:
            return True
        return now < member.since.get(zone, now) + self._settings.undocumented.failover_delay_s

    def pick(self, zone: str, key: bytes, *, healthy_only: bool = False) -> Target | None:
        """The target for a flow: by rendezvous hash of `key` among the healthy ones.

        If there is none, GWLB fails open: any at random (AWS guide, "Health checks"). With
        `healthy_only`, or with nothing registered in the zone, None.
        """
        healthy = self._healthy.get(zone)
        if healthy is None:
            self._healthy[zone] = healthy = self._in(zone, self._eligible())
        if len(healthy) == 1:
            return healthy[0].target
        if healthy:
            return max(healthy, key=lambda member: member.weight(key)).target
        states = [State.UNHEALTHY, State.UNAVAILABLE]
        if self._settings.undocumented.initial_targets != "never":
            states.append(State.INITIAL)
        others = self._in(zone, states)
        if healthy_only or not others:
            return None
        return self._random.choice(others).target

    def is_registered(self, name: str) -> bool:
        """Whether a target is registered; one that drains no longer is."""
        member = self._members.get(name)
        return member is not None and member.registered

    def counts(self, zone: str = "") -> tuple[int, int]:
        """Healthy and unhealthy targets in the eyes of a zone; without one, of each target's."""
        states = [
            member.state[zone or member.target.zone]
            for member in self._members.values()
            if member.registered and (zone or member.target.zone) in self.watching(member.target)
        ]
        return states.count(State.HEALTHY), states.count(State.UNHEALTHY)

    def watching(self, target: Target) -> list[str]:
        """The zones whose node asks a target and sends flows to it."""
        if target.zone not in self._zones:
            return []
        return self._zones if self._settings.load_balancer.cross_zone else [target.zone]

    def _eligible(self) -> list[State]:
        """The states of targets that new flows are spread over."""
        always = self._settings.undocumented.initial_targets == "always"
        return [State.HEALTHY, State.INITIAL] if always else [State.HEALTHY]

    def _in(self, zone: str, states: list[State]) -> list[Member]:
        return [
            member
            for member in self._members.values()
            if member.registered
            and zone in self.watching(member.target)
            and member.state[zone] in states
            and member.reason[zone] != REGISTERING
        ]

    def _begin(self, member: Member, zone: str, now: float) -> None:
        self._set(member, zone, State.INITIAL, REGISTERING, now)
        if not self._settings.undocumented.registration_s:
            self._set(member, zone, State.INITIAL, CHECKING, now)

    def _unused_at(self, member: Member) -> float:
        return member.deregistered_at + self._settings.target_group.deregistration_delay_s

    def _asked_at(self, member: Member) -> float:
        return member.registered_at + self._settings.undocumented.registration_s

    def _member(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members) or "none"
            raise HarnessError(f"no target {name!r}; known: {known}") from None

    def _set(self, member: Member, zone: str, state: State, reason: str, now: float) -> None:
        member.state[zone], member.reason[zone] = state, reason
        member.since[zone], member.streak[zone] = now, member.streak.get(zone, 0)
        if state in (State.INITIAL, State.DRAINING):
            member.streak[zone] = 0
        failed = self.failed[zone]
        (failed.add if state in _FAILED else failed.discard)(member.target.name)
        self._forget()
        self._changed(Change(now, member.target.name, zone, state, reason))

    def _forget(self) -> None:
        """What was found out is no longer so."""
        self._healthy.clear()
        self._deadline = None


def _unknown_reason(state: State, reason: str) -> str:
    hint = near_miss(reason, list(REASON_CODES[state]))
    return f"{reason!r} is no reason for {state} ({hint})"
