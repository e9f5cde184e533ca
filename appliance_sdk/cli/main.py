"""The group of commands: each is imported when it is called, and errors are one line."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from appliance_sdk.errors import ApplianceError, ConfigError, PluginError
from appliance_sdk.version import __version__

if TYPE_CHECKING:
    from appliance_sdk.plugin.base import Plugin

_COMMANDS = {
    "run": ("appliance_sdk.cli.run:run", "Run an appliance until a signal ends it."),
    "check": ("appliance_sdk.cli.check:check", "Check a configuration and say what it would run."),
    "replay": ("appliance_sdk.cli.replay:replay", "Show what an appliance does with a capture."),
    "demo": ("appliance_sdk.cli.demo:demo", "See a fleet behind a local GWLB, in half a minute."),
    "gwlb": ("appliance_sdk.cli.gwlb:gwlb", "Run the local Gateway Load Balancer, or draw it."),
    "conformance": (
        "appliance_sdk.cli.conformance:conformance",
        "Prove an appliance right, in any language.",
    ),
    "bench": ("appliance_sdk.cli.bench:bench", "Measure how fast it is here."),
    "plugins": ("appliance_sdk.cli.plugins:plugins", "See which plugins are installed."),
}
_SHIPPED = {
    "firewall": (
        "reference_appliances.firewall.cli:firewall",
        "The reference firewall: try policies on flows and captures.",
    ),
    "ids": (
        "reference_appliances.ids.cli:ids",
        "The reference IDS/IPS: check Suricata rules, try them on captures.",
    ),
    "analytics": (
        "reference_appliances.analytics.cli:analytics",
        "The reference analytics: a record for each flow, and who has most.",
    ),
}

EXIT_USAGE = 2


EXIT_READER_GONE = 141
"""As of a program that SIGPIPE ended. Not 0: "all allowed" was perhaps never said."""


class _CannotPrint(ApplianceError):
    """Standard output takes no more; click itself would call a reader that is gone "no" (1)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.reader_gone = error.errno == errno.EPIPE


class LazyGroup(click.Group):
    """Lists commands by their one line and imports only the one that is called."""

    lazy: dict[str, tuple[str, str]]

    def invoke(self, ctx: click.Context) -> Any:
        """click's hook."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ENOSPC) and error.filename is None:
                raise _CannotPrint(error) from error
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """click's hook."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """click's hook."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """click's hook."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


def make_group(appliance: type[Plugin] | None) -> click.Group:
    """The commands, for an appliance class or for what a configuration enables."""
    name = appliance.name if appliance else "appliance"
    doc = inspect.getdoc(appliance) if appliance else None
    text = doc or "Security appliances behind an AWS Gateway Load Balancer."

    @click.group(
        cls=LazyGroup,
        help=text + "\n\nStart with `check CONFIG`, then `run CONFIG`.",
        context_settings={"help_option_names": ["-h", "--help"], "obj": appliance},
    )
    @click.version_option(__version__, prog_name=name)
    def group() -> None: ...

    assert isinstance(group, LazyGroup)
    group.lazy = dict(_COMMANDS) if appliance else {**_COMMANDS, **_SHIPPED}
    return group


def command_line(appliance: type[Plugin] | None = None, arguments: list[str] | None = None) -> Any:
    """Run what the arguments say and exit: 0 done, 1 the answer is no, 2 it cannot be done."""
    try:
        _command_line(appliance, arguments)
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # lines that nobody could be told; the interpreter would exit with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _command_line(appliance: type[Plugin] | None, arguments: list[str] | None) -> None:
    group = make_group(appliance)
    name = appliance.name if appliance else "appliance"
    try:
        group.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except _CannotPrint as error:
        # What could not be printed would be tried again at the very end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.reader_gone:
            sys.exit(EXIT_READER_GONE)
        click.echo(f"{name}: the output cannot be written: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except (ConfigError, PluginError, ApplianceError) as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(EXIT_USAGE)
    sys.exit(0)


def main() -> None:
    """The `appliance` program."""
    command_line()
