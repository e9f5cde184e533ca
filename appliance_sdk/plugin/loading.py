"""What crosses from the process that ran `load` to the workers: plain data, as msgpack."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec

from appliance_sdk.errors import ApplianceError, PluginError
from appliance_sdk.plugin.manager import Enabled


def run_load(enabled: Enabled, config: Any) -> bytes | None:
    """Call a plugin's `load`; the packed result, None if the plugin has no such hook.

    Raises what `load` raises if it is one of ours (ConfigError says it best), else PluginError.
    """
    load = getattr(enabled.plugin, "load", None)
    inherited = getattr(load, "__qualname__", "") == "Plugin.load"
    if load is None or inherited:
        return None
    try:
        data = load(config)
    except ApplianceError:
        raise
    except Exception as error:  # a vendor's code may raise anything
        message = f"load() failed: {type(error).__name__}: {error}"
        raise PluginError(enabled.name, message) from error
    return pack(enabled.name, data)


def pack(name: str, data: Any) -> bytes:
    """Plain data, also sets and structs, as bytes. Raises PluginError if it is something else."""
    try:
        plain = msgspec.to_builtins(data, builtin_types=(bytes, bytearray, memoryview))
        return msgpack.packb(plain)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"load() must return plain data that a process can hand on: {error}"
        raise PluginError(name, message) from error


def unpack(packed: bytes) -> Any:
    """The data again; tuples and sets have become lists."""
    return msgpack.unpackb(packed, strict_map_key=False)
