"""AWS's attributes as its API changes them: by key, value as text or not, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.config import near_miss

T = TypeVar("T", bound=msgspec.Struct)

_OTHER_KINDS = {
    "access_logs": "Application and Network",
    "client_keep_alive": "Application",
    "connection_logs": "Application",
    "deregistration_delay.connection_termination": "Network",
    "dns_record": "Network",
    "idle_timeout": "Application",
    "lambda": "Application",
    "load_balancing.algorithm": "Application",
    "preserve_client_ip": "Network",
    "proxy_protocol_v2": "Network",
    "routing": "Application",
    "slow_start": "Application",
    "stickiness.app_cookie": "Application",
    "stickiness.lb_cookie": "Application",
    "target_group_health": "Application and Network",
    "target_health_state": "Network",
    "waf": "Application",
    "zonal_shift": "Application and Network",
}
"""How attributes begin that only other kinds of load balancers have (ELBv2 API reference)."""


def changed(part: T, attributes: Mapping[str, object], what: str) -> T:
    """A copy of `part` with attributes changed by AWS's keys: {"stickiness.enabled": "true"}.

    Values may be text, as in the API. Raises ConfigError that begins with the API's name for the
    mistake; `what` they are, such as "Listener attribute", is part of it.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(part)}
    values: dict[str, object] = {}
    for key, value in attributes.items():
        field = fields.get(key)
        if field is None:
            message = f"ValidationError: {what} key '{key}' is not recognized"
            raise ConfigError(message, hint=_hint(key, list(fields)))
        try:
            values[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            text = str(error)
            message = f"ValidationError: {value!r} is no value for it"
            raise ConfigError(message, key=key, hint=text[:1].lower() + text[1:]) from None
    return msgspec.structs.replace(part, **values)


def _hint(key: str, known: list[str]) -> str:
    kinds = next((kinds for start, kinds in _OTHER_KINDS.items() if key.startswith(start)), "")
    if kinds:
        return f"{kinds} Load Balancers have it, Gateway Load Balancers do not"
    return near_miss(key, known)
