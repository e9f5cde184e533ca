"""A Gateway Load Balancer without sockets or clock: packets in, what becomes of them out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from appliance_sdk.errors import HarnessError, MalformedPacket
from appliance_sdk.harness.flows import FlowEntry, FlowTable, flow_key, is_syn, sticky_key
from appliance_sdk.harness.reasons import REASONS
from appliance_sdk.harness.returns import Refusal, check_reply
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.targets import Change, State, Target, TargetGroup
from appliance_sdk.wire import build_geneve, build_tcp_rst, parse_endpoint, parse_packet
from appliance_sdk.wire.geneve import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from appliance_sdk.wire.packet import TCP, Headers

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
        self.drops: Counter[str] = Counter()
        self.metrics: Counter[str] = Counter()
        """Sums under CloudWatch's names: NewFlowCount, ProcessedBytes, TCP_ELB_Reset_Count."""
        self.new_flows: Counter[str] = Counter()
        """Flows that were given to each target, by its name."""
        self._endpoints: dict[str, tuple[str, int]] = {}
        self._names: dict[int, str] = {}

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
        if number in self._names:
            raise HarnessError(f"{endpoint} is attached already")
        self._endpoints[endpoint] = zone, number
        self._names[number] = endpoint

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
        place = self._endpoints.get(endpoint)
        if place is None:
            return self._drop("unknown_endpoint", endpoint, packet)
        zone, number = place
        undocumented = self.settings.undocumented
        if len(packet) > undocumented.ingress_limit_bytes:
            return self._drop("too_big", f"{len(packet)} bytes", packet)
        try:
            headers = parse_packet(packet, 0, len(packet))
        except MalformedPacket as error:
            return self._drop("malformed", error.reason, packet)
        if headers.is_fragment and undocumented.fragments == "drop":
            return self._drop("fragment", "", packet)
        key = flow_key(endpoint, headers)
        entry = self.flows.get(key, now)
        if entry is not None and entry.reused_by(headers):
            self.flows.remove(entry)
            entry = None
        if entry is None:
            opens = headers.protocol != TCP or is_syn(headers) or headers.is_fragment
            if not opens and undocumented.midstream == "drop":
                if self.settings.listener.reset_on_idle_timeout:
                    return self._reset(endpoint, packet, headers, "no_entry")
                return self._drop("no_entry", "", packet)
            found = self._open(key, zone, headers, now)
            if isinstance(found, str):
                return self._drop(found, f"zone {zone}", packet)
            entry = found
        elif self._loses_target(entry, zone, now):
            return self._reset(endpoint, packet, headers, "no_target")
        self.flows.sent(entry, now)
        self.metrics["ProcessedBytes"] += len(packet)
        ethertype = ETHERTYPE_IPV4 if headers.version == 4 else ETHERTYPE_IPV6
        header = build_geneve(
            number, entry.cookie, attachment_id=self.settings.attachment_id, ethertype=ethertype
        )
        return ToTarget(
            entry.target, self.nodes[zone], entry.source_port, header + packet, entry.cookie
        )

    def from_target(
        self, source: Place, destination: Place, payload: bytes, now: float
    ) -> ToEndpoint | Dropped:
        """A datagram from an appliance to a node, with the UDP ports it really had."""
        checked = check_reply(self, self._names, source, destination, payload, now)
        if isinstance(checked, Refusal):
            return self._drop(checked.reason, checked.detail, payload)
        entry, headers, inner = checked
        self.flows.returned(entry, headers, now)
        self.metrics["ProcessedBytes"] += len(inner)
        target = self.targets.at(source[0])
        return ToEndpoint(entry.endpoint, inner, target.name if target is not None else source[0])

    def node_of(self, endpoint: str) -> str:
        """The address of the node that serves an endpoint."""
        return self.nodes[self._endpoints[endpoint][0]]

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

    def gauges(self) -> dict[str, int]:
        """CloudWatch's other numbers, as they are now, over all zones."""
        counts = [self.targets.counts(zone) for zone in self.nodes]
        return {
            "ActiveFlowCount": len(self.flows),
            "HealthyHostCount": sum(healthy for healthy, _ in counts),
            "UnHealthyHostCount": sum(unhealthy for _, unhealthy in counts),
        }

    def _open(
        self, key: tuple[str, int, bytes, bytes, int, int], zone: str, headers: Headers, now: float
    ) -> FlowEntry | str:
        if len(self.flows) >= self.settings.max_flows:
            return "table_full"
        sticky = sticky_key(key, self.settings)
        target = self.flows.companion(sticky)
        if target is None or not self.targets.usable(target.name, zone, now):
            target = self.targets.pick(zone, sticky)
        if target is None:
            return "no_target"
        self.metrics["NewFlowCount"] += 1
        self.new_flows[target.name] += 1
        return self.flows.open(key, sticky, target, headers, now)

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

    def _reset(self, endpoint: str, packet: bytes, headers: Headers, otherwise: str) -> Outcome:
        """Answer a packet with a RST to its sender (AWS guide, "TCP reset")."""
        reset = build_tcp_rst(packet, 0, headers)
        if reset is None:
            return self._drop(otherwise, "", packet)
        self.metrics["TCP_ELB_Reset_Count"] += 1
        return ToEndpoint(endpoint, reset, "")

    def _drop(self, reason: str, detail: str, packet: bytes) -> Dropped:
        self.drops[reason] += 1
        return Dropped(reason, detail, packet)
