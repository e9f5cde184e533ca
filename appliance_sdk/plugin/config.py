"""Typed configuration: TOML text in, msgspec structs out, one clear line when it does not fit."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.verdict import Policy

T = TypeVar("T")


class PluginConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every plugin can be told; subclass it (with `frozen=True`) to add settings.

    Declare it in the plugin as `config: MyConfig`; `[plugins.NAME]` is decoded into it.
    """

    on_error: Policy = "block"
    """When the plugin raises or returns nonsense. Closed by default: this is a security product."""
    midstream: Policy = "continue"
    """For flows whose beginning was not seen here: after a failover or restart."""
    gap: Policy = "continue"
    """When stream bytes were lost to inspection although their receiver has them."""
    reload_s: float = 0
    """Call `load()` again this often, in seconds; 0 = only at start and on SIGHUP."""


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file. Raises ConfigError naming file and line."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", path=str(path)) from None
    except IsADirectoryError:
        raise ConfigError("is a directory, not a file", path=str(path)) from None
    except PermissionError:
        raise ConfigError("may not be read", path=str(path), hint="check its mode") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
    except RecursionError:
        raise ConfigError("is not TOML: nested too deeply", path=str(path)) from None
    except ValueError as error:  # tomllib's, but also those of decoding and of endless numbers
        raise ConfigError(f"is not TOML: {error}", path=str(path)) from None


def decode_config(data: Any, type_: type[T], *, path: str | Path = "", key: str = "") -> T:
    """Check plain data (from TOML) against a type and build it.

    `path` and `key` are the file and the dotted key path where `data` stands; both go into the
    ConfigError that is raised when a key is unknown, missing or of the wrong type.
    """
    try:
        return msgspec.convert(data, type_, strict=True)
    except msgspec.ValidationError as error:
        message, place = _split(str(error))
        where = _named(data, type_, place)
        hint = ""
        full = ".".join(part for part in (key, where) if part)
        unknown = re.search(r"unknown field `([^`]+)`", message)
        missing = re.search(r"missing required field `([^`]+)`", message)
        if unknown:
            name = unknown[1]
            hint = near_miss(name, _fields(type_, place))
            raise ConfigError(
                f"unknown key `{name}`", path=str(path), key=f"{full}.{name}".strip("."), hint=hint
            ) from None
        if missing:
            key_path = f"{full}.{missing[1]}".strip(".")
            raise ConfigError("is missing", path=str(path), key=key_path) from None
        choice = re.fullmatch(r"invalid enum value '(.*)'", message)
        if choice:
            hint = near_miss(choice[1], list(get_args(_unwrap(_type_at(type_, place)))))
        elif message == "expected `array`, got `str`":
            hint = "put it into brackets"
        raise ConfigError(message, path=str(path), key=full, hint=hint) from None
    except Exception as error:  # msgspec passes on what a vendor's __post_init__ raises
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(what, path=str(path), key=key) from error


def near_miss(name: str, known: list[str]) -> str:
    """A hint: the known name that `name` probably meant, else the list of known names."""
    close = [word for word in known if name and word.startswith(name)]
    close = close if len(close) == 1 else difflib.get_close_matches(name, known, 1, 0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(sorted(known))}" if known else ""


def _split(text: str) -> tuple[str, str]:
    message, _, where = text.partition(" - at `")
    message = message[:1].lower() + message[1:].replace("Object", "It")
    return message.replace("object contains", "has"), where.rstrip("`").removeprefix("$").strip(".")


def _named(data: Any, type_: Any, where: str) -> str:
    """The path with the keys of dicts, for which msgspec says `[...]`: the first that is wrong."""
    before, mark, _ = where.partition("[...]")
    if not mark:
        return where
    for part in re.findall(r"\[\d+\]|[^.\[\]]+", before):
        data = data[int(part[1:-1])] if part.startswith("[") else data.get(part)
    kind = _type_at(type_, where[: len(before) + len(mark)])
    for name, value in data.items() if isinstance(data, Mapping) else ():
        try:
            msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            inner = _named(value, kind, _split(str(error))[1])
            return ".".join(part for part in (before, name, inner) if part)
        except Exception:  # what a vendor's __post_init__ raises has been met before
            break
    return where


def _fields(type_: Any, where: str) -> list[str]:
    return [f.encode_name for f in _struct_fields(_unwrap(_type_at(type_, where)))]


def _type_at(type_: Any, where: str) -> Any:
    """The type that a msgspec path such as `zones[...].endpoints[0]` leads to."""
    for part in re.findall(r"\[[^\]]*\]|[^.\[\]]+", where):
        type_ = _unwrap(type_)
        if part.startswith("["):
            arguments = [a for a in get_args(type_) if a is not Ellipsis]
            type_ = arguments[-1] if arguments else Any
        else:
            type_ = next((f.type for f in _struct_fields(type_) if f.encode_name == part), Any)
    return type_


def _unwrap(type_: Any) -> Any:
    if get_origin(type_) in (Union, types.UnionType):
        return next((a for a in get_args(type_) if a is not type(None)), Any)
    return type_


def _struct_fields(type_: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    is_struct = isinstance(type_, type) and issubclass(type_, msgspec.Struct)
    return msgspec.structs.fields(type_) if is_struct else ()


def merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `override` in place of its own, tables merged key by key."""
    out = dict(base)
    for name, value in override.items():
        old = out.get(name)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        out[name] = merged(old, value) if both and old is not None else value
    return out
