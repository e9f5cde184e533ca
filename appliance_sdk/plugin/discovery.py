"""Finding plugins by name: what is installed, without importing it, and then just the one."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any, NamedTuple

from appliance_sdk.errors import ApplianceError, ConfigError, PluginError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import near_miss
from appliance_sdk.plugin.sink import Sink

ENTRY_POINT_GROUP = "appliance_sdk.plugins.v1"
"""The group is the version of the plugin interface."""


class Available(NamedTuple):
    """An installed plugin, known from its entry point alone: nothing of it was imported."""

    name: str
    target: str
    distribution: str
    version: str


def available_plugins() -> list[Available]:
    """Every installed plugin, sorted by name; importing none.

    Raises ConfigError if the list of a package is damaged.
    """
    try:
        found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    except Exception as error:  # one damaged package is enough, whatever it contains
        message = f"what is installed cannot be listed: {type(error).__name__}: {error}"
        hint = f"reinstall or remove {_damaged()}"
        raise ConfigError(message, hint=hint) from error
    return sorted(
        Available(e.name, e.value, e.dist.name if e.dist else "", e.dist.version if e.dist else "")
        for e in found
    )


def _damaged() -> str:
    """The packages whose entry points cannot be read."""
    names = []
    for distribution in importlib.metadata.distributions():
        try:
            list(distribution.entry_points)
        except Exception:  # as above
            names.append(distribution.name or "a package without a name")
    return ", ".join(names) or "the package last installed"


def find_plugin(name: str) -> Any:
    """Import one plugin by entry-point name, "module:Class" or "path/file.py:Class".

    Returns the Plugin or Sink subclass, or an object with `@hookimpl` functions. Raises
    ConfigError if it is not installed or installed twice, PluginError if it cannot be imported.
    """
    target = name
    if ":" not in name:
        found = [a for a in available_plugins() if a.name == name]
        if not found:
            known = [a.name for a in available_plugins()]
            hint = near_miss(name, known) or "is the package that has it installed here?"
            if name.endswith(".py"):
                hint = f"of a file say the class, too: {name}:MyPlugin"
            raise ConfigError(f"no plugin `{name}` is installed", hint=hint)
        if len({a.target for a in found}) > 1:
            both = " and ".join(sorted(a.distribution for a in found))
            raise ConfigError(f"`{name}` comes from {both}", hint="uninstall one")
        target = found[0].target
    module_name, _, attribute = target.partition(":")
    try:
        module = _import(module_name)
    except ApplianceError:
        raise
    except Exception as error:  # whatever a vendor's module does at import
        what = f"cannot be imported: {type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and Path(f"{module_name}.py").is_file():
            what += f" (a file is enabled as {module_name}.py:{attribute})"
        raise PluginError(name, what) from error
    plugin: Any = module
    for part in attribute.split("."):
        if not hasattr(plugin, part):
            hint = near_miss(part, [n for n, v in vars(plugin).items() if isinstance(v, type)])
            raise ConfigError(f"no `{part}` in {module_name}", hint=hint)
        plugin = getattr(plugin, part)
    if isinstance(plugin, type) and not issubclass(plugin, Plugin | Sink):
        raise PluginError(name, "is no subclass of appliance_sdk.Plugin or Sink")
    return plugin


def _import(module_name: str) -> Any:
    if not module_name.endswith(".py"):
        return importlib.import_module(module_name)
    path = Path(module_name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError("no such file", path=module_name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
