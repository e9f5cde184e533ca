"""A Gateway Load Balancer without sockets or clock: packets in, what becomes of them out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from appliance_sdk.errors import HarnessError, MalformedPacket
from appliance_sdk.harness.flows import (
    ENDS,
    FlowEntry,
    FlowTable,
    Key,
    flow_key,
    is_syn,
    sticky_key,
)
from appliance_sdk.harness.reasons import REASONS
from appliance_sdk.harness.returns import Refusal, check_reply
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.targets import Change, State, Target, TargetGroup
from appliance_sdk.harness.zones import Attachment, Zone
from appliance_sdk.wire import build_tcp_rst, parse_endpoint, parse_packet
from appliance_sdk.wire.packet import SYN, TCP, Headers

Place: TypeAlias = tuple[str, int]
"""IPv4 address and UDP port."""


class ToTarget(NamedTuple):
    """A datagram for an appliance: from `node` and `source_port` to the target, port 6081."""

    target: Target
    node: str
    source_port: int
    payload: bytes
    cookie: int


class ToEndpoint(NamedTuple):
    """An inner packet that leaves through an endpoint; routing takes it on from there."""

    endpoint: str
    packet: bytes
    by: str
    """The target that returned it, "" for a reset that GWLB made itself."""


class Dropped(NamedTuple):
    """A packet that ends here."""

    reason: str
    """One of `REASONS`."""
    detail: str
    """What was expected and what came, "" where the reason says all."""
    packet: bytes

    @property
    def explanation(self) -> str:
        """What the reason means and what to do about it."""
        return REASONS[self.reason]


Outcome: TypeAlias = ToTarget | ToEndpoint | Dropped


class GatewayLoadBalancer:
    """Does what AWS's does, with time as an argument; every run with one seed is the same.

    `nodes` are its zones with the IPv4 address of the node in each; endpoints and targets are
    added by name. Health checks are asked of whoever has a network: `probed` takes the results.
    Nothing happens by itself: call `advance` at `next_deadline`.
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        settings: GatewaySettings | None = None,
        *,
        seed: int = 0,
        changed: Callable[[Change], None] = lambda _: None,
    ) -> None:
        if not nodes:
            raise HarnessError("a load balancer needs at least one zone with a node")
        self.settings = (settings or GatewaySettings()).check()
        self.nodes = dict(nodes)
        self.targets = TargetGroup(self.settings, tuple(nodes), seed, changed)
        self.flows = FlowTable(self.settings, seed)
        self.zones = {
            name: Zone(name, node, self.targets.failed[name]) for name, node in nodes.items()
        }
        self.drops: Counter[str] = Counter()
        self.new_flows: Counter[str] = Counter()
        """Flows that were given to each target, by its name."""
        self._attachments: dict[str, Attachment] = {}
        self._numbers: dict[int, Attachment] = {}

    def add_endpoint(self, endpoint: str, zone: str) -> None:
        """Attach an endpoint, such as "vpce-0a1b2c3d4e5f60718", in one of the zones.

        Raises HarnessError.
        """
        if zone not in self.nodes:
            known = ", ".join(self.nodes)
            raise HarnessError(f"{endpoint}: no zone {zone!r}; zones: {known}")
        try:
            number = parse_endpoint(endpoint)
        except ValueError as error:
            raise HarnessError(str(error)) from None
        if number in self._numbers:
            raise HarnessError(f"{endpoint} is attached already")
        attachment = Attachment(endpoint, number, self.zones[zone])
        self._attachments[endpoint] = self._numbers[number] = attachment

    def register(self, name: str, address: str, zone: str, now: float) -> Target:
        """Add an appliance to the target group. Raises HarnessError."""
        target = Target(name, address, zone)
        self.targets.register(target, now)
        return target

    def deregister(self, name: str, now: float) -> None:
        """Take an appliance out; its flows stay with it or move, as the attributes say."""
        self.targets.deregister(name, now)

    def from_endpoint(self, endpoint: str, packet: bytes, now: float) -> Outcome:
        """A packet that routing brought to an endpoint."""
        attachment = self._attachments.get(endpoint)
        if attachment is None:
            return self._drop("unknown_endpoint", endpoint, packet)
        undocumented = self.settings.undocumented
        size = len(packet)
        if size > undocumented.ingress_limit_bytes:
            return self._drop("too_big", f"{size} bytes", packet)
        try:
            headers = parse_packet(packet, 0, size)
        except MalformedPacket as error:
            return self._drop("malformed", error.reason, packet)
        key: Key = headers[1:6]
        if headers.more_fragments or headers.fragment_offset:
            if undocumented.fragments == "drop":
                return self._drop("fragment", "", packet)
            key = flow_key(headers)
        zone = attachment.zone
        entry = attachment.flows.get(key)
        if entry is not None and (
            now >= entry.ends or (headers.flags & SYN and entry.reused_by(headers))
        ):
            self.flows.remove(entry)
            entry = None
        if entry is None:
            opened = self._open(attachment, key, headers, packet, now)
            if not isinstance(opened, FlowEntry):
                return opened
            entry = opened
        elif entry.target.name in zone.failed and self._loses_target(entry, zone.name, now):
            return self._reset(attachment, packet, headers, "no_target")
        elif not entry.closed:
            entry.ends = now + entry.idle_s
        entry.to_target += 1
        zone.packets += 1
        zone.bytes += size
        # Faster than calling ToTarget, which is a Python function around this.
        payload = entry.header + packet
        fields = (entry.target, zone.node, entry.source_port, payload, entry.cookie)
        return tuple.__new__(ToTarget, fields)

    def from_target(
        self, source: Place, destination: Place, payload: bytes, now: float
    ) -> ToEndpoint | Dropped:
        """A datagram from an appliance to a node, with the UDP ports it really had."""
        checked = check_reply(self, source, destination, payload, now)
        if isinstance(checked, Refusal):
            return self._drop(checked.reason, checked.detail, payload)
        entry, target, headers, inner = checked
        entry.returned += 1
        if not entry.closed:
            entry.ends = now + entry.idle_s
            if entry.is_tcp and (headers.flags & ENDS or entry.fins) and entry.closes(headers):
                self.flows.close(entry, now)
        zone = entry.attachment.zone
        zone.packets += 1
        zone.bytes += len(inner)
        return tuple.__new__(ToEndpoint, (entry.attachment.endpoint, inner, target.name))

    def attachment(self, number: int) -> Attachment | None:
        """The endpoint with this number in GENEVE."""
        return self._numbers.get(number)

    def node_of(self, endpoint: str) -> str:
        """The address of the node that serves an endpoint."""
        return self._attachments[endpoint].zone.node

    def probed(self, target: str, zone: str, reason: str, now: float) -> None:
        """The result of one health check: "" for a success, else AWS's reason code."""
        self.targets.probed(target, zone, reason, now)

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing is pending."""
        return min(self.flows.next_deadline(), self.targets.next_deadline(), math.inf)

    def advance(self, now: float) -> None:
        """End idle flows and deregistration delays."""
        self.flows.expire(now)
        self.targets.advance(now)

    @property
    def metrics(self) -> Counter[str]:
        """Sums over all zones under CloudWatch's names."""
        zones = self.zones.values()
        return Counter(
            {
                "NewFlowCount": sum(zone.new_flows for zone in zones),
                "ProcessedBytes": sum(zone.bytes for zone in zones),
                "TCP_ELB_Reset_Count": sum(zone.resets for zone in zones),
            }
        )

    def gauges(self) -> dict[str, int]:
        """CloudWatch's other numbers, as they are now, over all zones."""
        counts = [self.targets.counts(zone) for zone in self.nodes]
        return {
            "ActiveFlowCount": len(self.flows),
            "HealthyHostCount": sum(healthy for healthy, _ in counts),
            "UnHealthyHostCount": sum(unhealthy for _, unhealthy in counts),
        }

    def _open(
        self, attachment: Attachment, key: Key, headers: Headers, packet: bytes, now: float
    ) -> FlowEntry | Outcome:
        """A packet that has no flow: a new one, or what becomes of the packet instead."""
        settings, zone = self.settings, attachment.zone
        opens = headers.protocol != TCP or is_syn(headers) or headers.is_fragment
        if not opens and settings.undocumented.midstream == "drop":
            if settings.listener.reset_on_idle_timeout:
                return self._reset(attachment, packet, headers, "no_entry")
            return self._drop("no_entry", "", packet)
        if len(self.flows) >= settings.max_flows:
            return self._drop("table_full", f"{settings.max_flows} flows", packet)
        sticky = sticky_key(attachment, key, settings)
        target = self.flows.companion(attachment, sticky)
        if target is None or not self.targets.usable(target.name, zone.name, now):
            target = self.targets.pick(zone.name, sticky)
        if target is None:
            return self._drop("no_target", f"zone {zone.name}", packet)
        zone.new_flows += 1
        self.new_flows[target.name] += 1
        return self.flows.open(attachment, key, sticky, target, headers, now)

    def _loses_target(self, entry: FlowEntry, zone: str, now: float) -> bool:
        """Move a flow off a target that is unhealthy or gone; True: it ends with a reset."""
        if self.targets.usable(entry.target.name, zone, now):
            return False
        group = self.settings.target_group
        if group.rebalance:
            target = self.targets.pick(zone, entry.sticky, healthy_only=True)
            if target is not None and target != entry.target:
                entry.target = target
                entry.moved += 1
            return False
        gone = self.targets.state(entry.target.name, zone) is State.UNUSED
        resets = group.reset_on_deregistration if gone else group.reset_on_unhealthy
        if resets and entry.is_tcp:
            self.flows.remove(entry)
            return True
        return False

    def _reset(
        self, attachment: Attachment, packet: bytes, headers: Headers, otherwise: str
    ) -> ToEndpoint | Dropped:
        """Answer a packet with a RST to its sender (AWS guide, "TCP reset")."""
        reset = build_tcp_rst(packet, 0, headers)
        if reset is None:
            return self._drop(otherwise, "", packet)
        attachment.zone.resets += 1
        return ToEndpoint(attachment.endpoint, reset, "")

    def _drop(self, reason: str, detail: str, packet: bytes) -> Dropped:
        self.drops[reason] += 1
        return Dropped(reason, detail, packet)
