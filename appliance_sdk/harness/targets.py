"""A target group: who is registered, in what state each zone sees them, and who is picked."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.settings import GatewaySettings


class State(StrEnum):
    """The states of a target (ELBv2 API, `TargetHealth`)."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    UNUSED = "unused"


_FAILED = (State.UNHEALTHY, State.UNUSED)


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


class _Member:
    """One target, with what each zone thinks of it."""

    def __init__(self, target: Target, zones: tuple[str, ...], hash: Any, now: float) -> None:
        self.target = target
        self._hash = hash
        self.registered = True
        self.deregistered_at = now
        self.state = dict.fromkeys(zones, State.INITIAL)
        self.streak = dict.fromkeys(zones, 0)
        """Successes in a row, negative: failures."""
        self.since = dict.fromkeys(zones, now)

    def weight(self, key: bytes) -> bytes:
        """The target with the greatest takes the flow (rendezvous hashing)."""
        digest = self._hash.copy()
        digest.update(key)
        value: bytes = digest.digest()
        return value


class TargetGroup:
    """The targets behind one Gateway Load Balancer; `changes` tells of every new state."""

    def __init__(
        self,
        settings: GatewaySettings,
        zones: tuple[str, ...],
        seed: int,
        changed: Callable[[Change], None],
    ) -> None:
        self._settings = settings
        self._zones = zones
        self._seed = str(seed).encode()
        self._random = random.Random(f"targets {seed}")
        self._members: dict[str, _Member] = {}
        self.by_address: dict[str, Target] = {}
        """Every target; one that was deregistered still returns its flows."""
        self.failed: dict[str, set[str]] = {zone: set() for zone in zones}
        """By zone, the names of targets that flows may have to leave: unhealthy or unused."""
        self._changed = changed

    def __iter__(self) -> Iterator[Target]:
        """Every target that is registered or was."""
        return (member.target for member in self._members.values())

    def register(self, target: Target, now: float) -> None:
        """Add a target, or one that was deregistered again; its flows stay with it.

        Raises HarnessError if the name or the address is taken, or the zone is unknown.
        """
        if target.zone not in self._zones:
            known = ", ".join(self._zones)
            raise HarnessError(f"{target.name}: no zone {target.zone!r}; zones: {known}")
        former = self._members.get(target.name)
        if former is not None and former.registered:
            raise HarnessError(f"target {target.name} is registered already")
        holder = self.by_address.get(target.address, target).name
        if holder != target.name and self._members[holder].registered:
            raise HarnessError(f"{target.address} is the address of target {holder}")
        if former is not None:
            del self.by_address[former.target.address]
        member = _Member(target, self._zones, self._salted(target.name), now)
        self._members[target.name] = member
        self.by_address[target.address] = target
        for zone in self._watching(target):
            self._set(member, zone, State.INITIAL, "Elb.RegistrationInProgress", now)

    def deregister(self, name: str, now: float) -> None:
        """Take a target out: draining at once, unused after the deregistration delay."""
        member = self._member(name)
        if not member.registered:
            return
        member.registered = False
        member.deregistered_at = now
        for zone in self._watching(member.target):
            self._set(member, zone, State.DRAINING, "Target.DeregistrationInProgress", now)
        self.advance(now)

    def probed(self, name: str, zone: str, reason: str, now: float) -> None:
        """The result of a health check: "" for a success, else why it failed."""
        member = self._members.get(name)
        if member is None or not member.registered or zone not in self._watching(member.target):
            return
        check = self._settings.health_check
        streak = member.streak[zone]
        member.streak[zone] = streak = max(streak, 0) + 1 if not reason else min(streak, 0) - 1
        state = member.state[zone]
        needed = check.healthy_threshold
        if state is State.INITIAL:
            needed = self._settings.undocumented.initial_successes or needed
        if streak >= needed and state is not State.HEALTHY:
            self._set(member, zone, State.HEALTHY, "", now)
        elif streak <= -check.unhealthy_threshold and state is not State.UNHEALTHY:
            self._set(member, zone, State.UNHEALTHY, reason, now)

    def advance(self, now: float) -> None:
        """End the deregistration delays that are over."""
        for member in self._members.values():
            if not member.registered and now >= self._unused_at(member):
                for zone in self._watching(member.target):
                    if member.state[zone] is State.DRAINING:
                        self._set(member, zone, State.UNUSED, "Target.NotRegistered", now)

    def next_deadline(self) -> float:
        """When the next deregistration delay ends, math.inf if none runs."""
        return min(
            (
                self._unused_at(member)
                for member in self._members.values()
                if not member.registered and State.DRAINING in member.state.values()
            ),
            default=float("inf"),
        )

    def state(self, name: str, zone: str = "") -> State:
        """A target's state as a zone sees it, by default its own."""
        member = self._member(name)
        return member.state[zone or member.target.zone]

    def at(self, address: str) -> Target | None:
        """The target with an address; one that was deregistered still returns its flows."""
        return self.by_address.get(address)

    def checked(self) -> list[tuple[str, Target]]:
        """Every (zone, target) that has health checks."""
        return [
            (zone, member.target)
            for member in self._members.values()
            if member.registered
            for zone in self._watching(member.target)
        ]

    def usable(self, name: str, zone: str, now: float) -> bool:
        """Whether a flow on this target stays there when flows are rebalanced."""
        member = self._members[name]
        state = member.state[zone]
        if state is State.DRAINING:
            return True
        settled = now >= member.since[zone] + self._settings.undocumented.failover_delay_s
        return state not in (State.UNHEALTHY, State.UNUSED) or not settled

    def pick(self, zone: str, key: bytes, *, healthy_only: bool = False) -> Target | None:
        """The target for a flow: by rendezvous hash of `key` among the healthy ones.

        If there is none, GWLB fails open: any at random (AWS guide, "Health checks"). With
        `healthy_only`, or with nothing registered in the zone, None.
        """
        here = [
            member
            for member in self._members.values()
            if member.registered and zone in self._watching(member.target)
        ]
        healthy = [member for member in here if member.state[zone] is State.HEALTHY]
        if len(healthy) == 1:
            return healthy[0].target
        if healthy:
            return max(healthy, key=lambda member: member.weight(key)).target
        if not self._settings.undocumented.fail_open_to_initial:
            here = [member for member in here if member.state[zone] is not State.INITIAL]
        if healthy_only or not here:
            return None
        return self._random.choice(here).target

    def counts(self, zone: str) -> tuple[int, int]:
        """Healthy and unhealthy targets in the eyes of a zone."""
        states = [
            member.state[zone]
            for member in self._members.values()
            if member.registered and zone in self._watching(member.target)
        ]
        return states.count(State.HEALTHY), states.count(State.UNHEALTHY)

    def _watching(self, target: Target) -> tuple[str, ...]:
        return self._zones if self._settings.load_balancer.cross_zone else (target.zone,)

    def _unused_at(self, member: _Member) -> float:
        return member.deregistered_at + self._settings.target_group.deregistration_delay_s

    def _member(self, name: str) -> _Member:
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members) or "none"
            raise HarnessError(f"no target {name!r}; known: {known}") from None

    def _set(self, member: _Member, zone: str, state: State, reason: str, now: float) -> None:
        member.state[zone] = state
        member.since[zone] = now
        failed = self.failed[zone]
        (failed.add if state in _FAILED else failed.discard)(member.target.name)
        if state in (State.INITIAL, State.DRAINING):
            member.streak[zone] = 0
        self._changed(Change(now, member.target.name, zone, state, reason))

    def _salted(self, name: str) -> Any:
        return hashlib.blake2b(
            digest_size=8,
            key=self._seed[:32],
            salt=hashlib.blake2b(name.encode(), digest_size=16).digest(),
        )
