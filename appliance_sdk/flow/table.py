"""The bounded flow table: one look-up gives the flow of a packet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from appliance_sdk.flow.expiry import Expiry, Tracked, Turn
from appliance_sdk.flow.key import FlowKey, pack_ends, swap_ends
from appliance_sdk.flow.lane import FEW_SHARDS, MANY_SHARDS, SHARD_MASK, SHARD_SHIFT, Lane
from appliance_sdk.flow.ring import Ring

F = TypeVar("F", bound=Tracked)

_TCP, _UDP = 6, 17
_FEW_LANES = 512
_LOOKS = 4
"""At lanes, each time: more than are made meanwhile."""
_HEADS_KEPT = 1 << 14
"""More than endpoints that an appliance has; a header may say anything."""


class FlowTable(Generic[F]):
    """Flows in the lanes of their endpoints and protocols, with their idle timers.

    When the table is full, `make_room` gives up the oldest half-open flow: a flood of beginnings
    cannot push out what is established.
    """

    def __init__(self, max_flows: int) -> None:
        self.max_flows = max_flows
        self.usual: dict[int, dict[bytes, Lane[F]]] = {_TCP: {}, _UDP: {}}
        """Those of TCP and UDP, by protocol and by the header before the cookie: as
        `Engine.receive` looks for them."""
        self._lanes: dict[tuple[int, int], Lane[F]] = {}
        self._looked_at: deque[Lane[F]] = deque()
        """All lanes, the one that was looked at longest ago first."""
        self._forgotten = 0
        self._half_open = Ring()
        self._size = 0
        self.expiry: Expiry[F] = Expiry()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[F]:
        """Every flow; who is in the table all the while is told once, however it changes."""
        return (flow for lane in list(self._lanes.values()) for flow in lane)

    def lane(self, endpoint_id: int, protocol: int) -> Lane[F]:
        """Where the flows of an endpoint and a protocol are."""
        lane = self._lanes.get((endpoint_id, protocol))
        if lane is None:
            self.forget_lanes()
            # An endpoint may be sent packets of every protocol, and a header name any endpoint: the
            # rare ones and a flood of them must not cost as much.
            usual = protocol in self.usual and len(self._lanes) < _FEW_LANES
            own = MANY_SHARDS if usual else FEW_SHARDS
            lane = self._lanes[endpoint_id, protocol] = Lane(endpoint_id, protocol, own)
            self._looked_at.append(lane)
        return lane

    def meet(self, lane: Lane[F], head: bytes) -> None:
        """A packet with this header before its cookie was of a flow in that lane: so are others."""
        usual = self.usual.get(lane.protocol)
        if usual is not None and usual.get(head) is not lane:
            if len(usual) >= _HEADS_KEPT:
                usual.clear()
            usual[head] = lane

    def find(self, endpoint_id: int, protocol: int, ends: bytes) -> F | None:
        """The flow of a packet with these ends, in either direction."""
        lane = self._lanes.get((endpoint_id, protocol))
        return lane.shard(ends).get(ends) if lane is not None else None

    def get(self, key: FlowKey) -> tuple[F, bool] | None:
        """The flow that a packet is of, and whether the packet goes to its server."""
        ends = pack_ends(*key[2:])
        flow = self.find(key[0], key[1], ends)
        return (flow, flow.ends == ends) if flow is not None else None

    @property
    def full(self) -> bool:
        """Whether another flow needs room to be made first."""
        return self._size >= self.max_flows

    def make_room(self) -> F | None:
        """The half-open flow to give up; the caller removes it. None: there is none."""
        first = self._half_open.after
        return first.flow if isinstance(first, Turn) else None  # type: ignore[return-value]

    def add(self, flow: F, half_open: bool) -> None:
        """Put a flow in for both directions; its ends must be in client-to-server order."""
        self.put(flow, half_open, flow.lane.shard(flow.ends), swap_ends(flow.ends))

    def put(self, flow: F, half_open: bool, shard: dict[bytes, F], answer: bytes) -> None:
        """The same for a caller who knows the shard of its ends, and the ends of what answers."""
        shard[flow.ends] = flow
        shards = flow.lane.shards
        shards[hash(answer) >> SHARD_SHIFT & SHARD_MASK][answer] = flow
        self._size += 1
        if half_open:
            self._queue(flow)
        self.expiry.add(flow)

    def remove(self, flow: F) -> None:
        """Take a flow out; KeyError if it is not in."""
        lane, ends, answer = flow.lane, flow.ends, swap_ends(flow.ends)
        del lane.shard(ends)[ends]
        del lane.shard(answer)[answer]
        self._size -= 1
        if flow.half_open is not None:
            self._unqueue(flow, flow.half_open)
        self.expiry.discard(flow)

    def established(self, flow: F, timeout_s: float) -> None:
        """Both ends take part: the flow is not given up for others, and may rest this long."""
        if flow.half_open is not None:
            self._unqueue(flow, flow.half_open)
        sooner = timeout_s < flow.timeout_s
        flow.timeout_s = timeout_s
        if sooner:
            self.expiry.add(flow)

    def closing(self, flow: F, timeout_s: float) -> None:
        """The flow ended: it lingers for late packets and goes first when room is needed."""
        if flow.half_open is None:
            self._queue(flow)
        flow.timeout_s = timeout_s
        self.expiry.add(flow)

    def forget_lanes(self) -> None:
        """Let go some without flows: there is no end to the endpoints that a header may name.

        Not all at once, for which packets would have to wait; and not while a flow is being opened.
        """
        for _ in range(_LOOKS):
            if len(self._lanes) < _FEW_LANES:
                return
            lane = self._looked_at.popleft()
            if not lane.give_up():
                self._looked_at.append(lane)
                continue
            del self._lanes[lane.endpoint_id, lane.protocol]
            self._forgotten += 1
            if self._forgotten % _FEW_LANES == 0:  # their headers: the others' come back
                for usual in self.usual.values():
                    usual.clear()

    def _queue(self, flow: F) -> None:
        flow.half_open = turn = Turn()
        turn.flow = flow
        self._half_open.append(turn)

    def _unqueue(self, flow: F, turn: Turn) -> None:
        turn.leave()
        flow.half_open = None
