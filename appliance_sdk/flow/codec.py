"""Handler state as bytes: what survives a restart, and what is refused on the way back."""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack
import msgspec

from appliance_sdk.errors import PluginError

_VERSION = 1
DEFAULT_LIMIT_BYTES = 64 * 1024
"""More than this is no flow state but a cache, which does not belong into a handler's fields."""

S = TypeVar("S", bound=msgspec.Struct)


def encode_state(handler: msgspec.Struct, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> bytes:
    """The public fields as msgpack. Raises PluginError if they are too large or not plain data."""
    kind = type(handler)
    fields = {name: getattr(handler, name) for name in _public(kind)}
    try:
        data = msgpack.packb([_VERSION, msgspec.to_builtins(fields, builtin_types=(bytes,))])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PluginError(kind.__name__, f"a field cannot be saved: {error}") from error
    if len(data) > limit_bytes:
        message = f"its state has {len(data)} bytes, more than {limit_bytes}"
        raise PluginError(kind.__name__, message)
    return data


def decode_state(cls: type[S], data: bytes, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> S:
    """A handler with the saved fields.

    Fields that the class has no more are left out, new ones take their default. Raises PluginError
    for anything else that does not fit: another type, a new field without a default, other bytes.
    """
    if len(data) > limit_bytes:
        raise PluginError(
            cls.__name__, f"saved state has {len(data)} bytes, more than {limit_bytes}"
        )
    try:
        unpacked = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise PluginError(cls.__name__, f"saved state cannot be read: {error}") from error
    if not isinstance(unpacked, list) or len(unpacked) != 2 or unpacked[0] != _VERSION:
        raise PluginError(cls.__name__, "saved state is of another version")
    fields = unpacked[1]
    if not isinstance(fields, dict):
        raise PluginError(cls.__name__, "saved state holds no fields")
    public = set(_public(cls))
    known: dict[Any, Any] = {name: value for name, value in fields.items() if name in public}
    try:
        return msgspec.convert(known, cls, strict=True, builtin_types=(bytes,))
    except Exception as error:  # msgspec passes on what a vendor's __post_init__ raises
        raise PluginError(cls.__name__, f"saved state does not fit: {error}") from error


def _public(cls: type[msgspec.Struct]) -> list[str]:
    return [name for name in cls.__struct_fields__ if not name.startswith("_")]
