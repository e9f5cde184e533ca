"""A load balancer's parts and attributes, and how they are changed while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.attributes import changed as with_changes
from appliance_sdk.harness.flows import FlowTable
from appliance_sdk.harness.metrics import DataPoint, Meter
from appliance_sdk.harness.settings import GatewaySettings
from appliance_sdk.harness.states import Change, State, Target
from appliance_sdk.harness.targets import TargetGroup
from appliance_sdk.harness.zones import Attachment, Zone
from appliance_sdk.wire import parse_endpoint


class Administration:
    """The side of a load balancer that its owner sees; nothing here is done for a packet."""

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
        other = next((z.name for z in self.zones.values() if z.node == node), zone)
        if other != zone:
            raise HarnessError(f"{node} is the address of the node in zone {other}")
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
        part = with_changes(self.settings.target_group, attributes, "Target group attribute")
        self._configure(msgspec.structs.replace(self.settings, target_group=part), now)

    def modify_listener_attributes(self, attributes: Mapping[str, object], now: float) -> None:
        """The same for the listener; whether live flows heed a new idle timeout is a switch."""
        part = with_changes(self.settings.listener, attributes, "Listener attribute")
        self._configure(msgspec.structs.replace(self.settings, listener=part), now)

    def modify_load_balancer_attributes(self, attributes: Mapping[str, object], now: float) -> None:
        """The same for the load balancer itself."""
        part = with_changes(self.settings.load_balancer, attributes, "Load balancer attribute")
        self._configure(msgspec.structs.replace(self.settings, load_balancer=part), now)

    def modify_health_check(self, settings: Mapping[str, object], now: float) -> None:
        """Change the health check, by the keys of `HealthCheck`. Raises ConfigError."""
        part = with_changes(self.settings.health_check, settings, "Health check")
        self._configure(msgspec.structs.replace(self.settings, health_check=part), now)

    def node_of(self, endpoint: str) -> str:
        """The address of the node that serves an endpoint."""
        return self._endpoint(endpoint).zone.node

    def attachment(self, number: int) -> Attachment | None:
        """The endpoint with this number in GENEVE."""
        return self._numbers.get(number)

    def report_health(
        self, target: str, state: State, reason: str, now: float, zone: str = ""
    ) -> None:
        """Put a target into a state that no health check leads to: see `TargetGroup.report`."""
        self._meter.roll(now)
        self.targets.report(target, state, reason, now, zone)

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
