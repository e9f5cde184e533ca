"""A Gateway Load Balancer without sockets or clock: packets in, what becomes of them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from appliance_sdk.errors import HarnessError, MalformedPacket
from appliance_sdk.harness.attributes import changed as with_changes
from appliance_sdk.harness.flow_entry import (
    ENDS,
    FlowEntry,
    Key,
    flow_key,
    is_syn,
    outer_protocol_key,
    sticky_key,
)
from appliance_sdk.harness.flows import RESET, REUSED, FlowTable
from appliance_sdk.harness.metrics import DataPoint, Meter
from appliance_sdk.harness.outcomes import Dropped, Outcome, Place, ToEndpoint, ToTarget
from appliance_sdk.harness.returns import Refusal, check_reply
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.states import Change, State, Target
from appliance_sdk.harness.targets import TargetGroup
from appliance_sdk.harness.zones import Attachment, Zone
from appliance_sdk.wire import build_tcp_rst, parse_endpoint, parse_packet
from appliance_sdk.wire.packet import RST, SYN, TCP, Headers


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
        name: str = "gwlb",
        seed: int = 0,
        changed: Callable[[Change], None] = lambda _: None,
    ) -> None:
        if not nodes:
            raise HarnessError("a load balancer needs at least one zone with a node")
        self.settings = (settings or GatewaySettings()).check()
        self.targets = TargetGroup(self.settings, nodes, seed, changed)
        self.flows = FlowTable(self.settings, seed)
        self.zones = {
            zone: Zone(zone, node, self.targets.failed[zone]) for zone, node in nodes.items()
        }
        self.drops: Counter[str] = Counter()
        self.new_flows: Counter[str] = Counter()
        """Flows that were given to each target, by its name."""
        self._attachments: dict[str, Attachment] = {}
        self._numbers: dict[int, Attachment] = {}
        self._meter = Meter(self, name, seed)
        switches = self.settings.undocumented
        self._watches = (
            switches.port_kept_packets > 0
            or switches.first_answer_from == "other_end"
            or not switches.accept_resets
        )

    # Its parts.

    @property
    def nodes(self) -> dict[str, str]:
        """The address of the node in each zone."""
        return {name: zone.node for name, zone in self.zones.items()}

    def add_zone(self, zone: str, node: str, now: float) -> None:
        """Enable another zone; targets that are registered there come into use."""
        if zone in self.zones:
            raise HarnessError(f"zone {zone} has a node already: {self.zones[zone].node}")
        self.targets.add_zone(zone, now)
        self.zones[zone] = Zone(zone, node, self.targets.failed[zone])

    def replace_node(self, zone: str, node: str) -> None:
        """Give the node of a zone another address, as when AWS replaces it; flows live on.

        Replies to the former address are dropped; the next packet comes from the new one.
        """
        place = self._zone(zone)
        if node != place.node:
            place.former_nodes = [n for n in (*place.former_nodes, place.node) if n != node]
            place.node = node

    def add_endpoint(self, endpoint: str, zone: str) -> None:
        """Attach an endpoint, such as "vpce-0a1b2c3d4e5f60718", in one of the zones.

        Raises HarnessError.
        """
        try:
            place = self._zone(zone)
            number = parse_endpoint(endpoint)
        except HarnessError as error:
            raise HarnessError(f"{endpoint}: {error}") from None
        except ValueError as error:
            raise HarnessError(str(error)) from None
        if number in self._numbers:
            raise HarnessError(f"{endpoint} is attached already")
        attachment = Attachment(endpoint, number, place)
        self._attachments[endpoint] = self._numbers[number] = attachment

    def register(self, name: str, address: str, zone: str, now: float) -> Target:
        """Add an appliance to the target group. Raises HarnessError."""
        self._meter.roll(now)
        target = Target(name, address, zone)
        self.targets.register(target, now)
        return target

    def deregister(self, name: str, now: float) -> None:
        """Take an appliance out; its flows stay with it or move, as the attributes say."""
        self._meter.roll(now)
        self.targets.deregister(name, now)

    # Attributes.

    def modify_target_group_attributes(self, attributes: Mapping[str, object], now: float) -> None:
        """Change attributes by AWS's keys, {"stickiness.enabled": True}, all of them or none.

        Live flows and targets heed them at once. Raises ConfigError that begins with the name of
        the API's error, also where two attributes exclude each other.
        """
        part = with_changes(self.settings.target_group, attributes, "Target group")
        self._configure(msgspec.structs.replace(self.settings, target_group=part), now)

    def modify_listener_attributes(self, attributes: Mapping[str, object], now: float) -> None:
        """The same for the listener; whether live flows heed a new idle timeout is a switch."""
        part = with_changes(self.settings.listener, attributes, "Listener")
        self._configure(msgspec.structs.replace(self.settings, listener=part), now)

    def modify_load_balancer_attributes(self, attributes: Mapping[str, object], now: float) -> None:
        """The same for the load balancer itself."""
        part = with_changes(self.settings.load_balancer, attributes, "Load balancer")
        self._configure(msgspec.structs.replace(self.settings, load_balancer=part), now)

    def modify_health_check(self, settings: Mapping[str, object], now: float) -> None:
        """Change the health check, by the keys of `HealthCheck`. Raises ConfigError."""
        part = with_changes(self.settings.health_check, settings, "Health check")
        self._configure(msgspec.structs.replace(self.settings, health_check=part), now)

    # Packets.

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

    def attachment(self, number: int) -> Attachment | None:
        """The endpoint with this number in GENEVE."""
        return self._numbers.get(number)

    def report_health(
        self, target: str, state: State, reason: str, now: float, zone: str = ""
    ) -> None:
        """Put a target into a state that no health check leads to: see `TargetGroup.report`."""
        self._meter.roll(now)
        self.targets.report(target, state, reason, now, zone)

    def node_of(self, endpoint: str) -> str:
        """The address of the node that serves an endpoint."""
        return self._endpoint(endpoint).zone.node

    # Time and health.

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

    # Numbers.

    @property
    def metrics(self) -> Counter[str]:
        """Sums since the start over all zones, under CloudWatch's names."""
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
        healthy, unhealthy = self.targets.counts()
        return {
            "ActiveFlowCount": len(self.flows),
            "HealthyHostCount": healthy,
            "UnHealthyHostCount": unhealthy,
        }

    def cloudwatch(self, now: float) -> list[DataPoint]:
        """The data points of the last day, minute by minute, as CloudWatch would have them."""
        return list(self._meter.points(now))

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

    def _configure(self, settings: GatewaySettings, now: float) -> None:
        self._meter.roll(now)
        self.settings = settings.check()
        self.targets.configure(settings, now)
        self.flows.configure(settings)

    def _zone(self, zone: str) -> Zone:
        try:
            return self.zones[zone]
        except KeyError:
            known = ", ".join(self.zones)
            raise HarnessError(f"no zone {zone!r}; zones: {known}") from None

    def _endpoint(self, endpoint: str) -> Attachment:
        try:
            return self._attachments[endpoint]
        except KeyError:
            known = ", ".join(self._attachments) or "none"
            raise HarnessError(f"no endpoint {endpoint!r}; known: {known}") from None

    def _drop(self, reason: str, detail: str, packet: bytes) -> Dropped:
        self.drops[reason] += 1
        return Dropped(reason, detail, packet)
