"""Writes the pages that come from the code: `python tests/docs/generate.py`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path

from appliance_sdk.engine import DROP_REASONS
from appliance_sdk.plugin import hookspecs
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.hookspecs import HANDLER_HOOKS, PLUGIN_HOOKS
from appliance_sdk.server.logs import LOG_EVENTS

DOCS = Path(__file__).parents[2] / "docs"

HEAD = """\
# Hooks

In call order. A method of a `Plugin` subclass with one of these names is the hook; a name that is
almost one is refused at start-up. Implementations may take fewer arguments than are offered.
`appliance_sdk/plugin/hookspecs.py` is where they are declared, and where this page comes from.

## Of a plugin
"""

HANDLER_HEAD = """\
## Of a handler

`flow_opened` may return a `FlowHandler`; these are its methods. What a subclass does not define is
never computed.
"""


DROPS_HEAD = """\
# Why a packet is dropped

Every packet that is not forwarded is counted under one of these reasons; received = forwarded +
dropped always holds. Malformed datagrams are never answered.

| reason | meaning |
|---|---|
"""

LOGS_HEAD = """\
# Log events

What an appliance logs about itself, on standard error, with the fields that say more.

| event | meaning |
|---|---|
"""


def pages() -> dict[str, str]:
    """Every generated page by its name."""
    return {
        "hooks.md": hooks(),
        "drop-reasons.md": DROPS_HEAD + rows(DROP_REASONS),
        "log-events.md": LOGS_HEAD + rows(LOG_EVENTS),
    }


def rows(meanings: Mapping[str, str]) -> str:
    """A table's rows."""
    return "".join(f"| `{name}` | {meaning} |\n" for name, meaning in meanings.items())


def hooks() -> str:
    """The hook reference."""
    parts = [HEAD]
    for name in PLUGIN_HOOKS:
        hook = getattr(hookspecs, name)
        parts.append(f"### `{signature(name, hook)}`\n\n{body(hook)}\n")
    parts.append(HANDLER_HEAD)
    for name in HANDLER_HOOKS:
        hook = getattr(FlowHandler, name)
        parts.append(f"### `{signature(name, hook)}`\n\n{body(hook)}\n")
    return "\n".join(parts)


def signature(name: str, hook: object) -> str:
    """The hook as it is called."""
    assert callable(hook)
    parameters = [p for p in inspect.signature(hook).parameters if p != "self"]
    return f"{name}({', '.join(parameters)})"


def body(hook: object) -> str:
    """The docstring, its example as code."""
    text = inspect.getdoc(hook) or ""
    return re.sub(r"Example: `(.*)`", r"```text\n\1\n```", text, flags=re.S)


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
