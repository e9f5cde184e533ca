"""Plugins from Python instead of a file: keyword arguments find the plugin that has the setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import PluginConfig, near_miss
from appliance_sdk.plugin.manager import Enabled


def enable(plugins: Iterable[type[Plugin]], config: Mapping[str, Any]) -> list[Enabled]:
    """The plugins in their order, each with those settings that it has. Raises ConfigError."""
    enabled: list[Enabled] = []
    used: set[str] = set()
    for plugin in plugins:
        known = _fields(plugin)
        mine = {k: msgspec.to_builtins(v) for k, v in config.items() if k in known}
        used.update(mine)
        enabled.append(Enabled(getattr(plugin, "name", "plugin"), plugin, mine))
    for name in config:
        if name not in used:
            fields = [f for e in enabled for f in _fields(e.plugin)]
            raise ConfigError(
                f"no plugin here has the setting `{name}`", hint=near_miss(name, fields)
            )
    return enabled


def _fields(plugin: Any) -> list[str]:
    kind = getattr(plugin, "config_type", PluginConfig)
    return [f.encode_name for f in msgspec.structs.fields(kind)]
