"""Rule files: physical lines become rules, and what cannot be used is collected, all of it."""

from __future__ import annotations

import glob
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from appliance_sdk import ConfigError
from reference_appliances.ids.classification import Classes
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.parser import LONGEST_RULE, parse_rule
from reference_appliances.ids.problems import RuleError, refuse
from reference_appliances.ids.rule import Rule, Ruleset

MOST_BYTES = 256 * 1024 * 1024
"""Of one file, unpacked: ten times the largest public rule set."""


class Text(NamedTuple):
    """A rule as it stands in a file, in one piece."""

    path: str
    line: int
    text: str


class Reading(NamedTuple):
    """What came of reading: the rules that can be used, and what is wrong with the others."""

    ruleset: Ruleset
    problems: list[RuleError]


def load_rules(
    paths: Iterable[str], groups: Groups, classes: Classes, *, skip_unsupported: bool
) -> Ruleset:
    """Read all rules. Raises ConfigError that lists what cannot be used, unless it is skipped."""
    ruleset, problems = read_rules(paths, groups, classes)
    if problems and not skip_unsupported:
        raise refuse(problems)
    return msgspec.structs.replace(ruleset, problems=tuple(str(p) for p in problems))


def read_rules(paths: Iterable[str], groups: Groups, classes: Classes) -> Reading:
    """Read all rules that can be used. Raises ConfigError if a file cannot be read."""
    found: dict[tuple[int, int], Rule] = {}
    problems: list[RuleError] = []
    for text in rule_texts(paths):
        try:
            rule = parse_rule(text.text, groups, classes, path=text.path, line=text.line)
            first = found.get((rule.gid, rule.sid))
            if first is not None and first.rev == rule.rev:
                error = RuleError(f"is defined in {first.path}:{first.line} already", keyword="sid")
                raise error.at(text.path, text.line, rule.sid)
        except RuleError as error:
            problems.append(error)
            continue
        if first is None or first.rev < rule.rev:
            found[rule.gid, rule.sid] = rule
    ruleset = Ruleset(tuple(found.values()), dict(groups.addresses), dict(groups.ports))
    return Reading(ruleset, problems)


def rule_texts(paths: Iterable[str]) -> Iterator[Text]:
    """Every rule of files and patterns such as `rules/*.rules`. Raises ConfigError."""
    for path in expanded(paths):
        yield from rules_in(_read(path).split("\n"), path)


def expanded(paths: Iterable[str]) -> list[str]:
    """The files that are meant. Raises ConfigError for a pattern that none has."""
    out: list[str] = []
    for path in paths:
        names = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
        if not names:
            raise ConfigError("no such rule file", path=path)
        out.extend(name for name in names if name not in out)
    return out


def rules_in(lines: Sequence[str], path: str) -> Iterator[Text]:
    """Join what a backslash at the end continues; leave out comments and empty lines."""
    pending: list[str] = []
    length = first = 0
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not pending and (not stripped or stripped.startswith("#")):
            continue
        first = first if pending else number
        goes_on = stripped.endswith("\\")
        pending.append(stripped[:-1] if goes_on else stripped)
        length += len(stripped)
        if goes_on and length <= LONGEST_RULE:
            continue
        yield Text(path, first, " ".join(pending).strip())
        pending, length = [], 0
    if pending:
        yield Text(path, first, " ".join(pending).strip())


def _read(path: str) -> str:
    """A file's text, unpacked if it ends with .gz; bytes that are no UTF-8 stay as they are."""
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such rule file", path=path) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", path=path) from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"has more than {MOST_BYTES} bytes", path=path)
    return data.decode("utf-8", "surrogateescape")
