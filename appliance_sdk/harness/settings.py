"""What a GENEVE target group, its listener and its load balancer can be set to, by AWS's names.

In TOML and in `decode_config` the attributes carry the keys of the ELBv2 API
("target_failover.on_unhealthy"); in Python the field names stand for them. Defaults and ranges are
AWS's (ELBv2 API reference, `TargetGroupAttribute`, `ListenerAttribute`, `CreateTargetGroup`).
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec
from msgspec import field

from appliance_sdk.errors import ConfigError

Failover: TypeAlias = Literal["no_rebalance", "rebalance"]
Stickiness: TypeAlias = Literal["source_ip_dest_ip_proto", "source_ip_dest_ip"]


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How targets are asked whether they work."""

    enabled: bool = True
    """Always, of targets that are instances or addresses."""
    protocol: Literal["TCP", "HTTP", "HTTPS"] = "TCP"
    """TCP: a connection is enough. HTTPS: any certificate will do, but TLS 1.3 alone will not."""
    port: int = 80
    """AWS's default is 80, not the traffic port."""
    path: str = "/"
    interval_s: float = 10
    timeout_s: float = 5
    """From connecting to the end of the status line."""
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

    deletion_protection: bool = field(default=False, name="deletion_protection.enabled")
    """Nothing here deletes a load balancer."""
    cross_zone: bool = field(default=False, name="load_balancing.cross_zone.enabled")


class Undocumented(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What AWS does not say, each a switch; the defaults are the strictest that is plausible."""

    check_source_port: bool = True
    """A reply must leave from the UDP port that the packet came from."""
    check_node: bool = True
    """A reply must go to the node that the packet came from."""
    check_attachment: bool = True
    """A reply must carry the attachment id that was sent."""
    check_protocol_type: bool = True
    """A reply's GENEVE protocol type must be that of the packet in it."""
    check_tuple: bool = True
    """A returned packet must have the flow's addresses, ports and protocol."""
    accept_icmp_errors: bool = True
    """An ICMP error that quotes the flow may come back in its encapsulation."""
    accept_resets: bool = True
    """A target may end a connection with a RST that none of its ends sent."""
    accept_former_target: bool = False
    """A target that lost a flow by rebalancing may still return its packets."""
    fragments: Literal["drop", "forward"] = "drop"
    """AWS: "does not support IP fragmentation"; "forward" hashes on addresses and protocol."""
    extension_headers: Literal["walk", "stop"] = "walk"
    """IPv6: "walk" finds the ports behind extension headers; "stop" takes the first of them for the
    protocol, which has no ports."""
    ingress_limit_bytes: int = 8500
    """Larger packets do not enter; some saw GWLB deliver up to 8,933. Replies keep 8,500."""
    close_linger_s: float = 2
    """How long a flow's entry outlives FIN both ways or RST; a reject sends two resets."""
    first_answer_s: float = 30
    """How long the first answer of a flow may take (AWS: "within 30 seconds"); 0: any time."""
    first_answer_from: Literal["target", "other_end"] = "target"
    """Whose answer that is: the target's, which returns the first packet, or the other end's."""
    midstream: Literal["drop", "open"] = "drop"
    """TCP without SYN and without an entry; before 2024 such a packet opened a flow."""
    idle_timeout_change: Literal["new_flows", "all_flows"] = "new_flows"
    """Which flows a changed `tcp.idle_timeout.seconds` is for."""
    cookie_per: Literal["flow", "sticky_tuple"] = "flow"
    """With 2-tuple or 3-tuple stickiness: whether connections that stay together share a cookie."""
    cookie_after_rebalance: Literal["kept", "new"] = "kept"
    """The cookie of a flow that got another target."""
    port_kept_packets: int = 0
    """After so many packets a flow gets another UDP source port; 0: it keeps its first."""
    options: Literal["usual", "reversed", "more"] = "usual"
    """GENEVE options: endpoint, attachment, cookie; the other way round; with an unknown one."""
    initial_successes: int = 0
    """Checks until a new target is healthy; 0: as many as `healthy_threshold`."""
    initial_targets: Literal["never", "fail_open", "always"] = "fail_open"
    """When a target that is still being checked gets flows: AWS says both "always" (health checks)
    and not before they pass (registration); "fail_open": if no other is healthy."""
    registration_s: float = 0
    """From registering a target to its first health check; AWS: "a few minutes"."""
    failover_delay_s: float = 0
    """From a change of health until flows move or are reset; AWS says several minutes."""
    rebalance_to_new_targets: bool = False
    """With `rebalance`, a target that becomes healthy takes over its share of the live flows."""
    reset_with_rebalance: Literal["refused", "ignored"] = "refused"
    """`send_tcp_reset.*` with `rebalance`: the guide says it cannot be set, the API that it does
    not apply."""
    reset_failing_open: bool = True
    """`send_tcp_reset.on_unhealthy` also for flows that were opened while no target was healthy."""
    probe_user_agent: str = "ELB-HealthChecker/2.0"
    """In HTTP health checks; AWS documents it for Application Load Balancers."""
    probe_close: Literal["fin", "reset"] = "fin"
    """How the connection of a health check ends."""


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
    max_targets: int = 300
    """Registered at the same time (AWS quota: targets per Gateway Load Balancer)."""

    def check(self, path: str = "", key: str = "") -> GatewaySettings:
        """Itself, if AWS would take it. Raises ConfigError with AWS's name for the mistake."""
        from appliance_sdk.harness.settings_check import mistake

        found = mistake(self)
        if found is not None:
            full = ".".join(part for part in (key, found.key) if part)
            raise ConfigError(found.message, path=path, key=full, hint=found.hint)
        return self


def parse_matcher(text: str) -> tuple[range, ...]:
    """The HTTP codes of a matcher such as "200,302" or "200-399". Raises ConfigError."""
    ranges = []
    for part in (part.strip() for part in text.split(",")):
        found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        if found is None:
            message = f"ValidationError: {text!r} is no list of HTTP codes"
            raise ConfigError(message, hint='such as "200-399"')
        codes = range(int(found[1]), int(found[2] or found[1]) + 1)
        if not codes or codes[0] < 200 or codes[-1] > 399:
            raise ConfigError(f"ValidationError: {part!r} is not within 200 to 399")
        ranges.append(codes)
    return tuple(ranges)
