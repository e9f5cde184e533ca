"""Faults as a line of text: "appliance-1:loss=10%,delay=20ms,after=1m"."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.faults import Fault
from appliance_sdk.plugin.config import decode_config, near_miss

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d+\.?\d*|\.\d+)(us|ms|s|m|h|)")
_RATE = re.compile(r"(\d+\.?\d*|\.\d+)(%?)")
_FIELDS = {
    field.name.removesuffix("_s"): field
    for field in msgspec.structs.fields(Fault)
    if field.name != "on"
}


def parse_fault(text: str) -> Fault:
    """A fault from "NAME:KEY=VALUE,…": the keys of `Fault` without the unit, rates as 0.1 or 10%,
    times as 20ms, 1.5s, 2m, and `kill`, `hang`, `deaf` alone. Raises ConfigError."""
    name, colon, rest = text.partition(":")
    if not colon or not name or not rest:
        hint = "such as appliance-1:loss=10%,delay=20ms"
        raise ConfigError("says no name and what goes wrong", key=text, hint=hint)
    values: dict[str, Any] = {"on": name}
    for part in rest.split(","):
        key, equals, value = part.strip().partition("=")
        field = _FIELDS.get(key)
        if field is None:
            raise ConfigError(f"no fault {key!r}", key=text, hint=near_miss(key, list(_FIELDS)))
        if field.type is bool:
            if equals:
                raise ConfigError(f"{key} stands alone", key=text)
            values[field.name] = True
        elif field.type is not float:
            values[field.name] = value
        elif field.name.endswith("_s"):
            values[field.name] = _time(key, value, text)
        else:
            values[field.name] = _rate(key, value, text)
    try:
        return decode_config(values, Fault)
    except ConfigError as error:
        raise ConfigError(f"{error.key}: {error.message}", key=text, hint=error.hint) from None


def format_fault(fault: Fault) -> str:
    """The line that `parse_fault` makes the same fault of."""
    parts = []
    for key, field in _FIELDS.items():
        value = getattr(fault, field.name)
        if value == field.default:
            continue
        if value is True:
            parts.append(key)
        elif field.name.endswith("_s"):
            parts.append(f"{key}={value:g}s" if value >= 1 else f"{key}={value * 1000:g}ms")
        else:
            parts.append(f"{key}={value:g}" if field.type is float else f"{key}={value}")
    return f"{fault.on}:{','.join(parts)}"


def _time(key: str, value: str, text: str) -> float:
    found = _TIME.fullmatch(value)
    if found is None:
        raise ConfigError(f"{key}={value} is no time", key=text, hint="such as 20ms or 1.5s")
    return float(found[1]) * _UNITS_S[found[2]]


def _rate(key: str, value: str, text: str) -> float:
    found = _RATE.fullmatch(value)
    if found is None:
        raise ConfigError(f"{key}={value} is no rate", key=text, hint="such as 0.1 or 10%")
    return float(found[1]) / (100 if found[2] else 1)
