"""The bounded flow table: one look-up gives flow and direction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from appliance_sdk.flow.expiry import Expiry, Tracked
from appliance_sdk.flow.key import FlowKey, reverse_key

F = TypeVar("F", bound=Tracked)

SHARD_MASK = 255
"""256 dictionaries, not one: a dictionary that grows is copied in one go, and packets wait."""
_QUEUES = 64


class FlowTable(Generic[F]):
    """Flows under both of their keys, with their idle timers.

    `get(key)` gives `(flow, to_server)` or None. When the table is full, `make_room` gives up the
    oldest half-open flow: a flood of beginnings cannot push out what is established.

    An entry stands in `shards[sum & SHARD_MASK]`, the sum of both ports and of both addresses' last
    bytes: the same for both keys.
    """

    def __init__(self, max_flows: int) -> None:
        self.max_flows = max_flows
        self.shards: list[dict[FlowKey, tuple[F, bool]]] = [{} for _ in range(SHARD_MASK + 1)]
        # Ordered, with the order in which they came: the first of each is found in constant time.
        self._half_open: list[OrderedDict[F, int]] = [OrderedDict() for _ in range(_QUEUES)]
        self._order = 0
        self._size = 0
        self.expiry: Expiry[F] = Expiry()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[F]:
        return (flow for shard in self.shards for flow, to_server in shard.values() if to_server)

    def get(self, key: FlowKey) -> tuple[F, bool] | None:
        """The flow that a packet is of, and whether the packet goes to its server."""
        return self._shard(key).get(key)

    @property
    def full(self) -> bool:
        """Whether another flow needs room to be made first."""
        return self._size >= self.max_flows

    def make_room(self) -> F | None:
        """The half-open flow to give up (it is still in the table), None if there is none."""
        firsts = [next(iter(queue.items())) for queue in self._half_open if queue]
        return min(firsts, key=lambda entry: entry[1])[0] if firsts else None

    def add(self, flow: F) -> None:
        """Put a flow under both keys; its key must be in client-to-server direction."""
        shard = self._shard(flow.key)
        shard[flow.key] = (flow, True)
        shard[reverse_key(flow.key)] = (flow, False)
        self._size += 1
        if flow.half_open:
            self._begins(flow)
        self.expiry.add(flow)

    def remove(self, flow: F) -> None:
        """Take a flow out; KeyError if it is not in."""
        shard = self._shard(flow.key)
        del shard[flow.key]
        del shard[reverse_key(flow.key)]
        self._size -= 1
        self._queue(flow).pop(flow, None)
        self.expiry.discard(flow)

    def established(self, flow: F, timeout_s: float) -> None:
        """Both ends take part: the flow rests longer and is not given up for others."""
        flow.half_open = False
        self._queue(flow).pop(flow, None)
        flow.timeout_s = timeout_s

    def closing(self, flow: F, timeout_s: float) -> None:
        """The flow ended: it lingers for late packets and goes first when room is needed."""
        flow.half_open = True
        self._begins(flow)
        flow.timeout_s = timeout_s
        self.expiry.add(flow)

    def _shard(self, key: FlowKey) -> dict[FlowKey, tuple[F, bool]]:
        return self.shards[key[4] + key[5] + key[2][-1] + key[3][-1] & SHARD_MASK]

    def _queue(self, flow: F) -> OrderedDict[F, int]:
        return self._half_open[(id(flow) >> 6) % _QUEUES]

    def _begins(self, flow: F) -> None:
        self._order += 1
        self._queue(flow).setdefault(flow, self._order)
