"""The base class of appliances: a plugin that is also a program."""

from __future__ import annotations

from typing import ClassVar

from appliance_sdk.plugin.base import Plugin


class Appliance(Plugin):
    """Subclass it, define hooks, and call `main()`: the class is a whole command line.

    It comes before the plugins that the configuration enables, unless `enable` lists its name.
    """

    name: ClassVar[str] = "appliance"

    @classmethod
    def main(cls) -> None:
        """Run the command that `sys.argv` names: run, replay, check, plugins. Never returns."""
        from appliance_sdk.cli.main import command_line

        command_line(cls)
