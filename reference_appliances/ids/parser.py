"""One rule: its header, its options, and what they come to together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeGuard

from appliance_sdk import near_miss
from reference_appliances.ids.classification import UNCLASSIFIED, Classes
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.keywords import KEYWORDS, AnyOption
from reference_appliances.ids.keywords.content import Content
from reference_appliances.ids.keywords.flow import FlowOption
from reference_appliances.ids.keywords.packet import Dsize, Flags
from reference_appliances.ids.option import Draft
from reference_appliances.ids.problems import RuleError, printable
from reference_appliances.ids.rule import (
    ACTIONS,
    APP_PROTOCOLS,
    PROTOCOLS,
    TCP,
    WITH_PORTS,
    Protocol,
    Rule,
    RuleAction,
)

LONGEST_RULE = 65536
"""Characters; the longest of public rule sets have some ten thousand, all of them addresses."""
MOST_OPTIONS = 256
_OTHER_ACTIONS = ("accept", "config", "rejectsrc", "rejectdst", "rejectboth")
"""Suricata's, firewall mode included (`accept:hook`), that this version does not know."""
_SID = re.compile(r"[;(]\s*sid\s*:\s*([0-9]{1,10})\s*;")
_OPTION = re.compile(r"\s*([^:;\s]+)\s*(?::((?:[^;\\]|\\.)*))?;", re.DOTALL)
_HEAD = re.compile(r"\[|\]|\s+|[^\s\[\]]+")


def parse_rule(text: str, groups: Groups, classes: Classes, *, path: str, line: int) -> Rule:
    """Understand one rule, all of it. Raises RuleError with file, line, sid and keyword."""
    try:
        return _Rule(text, groups, classes).read(path, line)
    except RuleError as error:
        raise error.at(path, line, guess_sid(text)) from None


def guess_sid(text: str) -> int:
    """The sid of a rule that may be broken; 0 if there is none."""
    found = _SID.search(text)
    return int(found[1]) if found else 0


class _Rule:
    """The rule that is being read."""

    def __init__(self, text: str, groups: Groups, classes: Classes) -> None:
        self._text = text
        self._groups = groups
        self._draft = Draft(classes)

    def read(self, path: str, line: int) -> Rule:
        text = self._text.strip()
        try:
            printable(text)
        except UnicodeEncodeError:
            raise RuleError("is not text") from None
        if len(text) > LONGEST_RULE:
            raise RuleError(f"is longer than {LONGEST_RULE} characters")
        head, bracket, body = text.partition("(")
        if not bracket:
            raise RuleError("has no options", hint="they stand in ( ), at least a sid")
        if not body.endswith(")"):
            raise RuleError("does not end with `)`")
        words = _words(head)
        if len(words) != 7:
            hint = "action protocol source port -> destination port (options)"
            raise RuleError(f"the header has {len(words)} parts instead of 7", hint=hint)
        action, protocol, source, source_port, arrow, destination, destination_port = words
        if action.partition(":")[0] in _OTHER_ACTIONS or ":" in action:
            message = f"the action `{action[:40]}` is not supported"
            raise RuleError(message, keyword=f"action {action[:40]}", unsupported=True)
        if not _is_action(action):
            hint = near_miss(action, list(ACTIONS))
            raise RuleError(f"unknown action `{action[:40]}`", hint=hint)
        protocol = protocol.lower()
        self._check_protocol(protocol)
        if arrow not in ("->", "<>"):
            raise RuleError(f"`{arrow[:40]}` is no direction", hint="-> or <>")
        self._options(body[:-1])
        draft = self._draft
        if not draft.sid:
            raise RuleError("has no sid", keyword="sid")
        found = draft.classes.get(draft.classtype, UNCLASSIFIED)
        return Rule(
            action=action,
            protocol=protocol,
            source=self._groups.address(source),
            source_port=self._groups.port(source_port),
            destination=self._groups.address(destination),
            destination_port=self._groups.port(destination_port),
            both_ways=arrow == "<>",
            sid=draft.sid,
            gid=draft.gid,
            rev=draft.rev,
            message=draft.message,
            classtype=draft.classtype,
            priority=draft.priority or found.priority,
            category=found.description,
            references=tuple(draft.references),
            metadata=draft.metadata,
            noalert=draft.noalert,
            options=_checked(draft.options, PROTOCOLS[protocol], source_port, destination_port),
            line=line,
            path=path,
        )

    def _check_protocol(self, name: str) -> None:
        if name in APP_PROTOCOLS:
            message = f"the protocol `{name}` is not supported"
            raise RuleError(message, keyword=f"protocol {name}", unsupported=True)
        if name not in PROTOCOLS:
            raise RuleError(
                f"unknown protocol `{name[:40]}`", hint=near_miss(name, list(PROTOCOLS))
            )

    def _options(self, body: str) -> None:
        at = count = 0
        while body[at:].strip():
            match = _OPTION.match(body, at)
            count += 1
            if not match:
                raise RuleError(
                    f"an option does not end with `;`: `{body[at:].strip()[:40]}`",
                )
            if count > MOST_OPTIONS:
                raise RuleError(f"has more than {MOST_OPTIONS} options")
            at = match.end()
            name, value = match[1], (match[2] or "").strip()
            parser = KEYWORDS.get(name)
            if parser is None:
                raise unknown_keyword(name)
            parser(self._draft, value)


def unknown_keyword(name: str) -> RuleError:
    """The error for a keyword that is not in the registry."""
    hint = near_miss(name, list(KEYWORDS))
    hint = hint if hint.startswith("did you mean") else "docs/ids.md lists what is"
    return RuleError("is not supported", keyword=name[:40], hint=hint, unsupported=True)


def _words(head: str) -> list[str]:
    """The parts of a header: what blanks separate, but not within brackets."""
    words: list[str] = []
    depth, inside = 0, False
    for part in _HEAD.findall(head):
        depth += (part == "[") - (part == "]")
        if part.isspace() and depth <= 0:
            inside = False
        elif inside:
            words[-1] += part
        else:
            words.append(part)
            inside = True
    return words


def _is_action(word: str) -> TypeGuard[RuleAction]:
    return word in ACTIONS


def _checked(
    options: Sequence[AnyOption], protocol: Protocol, *ports: str
) -> tuple[AnyOption, ...]:
    """What can only be seen when all options are there: above all, rules that never match."""
    marked = [o for o in options if isinstance(o, Content) and o.fast_pattern]
    if len(marked) > 1:
        raise RuleError("stands twice", keyword="fast_pattern")
    if marked and marked[0].negated and (marked[0].relative or marked[0].anchored):
        raise RuleError("cannot be a negated content with a position", keyword="fast_pattern")
    if protocol.numbers and not set(WITH_PORTS) & set(protocol.numbers) and set(ports) != {"any"}:
        message = f"ports of `{protocol.name}` are not supported"
        raise RuleError(message, keyword="port", unsupported=True)
    is_tcp = not protocol.numbers or TCP in protocol.numbers
    flow = next((o for o in options if isinstance(o, FlowOption)), FlowOption())
    if flow.stream and not is_tcp:
        raise RuleError("`only_stream` needs tcp", keyword="flow")
    if protocol.streams and flow.stream is False:
        raise RuleError("`no_stream` contradicts `tcp-stream`", keyword="flow")
    if protocol.packets and flow.stream:
        raise RuleError("`only_stream` contradicts `tcp-pkt`", keyword="flow")
    for option in options:
        if isinstance(option, Flags) and not is_tcp:
            raise RuleError("only tcp has flags", keyword="flags")
        if isinstance(option, Dsize | Flags) and (protocol.streams or flow.stream):
            name = "dsize" if isinstance(option, Dsize) else "flags"
            raise RuleError("is about packets, the rule only about streams", keyword=name)
    return tuple(options)
