"""The flow table of the local Gateway Load Balancer: cookies, ports, idle timeouts, ends."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from appliance_sdk.harness.flow_entry import FlowEntry, Key, symmetric
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.states import Target
from appliance_sdk.harness.zones import Attachment
from appliance_sdk.wire import Headers, Option, build_geneve
from appliance_sdk.wire.geneve import AWS_OPTION_CLASS, ETHERTYPE_IPV4, ETHERTYPE_IPV6

IDLE, CLOSED = "idled out", "was closed"
REUSED, RESET = "made way for another connection", "was reset by the load balancer"
MOVED = "got another cookie with its new target"

_ENDED_KEPT = 65_536
_MASK = 0xFFFFFFFF
_UNKNOWN_OPTION = Option(AWS_OPTION_CLASS, 4, b"new!")
_BASE, _FIRST, _SECOND = 8, 20, 32  # where the base header and the first two options end


class Ended(NamedTuple):
    """How a flow ended, or a cookie of a flow."""

    how: str
    at: float

    def told(self, now: float) -> str:
        """In words."""
        return f"the flow {self.how} {now - self.at:.1f} s ago"


class FlowTable:
    """Every live flow. Each is found by its key in either direction, and by its GENEVE header."""

    def __init__(self, settings: GatewaySettings, seed: int) -> None:
        self._settings = settings
        self._random = random.Random(f"cookies {seed}")
        self._seed = str(seed).encode()[:64]
        self.by_header: dict[bytes, FlowEntry] = {}
        """A reply with a header as it was sent needs no other look-up."""
        self.header_bytes = len(build_header(0, 0, 4, settings))
        self.per_target: Counter[str] = Counter()
        """Live flows by the target's name."""
        self.moved = 0
        """How often a flow got another target."""
        self._live: dict[FlowEntry, None] = {}
        self._timers: list[tuple[float, int, FlowEntry]] = []
        """A heap. Packets do not move a flow in it: it is moved when its old time has come."""
        self._number = 0
        self._groups: dict[tuple[Attachment, bytes], dict[FlowEntry, None]] = {}
        self._ended: OrderedDict[tuple[Attachment, int | Key], Ended] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[FlowEntry]:
        return iter(self._live)

    def configure(self, settings: GatewaySettings) -> None:
        """Other settings from now on; whether live flows heed a new idle timeout is a switch."""
        idle_s = settings.listener.tcp_idle_timeout_s
        changed = idle_s != self._settings.listener.tcp_idle_timeout_s
        self._settings = settings
        if changed and settings.undocumented.idle_timeout_change == "all_flows":
            for entry in self._live:
                if entry.is_tcp and not entry.closed:
                    entry.ends += idle_s - entry.idle_s
                    entry.idle_s = idle_s
                    self._time(entry)

    def ended(self, attachment: Attachment, what: int | Key) -> Ended | None:
        """How a flow of this key, or a cookie, came to its end; the last 65,536 are remembered."""
        return self._ended.get((attachment, what))

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
        entry.source_port = self._source_port(entry, 0)
        entry.cookie = self._new_cookie(attachment)
        if settings.target_group.stickiness:
            group = self._groups.setdefault((attachment, sticky), {})
            if group and settings.undocumented.cookie_per == "sticky_tuple":
                entry.cookie = next(iter(group)).cookie
            group[entry] = None
        self._live[entry] = None
        attachment.flows[key] = attachment.flows[entry.reverse] = entry
        attachment.zone.active += 1
        self.per_target[target.name] += 1
        self._enter_cookie(entry)
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

    def move(self, entry: FlowEntry, target: Target, now: float) -> None:
        """Give a flow, and those that share its cookie, another target."""
        sharing = [entry]
        if self._settings.undocumented.cookie_per == "sticky_tuple":
            group = self._groups.get((entry.attachment, entry.sticky), {})
            sharing += [other for other in group if other is not entry]
        renewed = self._settings.undocumented.cookie_after_rebalance == "new"
        cookie = self._new_cookie(entry.attachment) if renewed else entry.cookie
        for each in sharing:
            self.per_target[each.target.name] -= 1
            self.per_target[target.name] += 1
            each.target = target
            each.moved += 1
            self.moved += 1
            if renewed:
                self._leave_cookie(each, Ended(MOVED, now))
                each.cookie = cookie
                self._enter_cookie(each)

    def change_port(self, entry: FlowEntry) -> None:
        """Have its packets leave from another UDP port."""
        first, last = self._settings.source_ports
        port = self._source_port(entry, entry.to_target)
        if port == entry.source_port:
            port = first + (port - first + 1) % (last - first + 1)
        entry.use_port(port)

    def remove(self, entry: FlowEntry, how: str, now: float) -> None:
        """End a flow."""
        if entry not in self._live:
            return
        del self._live[entry]
        attachment = entry.attachment
        for key in {entry.key, entry.reverse}:
            del attachment.flows[key]
        attachment.zone.active -= 1
        self.per_target[entry.target.name] -= 1
        group = self._groups.get((attachment, entry.sticky))
        if group is not None:
            group.pop(entry, None)
            if not group:
                del self._groups[attachment, entry.sticky]
        ended = Ended(how, now)
        self._leave_cookie(entry, ended)
        self._remember((attachment, entry.key), ended)

    def expire(self, now: float) -> None:
        """End what is idle, and what is closed and has lingered."""
        while self.next_deadline() <= now:
            self.end(self._timers[0][2])

    def end(self, entry: FlowEntry) -> None:
        """End a flow whose time is over."""
        self.remove(entry, CLOSED if entry.closed else IDLE, entry.ends)

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

    def _new_cookie(self, attachment: Attachment) -> int:
        cookie = self._random.getrandbits(32)
        while cookie in attachment.cookies:
            cookie = (cookie + 1) & _MASK
        return cookie

    def _enter_cookie(self, entry: FlowEntry) -> None:
        attachment = entry.attachment
        number, cookie = attachment.number, entry.cookie
        entry.header = build_header(number, cookie, entry.version, self._settings)
        attachment.cookies.setdefault(cookie, entry)
        self.by_header.setdefault(entry.header, entry)

    def _leave_cookie(self, entry: FlowEntry, ended: Ended) -> None:
        """A cookie ends with the last flow that has it."""
        cookies = entry.attachment.cookies
        if cookies.get(entry.cookie) is not entry:
            return
        for heir in self._groups.get((entry.attachment, entry.sticky), ()):
            if heir is not entry and heir.cookie == entry.cookie:
                cookies[entry.cookie] = self.by_header[entry.header] = heir
                return
        del cookies[entry.cookie], self.by_header[entry.header]
        self._remember((entry.attachment, entry.cookie), ended)

    def _remember(self, what: tuple[Attachment, int | Key], ended: Ended) -> None:
        self._ended[what] = ended
        self._ended.move_to_end(what)
        if len(self._ended) > 2 * _ENDED_KEPT:
            self._ended.popitem(last=False)

    def _source_port(self, entry: FlowEntry, packets: int) -> int:
        first, last = self._settings.source_ports
        flow = entry.attachment.packed + symmetric(entry.key)
        if packets:
            flow += packets.to_bytes(8, "big")
        digest = hashlib.blake2b(flow, digest_size=8, key=self._seed).digest()
        return first + int.from_bytes(digest, "big") % (last - first + 1)


def build_header(number: int, cookie: int, version: int, settings: GatewaySettings) -> bytes:
    """The GENEVE header of a flow's packets."""
    layout = settings.undocumented.options
    header = build_geneve(
        number,
        cookie,
        attachment_id=settings.attachment_id,
        ethertype=ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6,
        extra=(_UNKNOWN_OPTION,) if layout == "more" else (),
    )
    if layout == "reversed":
        endpoint, attachment = header[_BASE:_FIRST], header[_FIRST:_SECOND]
        header = header[:_BASE] + header[_SECOND:] + attachment + endpoint
    return header
