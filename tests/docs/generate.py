"""Writes what comes from the code, pages and vectors: `python tests/docs/generate.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance_sdk import (
    Alert,
    Anomaly,
    Appliance,
    ApplianceError,
    Chunk,
    CidrSet,
    ConfigError,
    Dropped,
    Event,
    Flow,
    FlowEnded,
    FlowHandler,
    FlowInfo,
    MalformedPacket,
    Packet,
    Plugin,
    PluginConfig,
    PluginError,
    Recorded,
    RecordedPacket,
    Shared,
    Sink,
    Stats,
    Tcp,
    Verdict,
    decode_config,
    hookimpl,
    near_miss,
    read_toml,
    show_end,
)
from appliance_sdk.conformance import policy_files
from appliance_sdk.conformance.report import report_schema
from appliance_sdk.conformance.vectors import vectors_schema, write_vectors
from appliance_sdk.engine import DROP_REASONS
from appliance_sdk.harness import shipped_topology
from appliance_sdk.harness.draw_svg import draw_svg
from appliance_sdk.plugin import hookspecs
from appliance_sdk.plugin.hookspecs import HANDLER_HOOKS, PLUGIN_HOOKS
from appliance_sdk.server.logs import LOG_EVENTS
from appliance_sdk.testing import (
    Bench,
    Capture,
    FlowFactory,
    InProcess,
    OuterDatagram,
    Running,
    Subprocess,
    TcpFlow,
    TcpPeers,
    UdpFlow,
    UdpPeers,
    ZoneSettings,
)

sys.path.insert(0, str(Path(__file__).parent))
load_balancer = importlib.import_module("load_balancer")
walk = importlib.import_module("walk")  # beside this file, wherever it is run from

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


API_HEAD = """\
# Reference

What `from appliance_sdk import …` and `from appliance_sdk.testing import …` offer, from its own
docstrings. The hooks are on [their page](hooks.md). What begins with `_` or is not here is not for
plugins, and may change.

For annotations there are also `Outcome` (a `Verdict` or None), `Opening` (an `Outcome` or a
`FlowHandler`), `Policy` ("continue", "drop", "block" or "reject") and `Action` (what a `Verdict`
says).
"""

HOOKIMPL = "Marks a hook in an object that is enabled and is not a `Plugin`."

SHOWN_BASES = ("Peers", "Configurable", "ApplianceProcess")
"""What has no entry of its own is told with the classes that inherit it."""
CALLED = (Bench, ConfigError, InProcess, PluginError, Subprocess)
"""Classes whose parameters are shown."""

API = {
    "Plugins": (Plugin, PluginConfig, FlowHandler, Shared, Appliance, Sink),
    "What they are given": (Flow, Stats, Packet, Tcp, Chunk),
    "What they answer": (Verdict,),
    "What they report": (
        Alert,
        Event,
        FlowInfo,
        Dropped,
        FlowEnded,
        Anomaly,
        Recorded,
        RecordedPacket,
    ),
    "Tests of a plugin": (Bench, TcpPeers, UdpPeers, ZoneSettings),
    "Tests behind a load balancer": (
        InProcess,
        Subprocess,
        Running,
        FlowFactory,
        TcpFlow,
        UdpFlow,
        Capture,
        OuterDatagram,
    ),
    "Helpers": (CidrSet, decode_config, read_toml, near_miss, show_end, hookimpl),
    "Errors": (ApplianceError, ConfigError, PluginError, MalformedPacket),
}


def pages() -> dict[str, str]:
    """Every generated page by its name."""
    return {
        "hooks.md": hooks(),
        "reference.md": reference(),
        "drop-reasons.md": DROPS_HEAD + rows(DROP_REASONS),
        "log-events.md": LOGS_HEAD + rows(LOG_EVENTS),
        "load-balancer.md": load_balancer.load_balancer_page(),
        "packet-walk.md": walk.walk_page(),
        "inline-ids.svg": draw_svg(shipped_topology("inline-ids")),
        "transit.svg": draw_svg(shipped_topology("transit")),
        "conformance-report.schema.json": report_schema().decode(),
        "conformance-vectors.schema.json": vectors_schema().decode(),
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


def reference() -> str:
    """The public names, each with its docstring and members."""
    parts = [API_HEAD]
    for title, things in API.items():
        parts.append(f"## {title}\n")
        for thing in things:
            name = getattr(thing, "__name__", "hookimpl")
            has_call = inspect.isfunction(thing) or thing in CALLED
            call = f"{name}{plain_signature(thing)}" if has_call else name
            text = HOOKIMPL if thing is hookimpl else inspect.getdoc(thing) or ""
            parts.append(f"### `{call}`\n\n{text}\n")
            members = dict(class_members(thing)) if isinstance(thing, type) else {}
            bare = [f"`{f}`" for f in fields(thing) if f not in members]
            if bare:
                parts.append(f"Fields: {', '.join(bare)}.\n")
            if members:
                parts.append("| name | what it is |\n|---|---|\n" + rows(members))
    return "\n".join(parts)


def class_members(cls: type) -> Iterator[tuple[str, str]]:
    """Public attributes, properties and methods of a class and its unnamed bases, documented."""
    bases = [b for b in cls.__mro__[1:] if b.__name__ in SHOWN_BASES]
    for owner in [*bases, cls]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(tree, ast.ClassDef)
        yield from attributes(tree.body, defaults=cls in (PluginConfig, FlowHandler))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            text = " ".join((ast.get_docstring(node) or "").split())
            if node.name == "__init__":
                yield from attributes(node.body)
            elif node.name == "__contains__" and text:
                yield f"{node.args.args[1].arg} in …", text
            elif node.name.startswith("_") or text.startswith(("For the engine", "Hook:")):
                continue
            elif any(ast.unparse(d) == "property" for d in node.decorator_list):
                yield node.name, text
            elif node.name == "wake" or (text and cls is not FlowHandler):
                yield f"{node.name}({arguments(node)})", text


def fields(thing: object) -> list[str]:
    """Names of public fields that need no words of their own."""
    if thing in (Chunk, Packet):
        return [n for n in getattr(thing, "__slots__", ()) if not n.startswith("_")]
    own = getattr(thing, "_fields", ()) or getattr(thing, "__struct_fields__", ())
    return [] if thing in (PluginConfig, FlowHandler) else list(own)


def attributes(body: list[ast.stmt], *, defaults: bool = False) -> Iterator[tuple[str, str]]:
    """Assignments with a docstring below, and fields of structs without one."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign | ast.Assign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "_")
        if name.startswith("_") or not isinstance(after, ast.Expr):
            continue
        if not isinstance(after.value, ast.Constant):
            continue
        text = " ".join(str(after.value.value).split())
        if defaults and isinstance(node.value, ast.Constant):
            name += f" = {ast.unparse(node.value)}"
        if not text.startswith("For the engine"):
            yield name, text


def arguments(node: ast.FunctionDef) -> str:
    """The parameters of a method without `self` and annotations."""
    spec = node.args
    for argument in [*spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]:
        argument.annotation = None
    text = ast.unparse(spec)
    return re.sub(r"^(self|cls)(, )?", "", text)


def plain_signature(function: object) -> str:
    """The parameters of a function without annotations."""
    assert callable(function)
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
    policy = policy_files.read_policy()
    (policy_files.FOLDER / policy_files.TEXT).write_text(policy_files.policy_text(policy))
    (policy_files.FOLDER / policy_files.RULES).write_text(policy_files.rules_text(policy))
    write_vectors(DOCS.parent / "appliance_sdk" / "conformance" / "vectors")
