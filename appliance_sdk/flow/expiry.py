"""When flows end by silence: a lazy timing wheel of one-second slots."""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

from appliance_sdk.flow.key import FlowKey


class Tracked:
    """What table and wheel need of a flow: its key, when it was last seen, how long it may rest."""

    __slots__ = ("half_open", "key", "last_seen", "slot", "timeout_s")

    def __init__(self, key: FlowKey, now: float, timeout_s: float) -> None:
        self.key = key
        """The key of packets from client to server."""
        self.last_seen = now
        self.timeout_s = timeout_s
        self.half_open = True
        """Nothing proves yet that both ends take part; such flows go first when room is needed."""
        self.slot = -1


F = TypeVar("F", bound=Tracked)


class Expiry(Generic[F]):
    """Each flow rests in the slot where it was due when last looked at.

    A packet costs nothing here: only when a flow's slot comes up is it moved to the slot where it
    is due by then, so a flow is touched once an idle timeout however busy it is.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[F]] = {}
        self._ticks: list[int] = []

    def add(self, flow: F) -> None:
        """Watch a flow; also after `timeout_s` became shorter."""
        tick = math.ceil(flow.last_seen + flow.timeout_s)
        if flow.slot == tick:
            return
        flow.slot = tick
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = [flow]
            heapq.heappush(self._ticks, tick)
        else:
            slot.append(flow)

    def discard(self, flow: F) -> None:
        """Forget a flow."""
        flow.slot = -1

    def next_deadline(self) -> float:
        """The earliest time at which `due` may find something, math.inf if there is none."""
        return self._ticks[0] if self._ticks else math.inf

    def due(self, now: float, limit: int) -> list[F]:
        """Flows that rested too long, after looking at no more than `limit` of those in turn."""
        found: list[F] = []
        while self._ticks and self._ticks[0] <= now and limit > 0:
            tick = self._ticks[0]
            slot = self._slots[tick]
            while slot and limit > 0:
                flow = slot.pop()
                limit -= 1
                if flow.slot != tick:
                    continue
                flow.slot = -1
                if flow.last_seen + flow.timeout_s <= now:
                    found.append(flow)
                else:
                    self.add(flow)
            if not slot:
                heapq.heappop(self._ticks)
                del self._slots[tick]
        return found
