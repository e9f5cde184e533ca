"""Writes docs/hooks.md from the hook specifications: `python tests/docs/hook_reference.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from appliance_sdk.plugin import hookspecs
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.hookspecs import HANDLER_HOOKS, PLUGIN_HOOKS

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"

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


def render() -> str:
    """The whole page."""
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
    PAGE.write_text(render(), encoding="utf-8")
