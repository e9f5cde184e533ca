"""The TOML language of firewall policies: read, check, resolve; errors that say what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_args

import msgspec

from appliance_sdk import CidrSet, ConfigError, decode_config, near_miss, read_toml
from reference_appliances.firewall.ruleset import (
    PROTOCOL_NUMBERS,
    RESERVED_NAMES,
    WITH_PORTS,
    Default,
    Limit,
    OpenedBy,
    Rule,
    RuleAction,
    Ruleset,
    describe_ports,
    is_number,
    protocol_name,
)
from reference_appliances.firewall.shadow import warnings_about

Ranges: TypeAlias = tuple[tuple[int, int], ...]
_SET_NAME = re.compile(r"[A-Za-z_][\w-]*\Z")
_RULE_NAME = re.compile(r"[\w][\w .-]{0,63}\Z")
_PORT_RANGE = re.compile(r"(\d{1,5})\s*-\s*(\d{1,5})\Z")


class _RuleText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[rule]]` as it is written."""

    name: str
    action: str
    reason: str = ""
    zone: str | tuple[str, ...] = ()
    source: str | tuple[str, ...] = ()
    destination: str | tuple[str, ...] = ()
    protocol: int | str | tuple[int | str, ...] = ()
    port: int | str | tuple[int | str, ...] = ()
    opened_by: str = "any"
    log: bool = False


class _PolicyText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written."""

    rule: tuple[dict[str, Any], ...] = ()
    home: str | tuple[str, ...] = ()
    midstream: str = "reject"
    default: dict[str, Any] = {}
    limit: dict[str, Any] = {}
    sets: dict[str, str | tuple[str, ...]] = {}
    ports: dict[str, int | str | tuple[int | str, ...]] = {}


def read_policy(path: str | Path) -> Ruleset:
    """Read a policy file. Raises ConfigError with file, key path and, where one is near, a hint."""
    return parse_policy(read_toml(path), path=path)


def parse_policy(data: Mapping[str, Any], *, path: str | Path = "") -> Ruleset:
    """Check and resolve what stands in a policy file; `path` is for the errors."""
    return _Reader(str(path)).policy(data)


class _Reader:
    """The sets of one file, and the file's name for errors."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sets: dict[str, tuple[str, ...]] = {}
        self.ports: dict[str, Ranges] = {}

    def policy(self, data: Mapping[str, Any]) -> Ruleset:
        text = decode_config(dict(data), _PolicyText, path=self.path)
        for name, cidrs in text.sets.items():
            self._set_name(name, f"sets.{name}")
            self.sets[name] = self._networks(cidrs, f"sets.{name}", sets=False)
        for name, ports in text.ports.items():
            self._set_name(name, f"ports.{name}")
            self.ports[name] = self._ranges(ports, f"ports.{name}", sets=False)
        home = self._networks(text.home, "home")
        default = decode_config(text.default, Default, path=self.path, key="default")
        limit = decode_config(text.limit, Limit, path=self.path, key="limit")
        self._check_limit(limit)
        rules: dict[str, Rule] = {}
        for index, raw in enumerate(text.rule):
            named = isinstance(raw.get("name"), str)
            key = f'rule["{raw["name"]}"]' if named else f"rule[{index}]"
            rule = self._rule(raw, key, has_home=bool(home))
            if rule.name in rules:
                first = list(rules).index(rule.name)
                raise self._error("name used twice", key, f"rule[{first}] has it already")
            rules[rule.name] = rule
        ordered = tuple(rules.values())
        return Ruleset(
            rules=ordered,
            home=home,
            midstream=self._word(text.midstream, RuleAction, "midstream"),
            default=default,
            limit=limit,
            warnings=tuple(warnings_about(ordered, home)),
        )

    def _rule(self, raw: dict[str, Any], key: str, *, has_home: bool) -> Rule:
        text = decode_config(raw, _RuleText, path=self.path, key=key)
        if not _RULE_NAME.match(text.name):
            hint = "letters, digits, spaces and _ . - only, at most 64"
            raise self._error(f"`{text.name}` is no rule name", f"{key}.name", hint)
        if text.name in RESERVED_NAMES:
            raise self._error(f"the name `{text.name}` is taken", f"{key}.name", "choose another")
        action: RuleAction = self._word(text.action, RuleAction, f"{key}.action")
        opened_by: OpenedBy = self._word(text.opened_by, OpenedBy, f"{key}.opened_by")
        if opened_by != "any" and not has_home:
            hint = 'say what is yours, such as home = ["10.0.0.0/8"], at the top'
            raise self._error("`opened_by` needs `home`", f"{key}.opened_by", hint)
        protocols = self._protocols(text.protocol, f"{key}.protocol")
        ports = self._ranges(text.port, f"{key}.port") if "port" in raw else None
        if ports is not None and not (protocols and WITH_PORTS.issuperset(protocols)):
            raise self._error(
                "only tcp and udp have ports", f"{key}.port", 'say protocol = ["tcp", "udp"]'
            )
        zones = _texts(text.zone)
        for field in ("zone", "source", "destination", "protocol", "port"):
            if field in raw and raw[field] in ([], ""):
                hint = "leave the key out to match everything"
                raise self._error("an empty list matches nothing", f"{key}.{field}", hint)
        return Rule(
            name=text.name,
            action=action,
            reason=text.reason or _reason(action, protocols, ports, opened_by),
            zones=zones or None,
            sources=self._networks(text.source, f"{key}.source") or None,
            destinations=self._networks(text.destination, f"{key}.destination") or None,
            protocols=protocols,
            ports=ports,
            opened_by=opened_by,
            log=text.log,
        )

    def _networks(
        self, given: str | tuple[str, ...], key: str, *, sets: bool = True
    ) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for index, item in enumerate(_texts(given)):
            where = key if isinstance(given, str) else f"{key}[{index}]"
            if sets and item in self.sets:
                found.update(dict.fromkeys(self.sets[item]))
            elif sets and _SET_NAME.match(item):
                raise self._error(
                    f"no set `{item}`",
                    where,
                    near_miss(item, list(self.sets)) or "there are no sets",
                )
            else:
                self._check_network(item, where)
                found[item] = None
        return tuple(found)

    def _check_network(self, item: str, where: str) -> None:
        try:
            CidrSet((item,))
        except ConfigError as error:
            raise self._error(error.message, where, error.hint) from None

    def _ranges(
        self, given: int | str | tuple[int | str, ...], key: str, *, sets: bool = True
    ) -> Ranges:
        found: list[tuple[int, int]] = []
        for index, item in enumerate(_items(given)):
            where = f"{key}[{index}]" if isinstance(given, tuple) else key
            if isinstance(item, str) and sets and item in self.ports:
                found.extend(self.ports[item])
            elif isinstance(item, str) and sets and _SET_NAME.match(item):
                hint = near_miss(item, list(self.ports)) or "there are no port sets"
                raise self._error(f"no port set `{item}`", where, hint)
            else:
                found.append(self._range(item, where))
        return _merged(found)

    def _range(self, item: int | str, where: str) -> tuple[int, int]:
        match = _PORT_RANGE.match(item) if isinstance(item, str) else None
        if match:
            low, high = int(match[1]), int(match[2])
            if low > high:
                raise self._error("port range reversed", where, f'did you mean "{high}-{low}"?')
        elif isinstance(item, int) or is_number(item):
            low = high = int(item)
        else:
            hint = 'a number, a range such as "8000-8080", or the name of a port set'
            raise self._error(f"`{item}` is no port", where, hint)
        if not 1 <= low <= high <= 65535:
            raise self._error(f"`{item}` is no port", where, "1 to 65535")
        return low, high

    def _protocols(
        self, given: int | str | tuple[int | str, ...], key: str
    ) -> tuple[int, ...] | None:
        found: dict[int, None] = {}
        for index, item in enumerate(_items(given)):
            where = f"{key}[{index}]" if isinstance(given, tuple) else key
            if item == "any":
                return None
            if isinstance(item, str) and item in PROTOCOL_NUMBERS:
                found[PROTOCOL_NUMBERS[item]] = None
            elif isinstance(item, int) or is_number(item):
                if not 0 <= int(item) <= 255:
                    raise self._error(f"`{item}` is no protocol", where, "0 to 255")
                found[int(item)] = None
            else:
                hint = near_miss(item, [*PROTOCOL_NUMBERS, "any"])
                raise self._error(f"unknown protocol `{item}`", where, hint)
        return tuple(found) or None

    def _set_name(self, name: str, key: str) -> None:
        if not _SET_NAME.match(name):
            raise self._error(
                f"`{name}` is no name", key, "begin with a letter: letters, digits, -"
            )

    def _check_limit(self, limit: Limit) -> None:
        for field in ("new_flows_per_second", "burst"):
            if not getattr(limit, field) >= 0:  # so that nan is caught, too
                raise self._error("cannot be negative", f"limit.{field}", "0 = no limit")

    def _word(self, word: str, type_: Any, key: str) -> Any:
        if word in get_args(type_):
            return word
        raise self._error(f"`{word}` is not possible", key, near_miss(word, list(get_args(type_))))

    def _error(self, message: str, key: str, hint: str) -> ConfigError:
        return ConfigError(message, path=self.path, key=key, hint=hint)


def _texts(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """A list as written, or the one item written without brackets."""
    return given if isinstance(given, tuple) else (given,)


def _items(given: int | str | tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The same where numbers may stand too."""
    return given if isinstance(given, tuple) else (given,)


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    """Sorted, and joined where they touch."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def _reason(
    action: RuleAction, protocols: tuple[int, ...] | None, ports: Ranges | None, opened_by: OpenedBy
) -> str:
    """What to tell people when the rule gives no reason of its own."""
    what = "/".join(protocol_name(number) for number in protocols) if protocols else "everything"
    to = f" to port {describe_ports(ports)}" if ports else ""
    by = {"home": " opened from home", "outside": " opened from outside", "any": ""}[opened_by]
    verb = {"allow": "allowed", "block": "blocked", "reject": "rejected"}[action]
    return f"{what}{to}{by} is {verb}"
