"""Settings of a Suricata test, as JSON, turned into ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk import ConfigError, decode_config

_NO = ("no", "false", "0", "off", "ignore", "none")


class Profile(msgspec.Struct, frozen=True):
    """What of a test's settings matters here; the other keys are about what we do not do."""

    mode: str = "ids"
    midstream: bool = False
    vars: dict[str, Any] = {}
    action_order: tuple[str, ...] = ("pass", "drop", "reject", "alert")
    packet_alert_max: int = 15
    classification_file: str | None = None
    exception_policy: str | None = None
    stream: dict[str, Any] = {}


def read_profile(path: Path) -> dict[str, Any]:
    """The `[plugins.ids]` table that a profile stands for. Raises ConfigError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", path=str(path)) from None
    return settings_of(decode_config(data, Profile, path=path))


def settings_of(profile: Profile) -> dict[str, Any]:
    """The same from a profile in memory."""
    settings: dict[str, Any] = {
        "mode": profile.mode,
        "midstream_flows": _midstream(profile),
        "vars": _variables(profile.vars),
        "action_order": list(profile.action_order),
        "alerts_per_packet": profile.packet_alert_max,
    }
    if profile.classification_file and Path(profile.classification_file).exists():
        settings["classification"] = profile.classification_file
    return settings


def _midstream(profile: Profile) -> str:
    """Suricata's `stream.midstream` and exception policies: in IPS mode "auto" drops the flow."""
    if profile.midstream:
        return "inspect"
    policy = str(profile.stream.get("midstream-policy") or profile.exception_policy or "auto")
    if profile.mode != "ips" or policy.lower() in _NO:
        return "packets"
    return "reject" if policy.lower().startswith("reject") else "block"


def _variables(given: Mapping[str, Any]) -> dict[str, str]:
    """`address-groups.X` and `port-groups.X` as `X`."""
    return {name.rpartition(".")[2]: str(value) for name, value in given.items()}
