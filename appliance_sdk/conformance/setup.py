"""`conformance.toml` beside a plugin: how the suite starts it, what it can do, what is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk.conformance.case import Profile
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.policy_files import FOLDER
from appliance_sdk.harness import InProcess
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import decode_config, read_toml
from appliance_sdk.plugin.manager import ZoneSettings

NAME = "conformance.toml"


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. In its texts `{here}` is the folder where it lies, `{policy}` that of the suite's
    policy."""

    appliance: str
    """The plugin's name: the file is about no other one beside it."""
    profiles: tuple[Profile, ...] = (Profile.TRANSPORT,)
    """What is asked if nobody says which, and what `all` means."""
    settings: dict[str, Any] = {}
    """As in `[plugins.NAME]` of a configuration."""
    zones: dict[str, ZoneSettings] = {}
    """As in a configuration."""
    features: Features = Features()
    path: str = ""

    def instance(self, plugin: type[Plugin], **settings: Any) -> InProcess:
        """The appliance; `settings` override those of the file. Raises ConfigError."""
        return InProcess(plugin, zones=self.zones, **{**self.settings, **settings})


def read_setup(path: Path) -> Setup:
    """Read a file. Raises ConfigError."""
    places = {"{here}": str(path.absolute().parent), "{policy}": str(FOLDER)}
    data = _filled(read_toml(path), places)
    return msgspec.structs.replace(decode_config(data, Setup, path=path), path=str(path))


def find_setup(plugin: type[Plugin]) -> Setup | None:
    """What is said of a plugin in the folder of its module, None if nothing. Raises ConfigError."""
    module = sys.modules.get(getattr(plugin, "__module__", ""))
    path = Path(getattr(module, "__file__", None) or "").parent / NAME
    if module is None or not path.is_file():
        return None
    setup = read_setup(path)
    return setup if setup.appliance == plugin.name else None


def _filled(data: Any, places: dict[str, str]) -> Any:
    if isinstance(data, dict):
        return {key: _filled(value, places) for key, value in data.items()}
    if isinstance(data, list):
        return [_filled(value, places) for value in data]
    if isinstance(data, str):
        for place, text in places.items():
            data = data.replace(place, text)
    return data
