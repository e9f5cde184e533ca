"""The errors that this project raises on purpose; ApplianceError catches them all."""

from __future__ import annotations


class ApplianceError(Exception):
    """Base of every error raised on purpose by appliance-sdk."""


class MalformedPacket(ApplianceError):
    """Bytes from the wire that break a rule. `reason` is a short code, listed in `wire.reasons`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PluginError(ApplianceError):
    """A plugin that cannot be used as written. `plugin` is its name, the message what to change."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"{plugin}: {message}" if plugin else message)
        self.plugin = plugin
        self.message = message

    def __reduce__(self) -> tuple[type[PluginError], tuple[str, str]]:
        return type(self), (self.plugin, self.message)


class ConfigError(ApplianceError):
    """A configuration that cannot be used: one line with file, key path and what to do.

    `path` is the file, `key` the dotted key path in it, `hint` what the user can do; any may be "".
    """

    def __init__(self, message: str, *, path: str = "", key: str = "", hint: str = "") -> None:
        where = ": ".join(part for part in (path, key) if part)
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text} ({hint})" if hint else text)
        self.message = message
        self.path = path
        self.key = key
        self.hint = hint


class HarnessError(ApplianceError):
    """The local GWLB cannot do what it was asked: a wrong name, a state that does not allow it."""
