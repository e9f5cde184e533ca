"""What goes wrong on the way to and from an appliance or a host, all of it drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.config import decode_config, near_miss

Direction: TypeAlias = Literal["to", "from"]

_RATES = ("loss", "duplicate", "reorder", "corrupt", "truncate")
_ON_TARGETS = ("kill", "hang", "deaf", "slow_s")


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[faults]]`: what is wrong with the link of a target or a host, or with a target itself.

    The names are those of tc-netem(8). Rates are probabilities, 0 to 1, each drawn for itself.
    Packets only: health checks go by `kill`, `hang` and `slow_s`.
    """

    on: str
    """A target: the GENEVE datagrams between its load balancer and it. Or a host: its packets."""
    direction: Literal["both", "to", "from"] = "both"
    """Towards the target or host, from it, or both ways."""
    loss: float = 0
    """Of packets that do not arrive."""
    duplicate: float = 0
    """Of packets that arrive twice."""
    reorder: float = 0
    """Of packets that the next one overtakes; if none comes within 0.1 s, they are only late."""
    corrupt: float = 0
    """Of packets with one bit flipped, anywhere in the packet or in the GENEVE header before it.
    UDP's checksum does not show it: GWLB need not send one (RFC 8926 §3.3)."""
    truncate: float = 0
    """Of packets that are cut off, anywhere."""
    delay_s: float = 0
    """How much longer each packet takes, each way."""
    jitter_s: float = 0
    """So much more or less than `delay_s`; more than the gap between packets reorders them."""
    kill: bool = False
    """The target's process ends as in a crash."""
    hang: bool = False
    """The target's process stops and keeps its sockets (SIGSTOP)."""
    deaf: bool = False
    """Packets no longer reach the target's data path; its health checks are answered as before."""
    slow_s: float = 0
    """How much later the target answers packets and health checks."""
    after_s: float = 0
    """When it begins, on the harness's clock."""
    for_s: float = 0
    """How long it lasts; 0: to the end."""

    @property
    def on_link(self) -> bool:
        """Something happens to packets."""
        return any(getattr(self, name) for name in (*_RATES, "delay_s", "jitter_s"))

    def check(self, hosts: Collection[str], targets: Collection[str], key: str = "") -> Fault:
        """Itself, if it can be. Raises ConfigError."""
        known = [*hosts, *targets]
        where = f"{key}.on".strip(".")
        if self.on not in known:
            hint = near_miss(self.on, known)
            raise ConfigError(f"no target or host {self.on!r}", key=where, hint=hint)
        if self.on in hosts and self.on in targets:
            raise ConfigError(f"{self.on} is a host and a target: rename one", key=where)
        for name in _RATES:
            if not 0 <= getattr(self, name) <= 1:
                message = f"{getattr(self, name):g} is no rate from 0 to 1"
                raise ConfigError(message, key=f"{key}.{name}".strip("."))
        for name in ("delay_s", "jitter_s", "slow_s", "after_s", "for_s"):
            if not 0 <= getattr(self, name) < 1e6:
                message = f"{getattr(self, name):g} is no time from 0 to a million seconds"
                raise ConfigError(message, key=f"{key}.{name}".strip("."))
        for name in _ON_TARGETS:
            if getattr(self, name) and self.on not in targets:
                message = f"{self.on} is a host: only a target can be told that"
                raise ConfigError(message, key=f"{key}.{name}".strip("."))
        if self.kill and self.for_s:
            message = "what was killed does not come back"
            raise ConfigError(message, key=f"{key}.for_s".strip("."), hint="leave for_s out")
        if not self.on_link and not any(getattr(self, name) for name in _ON_TARGETS):
            names = ", ".join((*_RATES, "delay_s", *_ON_TARGETS))
            raise ConfigError("says nothing that goes wrong", key=key, hint=f"one of {names}")
        return self


class Happening(NamedTuple):
    """A fault began or ended."""

    time: float
    fault: Fault
    began: bool


class Fate(NamedTuple):
    """What becomes of one packet on one link."""

    lost: str = ""
    """Why it does not arrive, "" if it does."""
    duplicated: bool = False
    overtaken: bool = False
    bit: int = -1
    """The bit that flips, from the packet's first; -1: none."""
    keep: int = -1
    """How many bytes are left, -1: all."""
    delay_s: float = 0


class _Link:
    """One direction of one link. The n-th packet's fate is the n-th draw, whatever the time is,
    and each rate has a draw of its own: another rate changes nothing else."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self._random = random.Random(seed)

    def next(self, size: int) -> Fate:
        fault = self.fault
        loss, duplicate, reorder, corrupt, truncate, bit, keep, jitter = (
            self._random.random() for _ in range(8)
        )
        if loss < fault.loss:
            return Fate(lost=f"loss {fault.loss:g}")
        return Fate(
            duplicated=duplicate < fault.duplicate,
            overtaken=reorder < fault.reorder,
            bit=int(bit * size * 8) if corrupt < fault.corrupt and size else -1,
            keep=int(keep * size) if truncate < fault.truncate else -1,
            delay_s=max(fault.delay_s + (2 * jitter - 1) * fault.jitter_s, 0),
        )


class Faults:
    """The faults of a running harness; `harness.faults`.

    Each direction of each link draws from a generator of its own, made of the topology's seed and
    the names, that begins when its fault is set: a fault here changes nothing there.
    """

    def __init__(
        self,
        seed: int = 0,
        hosts: Callable[[], Collection[str]] = tuple,
        targets: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.counts: dict[str, Counter[str]] = {}
        """By target or host: how many packets had each fault, under the names of `Fault`."""
        self._seed = seed
        self._hosts = hosts
        self._targets = targets
        self._links: dict[tuple[str, Direction], _Link] = {}
        self._deaf: set[str] = set()
        self._slow: dict[str, float] = {}
        self._touched: set[tuple[str, Direction]] = set()

    def set(self, on: str, **fault: Any) -> None:
        """Give the link of a target or a host a fault: `set("appliance-1", loss=0.1)`.

        What is said of a direction replaces what was said of it before. It begins at once and
        is about packets; `Harness.schedule` has the rest. Raises ConfigError.
        """
        made = decode_config({"on": on, **fault}, Fault)
        for name in ("kill", "hang", "after_s", "for_s"):
            if getattr(made, name):
                hint = "use Harness.schedule(Fault(…))"
                raise ConfigError("is not about packets", key=name, hint=hint)
        self.begin(self.check(made))

    def check(self, fault: Fault, key: str = "") -> Fault:
        """The fault, if it can be here. Raises ConfigError."""
        return fault.check(self._hosts(), self._targets(), key)

    def clear(self, on: str = "") -> None:
        """End the faults of a target or host, by default all of them."""
        for name, _ in list(self._touched):
            if on in ("", name):
                self.restore(name)
                self._links.pop((name, "to"), None)
                self._links.pop((name, "from"), None)
        self._touch()

    def begin(self, fault: Fault) -> None:
        """Start what happens to packets."""
        for direction in _directions(fault):
            if fault.on_link:
                seed = f"fault {self._seed} {direction} {fault.on}"
                self._links[fault.on, direction] = _Link(fault, seed)
        if fault.deaf:
            self._deaf.add(fault.on)
        if fault.slow_s:
            self._slow[fault.on] = fault.slow_s
        self._touch()

    def end(self, fault: Fault) -> None:
        """End it, if nothing else has taken its place."""
        for direction in _directions(fault):
            link = self._links.get((fault.on, direction))
            if link is not None and link.fault is fault:
                del self._links[fault.on, direction]
        if fault.deaf or fault.slow_s:
            self.restore(fault.on)
        self._touch()

    def restore(self, target: str) -> None:
        """A target is neither deaf nor slow any longer."""
        self._deaf.discard(target)
        self._slow.pop(target, None)
        self._touch()

    def touches(self, name: str, direction: Direction) -> bool:
        """Whether a packet there must be asked about."""
        return (name, direction) in self._touched

    def slowness_s(self, target: str) -> float:
        """How much later a target answers."""
        return self._slow.get(target, 0.0)

    def fate(self, name: str, direction: Direction, size: int) -> Fate:
        """What becomes of the next packet, of so many bytes."""
        link = self._links.get((name, direction))
        fate = link.next(size) if link is not None else Fate()
        if direction == "to" and name in self._deaf:
            return Fate(lost="the data path is dead")
        if direction == "from" and name in self._slow:
            return fate._replace(delay_s=fate.delay_s + self._slow[name])
        return fate

    def count(self, name: str, what: str) -> None:
        """One more packet that had this fault."""
        self.counts.setdefault(name, Counter())[what] += 1

    def _touch(self) -> None:
        self._touched = set(self._links)
        self._touched |= {(name, "to") for name in self._deaf}
        self._touched |= {(name, "from") for name in self._slow}


def _directions(fault: Fault) -> tuple[Direction, ...]:
    return ("to", "from") if fault.direction == "both" else (fault.direction,)
