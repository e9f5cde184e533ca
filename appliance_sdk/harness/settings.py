"""What a GENEVE target group, its listener and its load balancer can be set to, by AWS's names.

In TOML and in `decode_config` the attributes carry the keys of the ELBv2 API
("target_failover.on_unhealthy"); in Python the field names stand for them. Defaults and ranges are
AWS's (ELBv2 API reference, `TargetGroupAttribute`, `ListenerAttribute`, `CreateTargetGroup`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import field

from appliance_sdk.errors import ConfigError

Failover: TypeAlias = Literal["no_rebalance", "rebalance"]
Stickiness: TypeAlias = Literal["source_ip_dest_ip_proto", "source_ip_dest_ip"]


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How targets are asked whether they work."""

    protocol: Literal["TCP", "HTTP"] = "TCP"
    """AWS also has HTTPS, which the harness does not ask."""
    port: int = 80
    """AWS's default is 80, not the traffic port."""
    path: str = "/"
    interval_s: float = 10
    timeout_s: float = 5
    healthy_threshold: int = 5
    """Successes in a row that make a target healthy."""
    unhealthy_threshold: int = 2
    """Failures in a row that make it unhealthy."""
    matcher: str = "200-399"
    """HTTP codes that count as a success: a code, a range, or several with commas."""


class TargetGroupAttributes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set on a GENEVE target group."""

    deregistration_delay_s: int = field(default=300, name="deregistration_delay.timeout_seconds")
    stickiness: bool = field(default=False, name="stickiness.enabled")
    """False: a flow is a 5-tuple; True: `stickiness_type` says what is kept together."""
    stickiness_type: Stickiness = field(default="source_ip_dest_ip_proto", name="stickiness.type")
    on_deregistration: Failover = field(
        default="no_rebalance", name="target_failover.on_deregistration"
    )
    on_unhealthy: Failover = field(default="no_rebalance", name="target_failover.on_unhealthy")
    reset_on_unhealthy: bool = field(default=False, name="send_tcp_reset.on_unhealthy.enabled")
    reset_on_deregistration: bool = field(
        default=False, name="send_tcp_reset.on_deregistration.enabled"
    )

    @property
    def rebalance(self) -> bool:
        """Existing flows move away from a target that is unhealthy or gone."""
        return self.on_unhealthy == "rebalance"


class ListenerAttributes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set on the one listener of a Gateway Load Balancer."""

    tcp_idle_timeout_s: int = field(default=350, name="tcp.idle_timeout.seconds")
    reset_on_idle_timeout: bool = field(
        default=False, name="send_tcp_reset.on_idle_timeout.enabled"
    )


class LoadBalancerAttributes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set on the load balancer itself."""

    cross_zone: bool = field(default=False, name="load_balancing.cross_zone.enabled")


class Undocumented(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What AWS does not say, each a switch; the defaults are the strictest that is plausible."""

    check_source_port: bool = True
    """A reply must leave from the UDP port that the packet came from."""
    check_node: bool = True
    """A reply must go to the node that the packet came from."""
    check_attachment: bool = True
    """A reply must carry the attachment id that was sent."""
    accept_icmp_errors: bool = True
    """An ICMP error that quotes the flow may come back in its encapsulation."""
    accept_former_target: bool = False
    """A target that lost a flow by rebalancing may still return its packets."""
    fragments: Literal["drop", "forward"] = "drop"
    """AWS: "does not support IP fragmentation"; "forward" hashes on addresses and protocol."""
    ingress_limit_bytes: int = 8500
    """Larger packets do not enter; some saw GWLB deliver up to 8,933. Replies keep 8,500."""
    close_linger_s: float = 2
    """How long a flow's entry outlives FIN both ways or RST; a reject sends two resets."""
    first_answer_s: float = 30
    """How long a target may keep a flow's first packet (AWS: "within 30 seconds")."""
    initial_successes: int = 0
    """Checks until a new target is healthy; 0: as many as `healthy_threshold`."""
    fail_open_to_initial: bool = True
    """With no healthy target, one that is still being checked may be picked."""
    midstream: Literal["drop", "open"] = "drop"
    """TCP without SYN and without an entry; before 2024 such a packet opened a flow."""
    failover_delay_s: float = 0
    """From a change of health until flows move; AWS says several minutes."""


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a local Gateway Load Balancer can be told."""

    target_group: TargetGroupAttributes = TargetGroupAttributes()
    listener: ListenerAttributes = ListenerAttributes()
    load_balancer: LoadBalancerAttributes = LoadBalancerAttributes()
    health_check: HealthCheck = HealthCheck()
    undocumented: Undocumented = Undocumented()
    source_ports: tuple[int, int] = (61000, 61031)
    """The UDP ports that flows are spread over, first and last; AWS uses any, (1, 65535). A few
    by default: an appliance without CAP_NET_RAW binds one socket for each."""
    probes: int = 2
    """Health checks of a target at the same time: AWS sends several, from each zone."""
    attachment_id: int = 0
    """Only 0 has ever been seen."""
    max_flows: int = 1_000_000

    def check(self, path: str = "", key: str = "") -> GatewaySettings:
        """Itself, if AWS would take it. Raises ConfigError with AWS's rule."""
        group, listener, health = self.target_group, self.listener, self.health_check
        resets = group.reset_on_unhealthy or group.reset_on_deregistration
        first, last = self.source_ports
        rules: list[tuple[bool, str, str, str]] = [
            (
                group.on_unhealthy != group.on_deregistration,
                "target_group",
                "target_failover.on_deregistration and .on_unhealthy differ",
                "AWS takes only equal values",
            ),
            (
                not 0 <= group.deregistration_delay_s <= 3600,
                "target_group.deregistration_delay.timeout_seconds",
                f"{group.deregistration_delay_s} is not in 0 to 3600",
                "",
            ),
            (
                resets and group.stickiness,
                "target_group",
                "send_tcp_reset needs 5-tuple flows",
                "leave stickiness.enabled false",
            ),
            (
                resets and group.rebalance,
                "target_group",
                "send_tcp_reset and rebalance exclude each other",
                "set both target_failover attributes to no_rebalance",
            ),
            (
                not 60 <= listener.tcp_idle_timeout_s <= 6000,
                "listener.tcp.idle_timeout.seconds",
                f"{listener.tcp_idle_timeout_s} is not in 60 to 6000",
                "",
            ),
            (
                group.stickiness and listener.tcp_idle_timeout_s != 350,
                "listener.tcp.idle_timeout.seconds",
                "can be changed with 5-tuple flows only",
                "leave stickiness.enabled false",
            ),
            (
                group.stickiness and listener.reset_on_idle_timeout,
                "listener.send_tcp_reset.on_idle_timeout.enabled",
                "send_tcp_reset needs 5-tuple flows",
                "leave stickiness.enabled false",
            ),
            (not 1 <= health.port <= 65535, "health_check.port", "is no port", "such as 8080"),
            (
                not 2 <= health.timeout_s <= 120,
                "health_check.timeout_s",
                f"{health.timeout_s:g} is not in 2 to 120",
                "",
            ),
            (
                not 5 <= health.interval_s <= 300 or health.interval_s < health.timeout_s,
                "health_check.interval_s",
                f"{health.interval_s:g} is not in 5 to 300 or less than timeout_s",
                "",
            ),
            (
                not 2 <= health.healthy_threshold <= 10,
                "health_check.healthy_threshold",
                f"{health.healthy_threshold} is not in 2 to 10",
                "",
            ),
            (
                not 2 <= health.unhealthy_threshold <= 10,
                "health_check.unhealthy_threshold",
                f"{health.unhealthy_threshold} is not in 2 to 10",
                "",
            ),
            (
                not health.path.startswith("/") or len(health.path) > 1024,
                "health_check.path",
                f"{health.path[:40]!r} is no path",
                "such as /",
            ),
            (not 1 <= first <= last <= 65535, "source_ports", "is no range of ports", ""),
            (not 1 <= self.probes <= 16, "probes", f"{self.probes} is not in 1 to 16", ""),
            (self.max_flows < 1, "max_flows", "must be at least 1", ""),
        ]
        for wrong, where, message, hint in rules:
            if wrong:
                full = ".".join(part for part in (key, where) if part)
                raise ConfigError(message, path=path, key=full, hint=hint)
        try:
            parse_matcher(health.matcher)
        except ConfigError as error:
            full = ".".join(part for part in (key, "health_check.matcher") if part)
            raise ConfigError(error.message, path=path, key=full, hint=error.hint) from None
        return self


def parse_matcher(text: str) -> tuple[range, ...]:
    """The HTTP codes of a matcher such as "200,302" or "200-399". Raises ConfigError."""
    ranges = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise ConfigError(f"{text!r} is no list of HTTP codes", hint='such as "200-399"')
        codes = range(int(first), int(last or first) + 1)
        if not codes or codes[0] < 200 or codes[-1] > 399:
            raise ConfigError(f"{part.strip()!r} is not within 200 to 399")
        ranges.append(codes)
    return tuple(ranges)
