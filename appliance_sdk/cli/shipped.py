"""For the commands of appliances that are shipped along: a capture through one plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance_sdk.cli.replay import append_events
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.manager import Enabled
from appliance_sdk.server.config import ApplianceConfig, Log
from appliance_sdk.server.logs import configure_logs, log_event
from appliance_sdk.server.replaying import ReplayResult, replay_by_udp, replay_in_memory

__all__ = ["ReplayResult", "replay_with"]


def replay_with(
    plugin: type[Plugin],
    config: Mapping[str, Any],
    capture: Path,
    *,
    udp: bool,
    eve: Path | None = None,
) -> ReplayResult:
    """Send a capture through `plugin`, configured as by `[plugins.NAME]`.

    `udp`: as real GENEVE over loopback to a process of its own, else in memory at the capture's
    own time. `eve`: a file that the events are appended to. Raises ApplianceError.
    """
    configure_logs(Log(format="console", level="warning"))
    settings = ApplianceConfig()
    enabled = [Enabled(plugin.name, plugin, config)]
    if udp:
        result = replay_by_udp(capture, settings, enabled)
    else:
        result = replay_in_memory(capture, settings, enabled, log_event)
    if eve is not None:
        append_events(eve, result)
    return result
