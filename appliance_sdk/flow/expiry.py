"""When flows end by silence: a lazy timing wheel of one-second slots."""

from __future__ import annotations

import heapq
import math
from typing import Any, Generic, TypeVar

from appliance_sdk.flow.key import FlowKey
from appliance_sdk.flow.lane import Lane
from appliance_sdk.flow.ring import Link, Ring


class Slot(Ring):
    """Flows that are due at the same second."""

    __slots__ = ("tick",)

    def __init__(self, tick: int) -> None:
        super().__init__()
        self.tick = tick


class Turn(Link):
    """A flow's turn to be given up for another: nothing proves yet that both its ends take part,
    or it is over."""

    __slots__ = ("flow",)

    flow: Tracked


class Tracked(Link):
    """What table and wheel need of a flow: where it is found, when it was last seen, how long it
    may rest."""

    __slots__ = ("ends", "half_open", "lane", "last_seen", "timeout_s")

    def __init__(self, lane: Lane[Any], ends: bytes, now: float, timeout_s: float) -> None:
        self.before = self.after = None
        self.lane = lane
        self.ends = ends
        """Those of packets from client to server, see `pack_ends`."""
        self.last_seen = now
        self.timeout_s = timeout_s
        self.half_open: Turn | None = None
        """Such flows go first when room is needed."""

    @property
    def key(self) -> FlowKey:
        """The key of packets from client to server."""
        return self.lane.key(self.ends)


F = TypeVar("F", bound=Tracked)


class Expiry(Generic[F]):
    """Each flow rests in the slot where it was due when last looked at.

    A packet costs nothing here: only when a flow's slot comes up is it moved to the slot where it
    is due by then, so a flow is touched once an idle timeout however busy it is. The slots are
    rings through the flows: nothing grows, and one that ends leaves at once.
    """

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._ticks: list[int] = []

    def add(self, flow: F) -> None:
        """Watch a flow; also after `timeout_s` became shorter."""
        tick = math.ceil(flow.last_seen + flow.timeout_s)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = Slot(tick)
            heapq.heappush(self._ticks, tick)
        flow.leave()
        slot.append(flow)

    def discard(self, flow: F) -> None:
        """Forget a flow."""
        flow.leave()

    def next_deadline(self) -> float:
        """The earliest time at which `due` may find something, math.inf if there is none."""
        return self._ticks[0] if self._ticks else math.inf

    def due(self, now: float, limit: int) -> list[F]:
        """Flows that rested too long, after looking at no more than `limit` of those in turn."""
        found: list[F] = []
        while self._ticks and self._ticks[0] <= now and limit > 0:
            slot = self._slots[self._ticks[0]]
            while (flow := slot.after) is not slot and limit > 0:
                limit -= 1
                self.discard(flow)  # type: ignore[arg-type]  # all but the slot itself are flows
                if flow.last_seen + flow.timeout_s <= now:  # type: ignore[union-attr]
                    found.append(flow)  # type: ignore[arg-type]
                else:
                    self.add(flow)  # type: ignore[arg-type]
            if slot.after is slot:
                heapq.heappop(self._ticks)
                del self._slots[slot.tick]
                slot.before = slot.after = None
        return found
