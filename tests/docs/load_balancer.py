"""The page of attributes, switches, reasons and metrics, from the structs that hold them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from appliance_sdk.harness import (
    REASONS,
    GatewaySettings,
    HealthCheck,
    ListenerAttributes,
    LoadBalancerAttributes,
    TargetGroupAttributes,
    Undocumented,
)
from appliance_sdk.harness.states import REASON_CODES

TEMPLATE = Path(__file__).with_name("load-balancer.template.md")
TABLES: dict[str, type[msgspec.Struct]] = {
    "target_group": TargetGroupAttributes,
    "listener": ListenerAttributes,
    "load_balancer": LoadBalancerAttributes,
}


def load_balancer_page() -> str:
    """The whole page."""
    attributes = ["| table | key | default | values |", "|---|---|---|---|"]
    for table, struct in TABLES.items():
        attributes += [
            f"| `{table}` | `{field.encode_name}` | {shown(field)} | {values(field)} |"
            for field in msgspec.structs.fields(struct)
        ]
    parts = {
        "attributes": "\n".join(attributes),
        "health_check": fields(HealthCheck),
        "switches": fields(Undocumented),
        "settings": fields(GatewaySettings, without=(*TABLES, "health_check", "undocumented")),
        "states": "".join(
            f"| `{state}` | {f'`{reason}`' if reason else ''} | {words} |\n"
            for state, reasons in REASON_CODES.items()
            for reason, words in reasons.items()
        ),
        "reasons": "| reason | what it means, and what to do | what it follows |\n|---|---|---|\n"
        + "\n".join(f"| `{name}` | {r.meaning} | {r.source} |" for name, r in REASONS.items()),
    }
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text)
    return page


def fields(struct: type[msgspec.Struct], without: tuple[str, ...] = ()) -> str:
    """A table of a struct's fields with the docstrings below them."""
    texts = dict(docstrings(struct))
    rows = ["| key | default | values | |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        if field.name not in without:
            text = texts.get(field.name, "")
            rows.append(f"| `{field.encode_name}` | {shown(field)} | {values(field)} | {text} |")
    return "\n".join(rows)


def shown(field: msgspec.structs.FieldInfo) -> str:
    """A default as TOML has it."""
    value = field.default
    if isinstance(value, tuple):
        value = list(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


def values(field: msgspec.structs.FieldInfo) -> str:
    """What it can be."""
    kind: Any = field.type
    if kind is bool:
        return "true, false"
    if get_args(kind) and isinstance(get_args(kind)[0], str):
        return ", ".join(f"`{value}`" for value in get_args(kind))
    return RANGES.get(field.encode_name, "")


RANGES = {
    "deregistration_delay.timeout_seconds": "0 to 3600",
    "tcp.idle_timeout.seconds": "60 to 6000",
    "port": "1 to 65535",
    "path": "at most 1024 characters",
    "interval_s": "5 to 300, not less than `timeout_s`",
    "timeout_s": "2 to 120",
    "healthy_threshold": "2 to 10",
    "unhealthy_threshold": "2 to 10",
    "matcher": "within 200 to 399",
    "probes": "1 to 16",
}
"""Held to what is refused by a test of the settings."""


def docstrings(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Fields with the string that stands below them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
            assert isinstance(node.target, ast.Name)
            assert isinstance(after.value, ast.Constant)
            yield node.target.id, " ".join(str(after.value.value).split())
