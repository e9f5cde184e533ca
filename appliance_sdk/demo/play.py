"""Opens the stage, plays every scene, and sums up."""

from __future__ import annotations

from collections.abc import Callable

from appliance_sdk.demo.scenes import play
from appliance_sdk.demo.show import Check, PlainShow, Show
from appliance_sdk.demo.stage import Stage, open_stage


def play_demo(*, plain: bool, write: Callable[[str], None]) -> list[Check]:
    """Play it all. Raises ApplianceError if the stage cannot be set."""
    if plain:
        show = PlainShow(write)
        with open_stage(show) as stage:
            return _perform(stage, show)
    from rich.console import Console

    from appliance_sdk.demo.live import LiveShow

    live = LiveShow(Console(highlight=False))
    with open_stage(live) as stage:
        live.attach(stage)
        try:
            return _perform(stage, live, live.detach)
        finally:
            live.detach()


def _perform(
    stage: Stage, show: Show, before_summary: Callable[[], None] | None = None
) -> list[Check]:
    checks = play(stage)
    facts = _facts(stage)
    if before_summary is not None:
        before_summary()
    show.summary(checks, facts)
    if not all(check.happened for check in checks):
        for complaint in stage.complaints():
            show.say(complaint)
    return checks


def _facts(stage: Stage) -> list[tuple[str, str]]:
    load = stage.load
    facts = [
        (
            "requests",
            f"{load.asked} asked, {load.answered} answered, {load.failed.total()} lost (pinned to "
            f"fw-1, or sent to it before its health checks had failed), {load.waiting} open",
        ),
        ("clock", f"{stage.harness.factor:g} times the real one"),
    ]
    for name, gateway in stage.harness.gateways.items():
        new = ", ".join(f"{target} {count}" for target, count in sorted(gateway.new_flows.items()))
        drops = ", ".join(f"{reason} {count}" for reason, count in sorted(gateway.drops.items()))
        facts.append((f"{name}: new flows", new or "none"))
        facts.append((f"{name}: dropped", drops or "none"))
    return facts
