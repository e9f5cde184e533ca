"""The flow table of the local Gateway Load Balancer: keys, cookies, ports, idle timeouts, ends."""

from __future__ import annotations

import hashlib
import math
import random
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TypeAlias

from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.targets import Target
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, TCP, UDP, Headers

Key: TypeAlias = tuple[str, int, bytes, bytes, int, int]
"""(endpoint, protocol, lower end's address, higher end's address, their ports): both directions
of a flow have the same key. Ports are 0 where the protocol has none, and for fragments."""

OTHER_IDLE_S = 120
"""UDP and everything that is not TCP: fixed (AWS guide, "Idle timeout")."""
_RETIRED_KEPT = 65_536
_MASK = 0xFFFFFFFF


class FlowEntry:
    """One flow: from its first packet to its end; another flow of the same tuple is another one."""

    __slots__ = (
        "closed_at",
        "cookie",
        "created",
        "endpoint",
        "fins",
        "fins_acked",
        "key",
        "last_seen",
        "moved",
        "returned",
        "source_port",
        "sticky",
        "syn",
        "target",
        "to_target",
    )

    def __init__(
        self,
        key: Key,
        sticky: bytes,
        target: Target,
        cookie: int,
        source_port: int,
        headers: Headers,
        now: float,
    ) -> None:
        self.key = key
        self.sticky = sticky
        self.endpoint = key[0]
        self.target = target
        self.cookie = cookie
        self.source_port = source_port
        self.created = now
        self.last_seen = now
        self.to_target = 0
        """Packets sent to the target."""
        self.returned = 0
        """Packets that came back and were delivered."""
        self.moved = 0
        """How often it got another target."""
        self.syn = (headers.source, headers.seq) if is_syn(headers) else None
        self.fins: dict[bytes, int] = {}
        """Who sent FIN, with the sequence number behind it."""
        self.fins_acked: set[bytes] = set()
        self.closed_at = math.inf

    @property
    def is_tcp(self) -> bool:
        """TCP flows have another idle timeout, and an end."""
        return self.key[1] == TCP

    def closes(self, headers: Headers) -> bool:
        """Whether this delivered packet ends the connection: RST, or the ACK of both FINs."""
        if headers.protocol != TCP or headers.fragment_offset:
            return False
        if headers.flags & RST:
            return True
        if headers.flags & FIN:
            length = headers.end - headers.payload
            self.fins[headers.source] = (headers.seq + length + 1) & _MASK
        acked = self.fins.get(headers.destination) == headers.ack and headers.flags & ACK
        if acked:
            self.fins_acked.add(headers.destination)
        return len(self.fins_acked) == 2

    def reused_by(self, headers: Headers) -> bool:
        """Whether a packet opens another connection on the same tuple (gwlbtun PR 15)."""
        if not is_syn(headers):
            return False
        if self.closed_at < math.inf or self.syn is None:
            return True
        return (headers.source, headers.seq) != self.syn


class FlowTable:
    """Every live flow, by key and by (endpoint, cookie); both are looked up in one step."""

    def __init__(self, settings: GatewaySettings, seed: int) -> None:
        self._settings = settings
        self._random = random.Random(f"cookies {seed}")
        self._seed = str(seed).encode()[:64]
        self._by_key: dict[Key, FlowEntry] = {}
        self._by_cookie: dict[tuple[str, int], FlowEntry] = {}
        self._idle: tuple[OrderedDict[Key, None], OrderedDict[Key, None]]
        self._idle = OrderedDict(), OrderedDict()  # not TCP, TCP; the longest silent first
        self._groups: dict[bytes, dict[Key, FlowEntry]] = {}
        self._closed: deque[tuple[float, FlowEntry]] = deque()
        self._retired: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[FlowEntry]:
        return iter(self._by_key.values())

    def get(self, key: Key, now: float) -> FlowEntry | None:
        """The live flow with this key; one that idled out ends here."""
        entry = self._by_key.get(key)
        if entry is not None and now >= self._expires(entry):
            self.remove(entry)
            return None
        return entry

    def by_cookie(self, endpoint: str, cookie: int, now: float) -> FlowEntry | None:
        """The live flow that was given this cookie."""
        entry = self._by_cookie.get((endpoint, cookie))
        return self.get(entry.key, now) if entry is not None else None

    def was(self, endpoint: str, cookie: int) -> bool:
        """Whether a flow that ended had this cookie; the last 65,536 are remembered."""
        return (endpoint, cookie) in self._retired

    def open(
        self, key: Key, sticky: bytes, target: Target, headers: Headers, now: float
    ) -> FlowEntry:
        """A new flow, with a cookie that no live flow has."""
        cookie = self._random.getrandbits(32)
        while (key[0], cookie) in self._by_cookie:
            cookie = (cookie + 1) & _MASK
        entry = FlowEntry(key, sticky, target, cookie, self._source_port(key), headers, now)
        self._by_key[key] = entry
        self._by_cookie[key[0], cookie] = entry
        self._groups.setdefault(sticky, {})[key] = entry
        self._idle[entry.is_tcp][key] = None
        return entry

    def sent(self, entry: FlowEntry, now: float) -> None:
        """A packet of the flow goes to its target."""
        entry.to_target += 1
        self._touch(entry, now)

    def returned(self, entry: FlowEntry, headers: Headers, now: float) -> None:
        """A packet of the flow came back and goes on."""
        entry.returned += 1
        self._touch(entry, now)
        if entry.closes(headers) and entry.closed_at == math.inf:
            entry.closed_at = now
            self._closed.append((self._expires(entry), entry))

    def companion(self, sticky: bytes) -> Target | None:
        """The target of live flows that stickiness keeps together."""
        group = self._groups.get(sticky)
        return next(iter(group.values())).target if group else None

    def remove(self, entry: FlowEntry) -> None:
        """End a flow."""
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]
            del self._idle[entry.is_tcp][entry.key]
            group = self._groups[entry.sticky]
            del group[entry.key]
            if not group:
                del self._groups[entry.sticky]
        place = entry.endpoint, entry.cookie
        if self._by_cookie.pop(place, None) is not None:
            self._retired[place] = None
            if len(self._retired) > _RETIRED_KEPT:
                self._retired.popitem(last=False)

    def expire(self, now: float) -> None:
        """End what is idle, and what is closed and has lingered."""
        while self._closed and self._closed[0][0] <= now:
            entry = self._closed.popleft()[1]
            if self._by_cookie.get((entry.endpoint, entry.cookie)) is entry:
                self.remove(entry)
        for order in self._idle:
            while order:
                entry = self._by_key[next(iter(order))]
                if now < self._expires(entry):
                    break
                self.remove(entry)

    def next_deadline(self) -> float:
        """When the next flow ends by itself, math.inf if there is none."""
        deadlines = [self._closed[0][0]] if self._closed else []
        deadlines += [self._expires(self._by_key[next(iter(o))]) for o in self._idle if o]
        return min(deadlines, default=math.inf)

    def _touch(self, entry: FlowEntry, now: float) -> None:
        entry.last_seen = now
        self._idle[entry.is_tcp].move_to_end(entry.key)

    def _expires(self, entry: FlowEntry) -> float:
        if entry.closed_at < math.inf:
            return entry.closed_at + self._settings.undocumented.close_linger_s
        idle = self._settings.listener.tcp_idle_timeout_s if entry.is_tcp else OTHER_IDLE_S
        return entry.last_seen + idle

    def _source_port(self, key: Key) -> int:
        first, last = self._settings.source_ports
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8, key=self._seed).digest()
        return first + int.from_bytes(digest, "big") % (last - first + 1)


def flow_key(endpoint: str, headers: Headers) -> Key:
    """The key of a packet's flow: the same for both directions."""
    ends = (
        (headers.source, headers.source_port),
        (headers.destination, headers.destination_port),
    )
    if headers.is_fragment or headers.protocol not in (TCP, UDP):
        ends = (headers.source, 0), (headers.destination, 0)
    low, high = sorted(ends)
    return endpoint, headers.protocol, low[0], high[0], low[1], high[1]


def sticky_key(key: Key, settings: GatewaySettings) -> bytes:
    """What decides on the target: the flow, or less of it where stickiness says so."""
    group = settings.target_group
    endpoint, protocol, low, high, low_port, high_port = key
    if not group.stickiness:
        return repr((endpoint, protocol, low, high, low_port, high_port)).encode()
    if group.stickiness_type == "source_ip_dest_ip":
        protocol = 0
    first, second = sorted((low, high))
    return repr((endpoint, protocol, first, second)).encode()


def is_syn(headers: Headers) -> bool:
    """Whether a packet opens a TCP connection."""
    opening = headers.flags & (SYN | ACK | RST | FIN) == SYN
    return headers.protocol == TCP and opening and not headers.fragment_offset
