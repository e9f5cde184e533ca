"""Known failures: a TOML file that says, for each case, why it fails today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance_sdk.conformance.case import all_cases
from appliance_sdk.conformance.outcome import Outcome, Result
from appliance_sdk.errors import ConfigError, HarnessError
from appliance_sdk.plugin.config import near_miss, read_toml

_HEAD = """\
# Cases of the conformance suite that are known to fail, each with the reason.
# `appliance conformance run --expected FILE` does not count them; it says when one passes.

[expected]
"""


def read_expected(path: Path) -> dict[str, str]:
    """The reasons by case id. Raises ConfigError."""
    data = read_toml(path)
    table = data.pop("expected", {})
    if data or not isinstance(table, dict):
        key = next(iter(data), "expected")
        raise ConfigError("only a table [expected] belongs here", path=str(path), key=key)
    known = all_cases()
    for id, reason in table.items():
        if id not in known:
            hint = near_miss(id, list(known))
            raise ConfigError("no such case", path=str(path), key=f'expected."{id}"', hint=hint)
        if not isinstance(reason, str) or not reason.strip():
            hint = '"geneve/version" = "the kernel does not look at it"'
            raise ConfigError("a reason is missing", path=str(path), key=f'"{id}"', hint=hint)
    return table


def expect_failures(results: Iterable[Result], reasons: Mapping[str, str]) -> list[Result]:
    """The results as they are if all that fails now is known to: why, or what was seen."""
    updated = []
    for one in results:
        fails = one.outcome in (Outcome.FAIL, Outcome.NON_STRICT)
        reason = reasons.get(one.case.id) or one.detail if fails else ""
        updated.append(one._replace(expected=reason))
    return updated


def write_expected(path: Path, results: Iterable[Result]) -> None:
    """Write the failures that are expected. Raises HarnessError."""
    lines = [f'"{one.case.id}" = {_quoted(one.expected)}\n' for one in results if one.expected]
    try:
        path.write_text(_HEAD + "".join(lines), encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}") from None


def _quoted(text: str) -> str:
    safe = "".join(c if c.isprintable() else " " for c in text)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'
