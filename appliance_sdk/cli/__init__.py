"""The command line: `appliance`, and `main()` of every Appliance."""

from appliance_sdk.cli.main import command_line, main

__all__ = ["command_line", "main"]
