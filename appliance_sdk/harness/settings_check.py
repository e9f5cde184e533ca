"""What AWS would refuse of a load balancer's settings, by the names of the ELBv2 API's errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.settings import (
    GatewaySettings,
    HealthCheck,
    TargetGroupAttributes,
    parse_matcher,
)


class Mistake(NamedTuple):
    """One thing that cannot be set so; `message` begins with AWS's name for it."""

    key: str
    message: str
    hint: str = ""


def mistake(settings: GatewaySettings) -> Mistake | None:
    """The first thing in the settings that AWS would refuse."""
    return next(
        (
            found
            for rules in (_combinations, _attributes, _health_check, _own)
            for found in rules(settings)
        ),
        None,
    )


def _combinations(settings: GatewaySettings) -> Iterator[Mistake]:
    """What each attribute allows but not both together (AWS guide, "Edit target group
    attributes")."""
    group, listener = settings.target_group, settings.listener
    invalid = "InvalidConfigurationRequest: "
    if group.on_unhealthy != group.on_deregistration:
        yield Mistake(
            "target_group.target_failover.on_unhealthy",
            invalid + "target_failover.on_deregistration and .on_unhealthy differ",
            "AWS takes only equal values",
        )
    resets = _resets(group)
    if resets and group.stickiness:
        yield Mistake(
            f"target_group.{resets}",
            invalid + "send_tcp_reset needs 5-tuple flows",
            "leave stickiness.enabled false",
        )
    if resets and group.rebalance and settings.undocumented.reset_with_rebalance == "refused":
        yield Mistake(
            f"target_group.{resets}",
            invalid + "send_tcp_reset and rebalance exclude each other",
            "set both target_failover attributes to no_rebalance",
        )
    if group.stickiness and listener.tcp_idle_timeout_s != 350:
        yield Mistake(
            "listener.tcp.idle_timeout.seconds",
            invalid + "can be changed with 5-tuple flows only",
            "leave stickiness.enabled false",
        )
    if group.stickiness and listener.reset_on_idle_timeout:
        yield Mistake(
            "listener.send_tcp_reset.on_idle_timeout.enabled",
            invalid + "send_tcp_reset needs 5-tuple flows",
            "leave stickiness.enabled false",
        )


def _attributes(settings: GatewaySettings) -> Iterator[Mistake]:
    """Ranges (ELBv2 API, `TargetGroupAttribute` and `ListenerAttribute`)."""
    delay = settings.target_group.deregistration_delay_s
    key = "target_group.deregistration_delay.timeout_seconds"
    yield from _within(key, delay, 0, 3600)
    idle = settings.listener.tcp_idle_timeout_s
    yield from _within("listener.tcp.idle_timeout.seconds", idle, 60, 6000)


def _health_check(settings: GatewaySettings) -> Iterator[Mistake]:
    """Ranges of a GENEVE target group (ELBv2 API, `CreateTargetGroup`)."""
    check: HealthCheck = settings.health_check
    if not check.enabled:
        yield Mistake(
            "health_check.enabled",
            "ValidationError: must be true for targets that are instances or addresses",
        )
    yield from _within("health_check.port", check.port, 1, 65535)
    yield from _within("health_check.timeout_s", check.timeout_s, 2, 120)
    yield from _within("health_check.interval_s", check.interval_s, 5, 300)
    if check.interval_s < check.timeout_s:
        yield Mistake(
            "health_check.interval_s",
            f"ValidationError: {check.interval_s:g} is less than timeout_s, {check.timeout_s:g}",
        )
    yield from _within("health_check.healthy_threshold", check.healthy_threshold, 2, 10)
    yield from _within("health_check.unhealthy_threshold", check.unhealthy_threshold, 2, 10)
    if not check.path.startswith("/") or len(check.path) > 1024:
        yield Mistake(
            "health_check.path",
            f"ValidationError: {check.path[:40]!r} is no path of at most 1024 characters",
            "such as /",
        )
    try:
        parse_matcher(check.matcher)
    except ConfigError as error:
        yield Mistake("health_check.matcher", error.message, error.hint)


def _own(settings: GatewaySettings) -> Iterator[Mistake]:
    """What the harness itself must be told right."""
    first, last = settings.source_ports
    if not 1 <= first <= last <= 65535:
        yield Mistake("source_ports", "is no range of ports", "such as [61000, 61031]")
    if not 1 <= settings.probes <= 16:
        yield Mistake("probes", f"{settings.probes} is not in 1 to 16")
    if settings.max_flows < 1:
        yield Mistake("max_flows", "must be at least 1")
    if settings.max_targets < 1:
        yield Mistake("max_targets", "must be at least 1")
    switches = settings.undocumented
    for name in ("close_linger_s", "first_answer_s", "failover_delay_s", "registration_s"):
        if not getattr(switches, name) >= 0:  # not a number is not either
            yield Mistake(f"undocumented.{name}", "must not be negative")
    if not 576 <= switches.ingress_limit_bytes <= 65535:
        yield Mistake("undocumented.ingress_limit_bytes", "is not in 576 to 65535")
    if switches.port_kept_packets < 0:
        yield Mistake("undocumented.port_kept_packets", "must not be negative")
    if not 0 <= switches.initial_successes <= 10:
        yield Mistake("undocumented.initial_successes", "is not in 0 to 10")
    agent = switches.probe_user_agent
    if not agent.isprintable():
        yield Mistake("undocumented.probe_user_agent", "is no header value", "one line of text")
    if not 0 <= settings.attachment_id < 1 << 64:
        yield Mistake("attachment_id", "has 64 bits")


def _within(key: str, value: float, low: int, high: int) -> Iterator[Mistake]:
    if not low <= value <= high:
        yield Mistake(key, f"ValidationError: {value:g} is not in {low} to {high}")


def _resets(group: TargetGroupAttributes) -> str:
    """The attribute of the target group that asks for TCP resets, "" if none does."""
    if group.reset_on_unhealthy:
        return "send_tcp_reset.on_unhealthy.enabled"
    return "send_tcp_reset.on_deregistration.enabled" if group.reset_on_deregistration else ""
