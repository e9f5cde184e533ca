"""A Gateway Load Balancer without sockets or clock: packets in, what becomes of them out."""

from __future__ import annotations

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.administration import Administration
from appliance_sdk.harness.flow_entry import (
    ENDS,
    FlowEntry,
    Key,
    flow_key,
    is_syn,
    outer_protocol_key,
    sticky_key,
)
from appliance_sdk.harness.flows import RESET, REUSED
from appliance_sdk.harness.outcomes import Dropped, Outcome, Place, ToEndpoint, ToTarget
from appliance_sdk.harness.returns import Refusal, check_reply
from appliance_sdk.harness.states import State
from appliance_sdk.harness.zones import Attachment
from appliance_sdk.wire import build_tcp_rst, parse_packet
from appliance_sdk.wire.packet import RST, SYN, TCP, Headers


class GatewayLoadBalancer(Administration):
    """Does what AWS's does, with time as an argument; every run with one seed is the same.

    `nodes` are its zones with the IPv4 address of the node in each; endpoints and targets are
    added by name. Health checks are asked of whoever has a network: `probed` takes the results.
    Nothing happens by itself: call `advance` at `next_deadline`.
    """

    def from_endpoint(self, endpoint: str, packet: bytes, now: float) -> Outcome:
        """A packet that routing brought to an endpoint."""
        if now >= self._meter.due:
            self._meter.roll(now)
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
        if headers.version == 6 and undocumented.extension_headers == "stop":
            key = outer_protocol_key(packet, headers)
        zone = attachment.zone
        entry = attachment.flows.get(key)
        if entry is not None:
            if now >= entry.ends:
                self.flows.end(entry)
                entry = None
            elif headers.flags & SYN and entry.reused_by(headers):
                self.flows.remove(entry, REUSED, now)
                entry = None
        if entry is None:
            opened = self._open(attachment, key, headers, packet, now)
            if not isinstance(opened, FlowEntry):
                return opened
            entry = opened
        elif entry.target.name in zone.failed and self._loses_target(entry, zone.name, now):
            return self._reset(attachment, packet, headers, "no_entry", RESET)
        elif not entry.closed:
            entry.ends = now + entry.idle_s
        if entry.watched and not self._watch(entry, key, headers, now):
            detail = f"after {now - entry.created:.1f} s"
            return self._drop("late_first_answer", detail, packet)
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
        if now >= self._meter.due:
            self._meter.roll(now)
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

    def flow_of(self, endpoint: str, packet: bytes) -> FlowEntry | None:
        """The live flow of a packet, to look at, or to change its port (`use_port`).

        Raises HarnessError, or MalformedPacket.
        """
        headers = parse_packet(packet, 0, len(packet))
        return self._endpoint(endpoint).flows.get(flow_key(headers))

    def probed(self, target: str, zone: str, reason: str, now: float) -> None:
        """The result of one health check: "" for a success, else AWS's reason code."""
        self._meter.roll(now)
        became_healthy = self.targets.probed(target, zone, reason, now)
        spreads = self.settings.undocumented.rebalance_to_new_targets
        if became_healthy and spreads and self.settings.target_group.rebalance:
            self._spread_again(zone, now)

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing is pending."""
        return min(self.flows.next_deadline(), self.targets.next_deadline())

    def advance(self, now: float) -> None:
        """End idle flows and deregistration delays."""
        if now >= self._meter.due:
            self._meter.roll(now)
        self.flows.expire(now)
        self.targets.advance(now)

    def is_late(self, entry: FlowEntry, now: float, whose: str) -> bool:
        """Whether the first answer of a flow comes too late, if it is this one that counts."""
        switches = self.settings.undocumented
        if switches.first_answer_from != whose or not switches.first_answer_s:
            return False
        return now - entry.created > switches.first_answer_s

    def _open(
        self, attachment: Attachment, key: Key, headers: Headers, packet: bytes, now: float
    ) -> FlowEntry | Outcome:
        """A packet that has no flow: a new one, or what becomes of the packet instead."""
        settings, zone = self.settings, attachment.zone
        opens = key[0] != TCP or is_syn(headers) or headers.is_fragment
        if not opens and settings.undocumented.midstream == "drop":
            if settings.listener.reset_on_idle_timeout:
                return self._reset(attachment, packet, headers, "no_entry", "")
            protocol, source, destination, source_port, destination_port = key
            reverse: Key = (protocol, destination, source, destination_port, source_port)
            ended = self.flows.ended(attachment, key) or self.flows.ended(attachment, reverse)
            return self._drop("no_entry", ended.told(now) if ended else "", packet)
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
        entry = self.flows.open(attachment, key, sticky, target, headers, now)
        entry.watched = self._watches
        entry.failing_open = self.targets.state(target.name, zone.name) is not State.HEALTHY
        return entry

    def _watch(self, entry: FlowEntry, key: Key, headers: Headers, now: float) -> bool:
        """What some switches have to know of each packet; False: it comes too late."""
        if entry.is_tcp and headers.flags & RST:
            entry.reset_entered = True
        if not entry.answered and key != entry.key:
            if self.is_late(entry, now, "other_end"):
                return False
            entry.answered = True
        kept = self.settings.undocumented.port_kept_packets
        if kept and entry.to_target and entry.to_target % kept == 0:
            self.flows.change_port(entry)
        return True

    def _loses_target(self, entry: FlowEntry, zone: str, now: float) -> bool:
        """Move a flow off a target that is unhealthy or gone; True: it ends with a reset."""
        if self.targets.usable(entry.target.name, zone, now):
            return False
        group = self.settings.target_group
        if group.rebalance:
            target = self.targets.pick(zone, entry.sticky, healthy_only=True)
            if target is not None and target != entry.target:
                self.flows.move(entry, target, now)
            return False
        if self.targets.is_registered(entry.target.name):
            resets = group.reset_on_unhealthy
            if entry.failing_open and not self.settings.undocumented.reset_failing_open:
                resets = False
        else:
            resets = group.reset_on_deregistration
        if resets and entry.is_tcp:
            self.flows.remove(entry, RESET, now)
            return True
        return False

    def _spread_again(self, zone: str, now: float) -> None:
        """Let every live flow of a zone go where it would go if it began now."""
        for entry in list(self.flows):
            if entry.attachment.zone.name == zone:
                target = self.targets.pick(zone, entry.sticky, healthy_only=True)
                if target is not None and target != entry.target:
                    self.flows.move(entry, target, now)

    def _reset(
        self, attachment: Attachment, packet: bytes, headers: Headers, otherwise: str, why: str
    ) -> ToEndpoint | Dropped:
        """Answer a packet with a RST to its sender (AWS guide, "TCP reset")."""
        reset = build_tcp_rst(packet, 0, headers)
        if reset is None:
            return self._drop(otherwise, why and f"the flow {why}", packet)
        attachment.zone.resets += 1
        return ToEndpoint(attachment.endpoint, reset, "")

    def _drop(self, reason: str, detail: str, packet: bytes) -> Dropped:
        self.drops[reason] += 1
        return Dropped(reason, detail, packet)
