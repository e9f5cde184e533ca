"""The bounded flow table: one look-up gives flow and direction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from appliance_sdk.flow.expiry import Expiry, Tracked
from appliance_sdk.flow.key import FlowKey, reverse_key

F = TypeVar("F", bound=Tracked)


class FlowTable(Generic[F]):
    """Flows under both of their keys, with their idle timers.

    `get(key)` gives `(flow, to_server)` or None. When the table is full, `make_room` gives up the
    oldest half-open flow: a flood of beginnings cannot push out what is established.
    """

    def __init__(self, max_flows: int) -> None:
        self.max_flows = max_flows
        self._entries: dict[FlowKey, tuple[F, bool]] = {}
        # Ordered: its first item is found in constant time however many went before it.
        self._half_open: OrderedDict[F, None] = OrderedDict()
        self._size = 0
        self.expiry: Expiry[F] = Expiry()
        self.get: Callable[[FlowKey], tuple[F, bool] | None] = self._entries.get

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[F]:
        return (flow for flow, to_server in self._entries.values() if to_server)

    @property
    def full(self) -> bool:
        """Whether another flow needs room to be made first."""
        return self._size >= self.max_flows

    def make_room(self) -> F | None:
        """The half-open flow to give up (it is still in the table), None if there is none."""
        return next(iter(self._half_open), None)

    def add(self, flow: F) -> None:
        """Put a flow under both keys; its key must be in client-to-server direction."""
        self._entries[flow.key] = (flow, True)
        self._entries[reverse_key(flow.key)] = (flow, False)
        self._size += 1
        if flow.half_open:
            self._half_open[flow] = None
        self.expiry.add(flow)

    def remove(self, flow: F) -> None:
        """Take a flow out; KeyError if it is not in."""
        del self._entries[flow.key]
        del self._entries[reverse_key(flow.key)]
        self._size -= 1
        self._half_open.pop(flow, None)
        self.expiry.discard(flow)

    def established(self, flow: F, timeout_s: float) -> None:
        """Both ends take part: the flow rests longer and is not given up for others."""
        flow.half_open = False
        self._half_open.pop(flow, None)
        flow.timeout_s = timeout_s

    def closing(self, flow: F, timeout_s: float) -> None:
        """The flow ended: it lingers for late packets and goes first when room is needed."""
        flow.half_open = True
        self._half_open[flow] = None
        flow.timeout_s = timeout_s
        self.expiry.add(flow)
