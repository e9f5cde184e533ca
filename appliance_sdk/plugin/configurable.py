"""What plugins and sinks have in common: a name, and a typed configuration."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any, ClassVar

import msgspec

from appliance_sdk.errors import PluginError
from appliance_sdk.plugin.config import PluginConfig


class Configurable:
    """Named after its class; `config: MyConfig` in a subclass declares what it can be told."""

    name: ClassVar[str] = "plugin"
    """The name in configuration, logs and events; by default the class name in kebab case."""
    config_type: ClassVar[type[PluginConfig]] = PluginConfig

    config: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = kebab(cls.__name__)
        declared = inspect.get_annotations(cls).get("config")
        if isinstance(declared, str):
            frame = sys._getframe(1)
            while frame.f_code.co_name == "__init_subclass__" and frame.f_back is not None:
                frame = frame.f_back
            cls.config_type = _resolve(cls, declared, frame.f_globals, frame.f_locals)
        elif declared is not None:
            cls.config_type = declared
        if cls.config_type is not PluginConfig:
            _check_config_type(cls)

    def __init__(self, config: PluginConfig | None = None) -> None:
        self.config = config if config is not None else msgspec.convert({}, self.config_type)


def kebab(name: str) -> str:
    """`LoginGuard` as "login-guard"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _resolve(cls: type, text: str, globals_: Any, locals_: Any) -> Any:
    try:
        return eval(text, dict(globals_), dict(locals_))  # the class's own annotation
    except NameError as error:
        raise PluginError(cls.__name__, f"`config: {text}` cannot be resolved: {error}") from None


def _check_config_type(cls: type[Configurable]) -> None:
    declared: Any = cls.config_type
    if declared is Any:
        cls.config_type = PluginConfig
    elif not (isinstance(declared, type) and issubclass(declared, PluginConfig)):
        raise PluginError(cls.__name__, "`config` must be declared as a PluginConfig subclass")
