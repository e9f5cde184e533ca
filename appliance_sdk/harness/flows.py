"""The flow table of the local Gateway Load Balancer: keys, cookies, ports, idle timeouts, ends."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.targets import Target
from appliance_sdk.harness.zones import Attachment
from appliance_sdk.wire import build_geneve
from appliance_sdk.wire.geneve import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, TCP, Headers

Key: TypeAlias = tuple[int, bytes, bytes, int, int]
"""Protocol, source, destination and their ports, as they stand in a packet. Ports are 0 where the
protocol has none, and for fragments."""

OTHER_IDLE_S = 120
"""UDP and everything that is not TCP: fixed (AWS guide, "Idle timeout")."""
ENDS = FIN | RST
_OPENING = SYN | ACK | RST | FIN
_RETIRED_KEPT = 65_536
_MASK = 0xFFFFFFFF


class FlowEntry:
    """One flow: from its first packet to its end; another flow of the same tuple is another one."""

    __slots__ = (
        "attachment",
        "closed",
        "cookie",
        "created",
        "ends",
        "fins",
        "fins_acked",
        "header",
        "idle_s",
        "is_tcp",
        "key",
        "moved",
        "returned",
        "reverse",
        "source_port",
        "sticky",
        "syn",
        "target",
        "to_target",
        "version",
    )

    def __init__(
        self, attachment: Attachment, key: Key, target: Target, headers: Headers, now: float
    ) -> None:
        protocol, source, destination, source_port, destination_port = key
        self.attachment = attachment
        self.key = key
        """As the packet that opened it had it."""
        self.reverse: Key = (protocol, destination, source, destination_port, source_port)
        self.version = headers.version
        self.is_tcp = protocol == TCP
        """TCP flows have another idle timeout, and an end."""
        self.target = target
        self.sticky = b""
        """What decided on the target."""
        self.cookie = 0
        self.header = b""
        """The GENEVE header of its packets."""
        self.source_port = 0
        self.created = now
        self.idle_s: float = OTHER_IDLE_S
        self.ends = now
        """When it is forgotten if nothing else happens."""
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
        self.closed = False

    @property
    def endpoint(self) -> str:
        """The endpoint that it came through."""
        return self.attachment.endpoint

    def closes(self, headers: Headers) -> bool:
        """Whether this delivered segment ends the connection: RST, or the ACK of both FINs."""
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
        if self.closed or self.syn is None:
            return True
        return (headers.source, headers.seq) != self.syn


class FlowTable:
    """Every live flow. Each is found by its key in either direction, and by its GENEVE header."""

    def __init__(self, settings: GatewaySettings, seed: int) -> None:
        self._settings = settings
        self._random = random.Random(f"cookies {seed}")
        self._seed = str(seed).encode()[:64]
        self.by_header: dict[bytes, FlowEntry] = {}
        """A reply with a header as it was sent needs no other look-up."""
        self._live: dict[FlowEntry, None] = {}
        self._timers: list[tuple[float, int, FlowEntry]] = []
        """A heap. Packets do not move a flow in it: it is moved when its old time has come."""
        self._number = 0
        self._groups: dict[tuple[Attachment, bytes], dict[FlowEntry, None]] = {}
        self._retired: OrderedDict[tuple[Attachment, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[FlowEntry]:
        return iter(self._live)

    def was(self, attachment: Attachment, cookie: int) -> bool:
        """Whether a flow that ended had this cookie; the last 65,536 are remembered."""
        return (attachment, cookie) in self._retired

    def open(
        self,
        attachment: Attachment,
        key: Key,
        sticky: bytes,
        target: Target,
        headers: Headers,
        now: float,
    ) -> FlowEntry:
        """A new flow, with a cookie that no live flow of the endpoint has."""
        settings = self._settings
        entry = FlowEntry(attachment, key, target, headers, now)
        entry.sticky = sticky
        if entry.is_tcp:
            entry.idle_s = settings.listener.tcp_idle_timeout_s
        entry.ends = now + entry.idle_s
        entry.source_port = self._source_port(attachment.packed + symmetric(key))
        cookie = self._random.getrandbits(32)
        while cookie in attachment.cookies:
            cookie = (cookie + 1) & _MASK
        entry.cookie = cookie
        entry.header = build_geneve(
            attachment.number,
            cookie,
            attachment_id=settings.attachment_id,
            ethertype=ETHERTYPE_IPV4 if entry.version == 4 else ETHERTYPE_IPV6,
        )
        self._live[entry] = None
        attachment.flows[key] = attachment.flows[entry.reverse] = entry
        attachment.cookies[cookie] = entry
        self.by_header[entry.header] = entry
        if settings.target_group.stickiness:
            self._groups.setdefault((attachment, sticky), {})[entry] = None
        self._time(entry)
        return entry

    def close(self, entry: FlowEntry, now: float) -> None:
        """The connection has ended; the entry stays a little while."""
        entry.closed = True
        entry.ends = now + self._settings.undocumented.close_linger_s
        self._time(entry)

    def companion(self, attachment: Attachment, sticky: bytes) -> Target | None:
        """The target of live flows that stickiness keeps together."""
        group = self._groups.get((attachment, sticky))
        return next(iter(group)).target if group else None

    def remove(self, entry: FlowEntry) -> None:
        """End a flow."""
        if entry not in self._live:
            return
        del self._live[entry]
        attachment = entry.attachment
        for key in {entry.key, entry.reverse}:
            del attachment.flows[key]
        del attachment.cookies[entry.cookie]
        del self.by_header[entry.header]
        group = self._groups.get((attachment, entry.sticky))
        if group is not None:
            group.pop(entry, None)
            if not group:
                del self._groups[attachment, entry.sticky]
        self._retired[attachment, entry.cookie] = None
        if len(self._retired) > _RETIRED_KEPT:
            self._retired.popitem(last=False)

    def expire(self, now: float) -> None:
        """End what is idle, and what is closed and has lingered."""
        while self.next_deadline() <= now:
            self.remove(self._timers[0][2])

    def next_deadline(self) -> float:
        """When the next flow ends by itself, math.inf if there is none."""
        timers, live = self._timers, self._live
        while timers:
            at, number, entry = timers[0]
            if entry not in live:
                heapq.heappop(timers)
            elif entry.ends > at:  # packets have come since
                heapq.heapreplace(timers, (entry.ends, number, entry))
            else:
                return entry.ends
        return math.inf

    def _time(self, entry: FlowEntry) -> None:
        self._number += 1
        heapq.heappush(self._timers, (entry.ends, self._number, entry))
        if len(self._timers) > 2 * len(self._live) + 1024:  # mostly of flows that have ended
            self._timers = [timer for timer in self._timers if timer[2] in self._live]
            heapq.heapify(self._timers)

    def _source_port(self, flow: bytes) -> int:
        first, last = self._settings.source_ports
        digest = hashlib.blake2b(flow, digest_size=8, key=self._seed).digest()
        return first + int.from_bytes(digest, "big") % (last - first + 1)


def flow_key(headers: Headers) -> Key:
    """The key of a packet's flow."""
    if headers.is_fragment:
        return headers.protocol, headers.source, headers.destination, 0, 0
    return headers[1:6]


def symmetric(key: Key) -> bytes:
    """The key as bytes, the same for both directions."""
    protocol, source, destination, source_port, destination_port = key
    one = source + source_port.to_bytes(2, "big")
    other = destination + destination_port.to_bytes(2, "big")
    return bytes((protocol,)) + (one + other if one < other else other + one)


def sticky_key(attachment: Attachment, key: Key, settings: GatewaySettings) -> bytes:
    """What decides on the target: the flow, or less of it where stickiness says so."""
    group = settings.target_group
    if group.stickiness:
        protocol, source, destination, _, _ = key
        if group.stickiness_type == "source_ip_dest_ip":
            protocol = 0
        key = protocol, source, destination, 0, 0
    return attachment.packed + symmetric(key)


def is_syn(headers: Headers) -> bool:
    """Whether a packet opens a TCP connection."""
    opening = headers.flags & _OPENING == SYN
    return headers.protocol == TCP and opening and not headers.fragment_offset
