"""Keywords that say something about the rule: who, what, how bad."""

from __future__ import annotations

from appliance_sdk import near_miss
from reference_appliances.ids.option import Draft, number, quoted
from reference_appliances.ids.problems import RuleError, printable

_LARGEST = (1 << 32) - 1


def _msg(draft: Draft, value: str) -> None:
    draft.once("msg")
    text, negated = quoted(value, "msg")
    if negated:
        raise RuleError("cannot be negated", keyword="msg")
    for escape in ('\\"', "\\;", "\\:", "\\\\"):
        text = text.replace(escape, escape[1])
    draft.message = printable(text)


def _sid(draft: Draft, value: str) -> None:
    draft.once("sid")
    draft.sid = number(value.strip('" '), "sid", 1, _LARGEST)


def _gid(draft: Draft, value: str) -> None:
    draft.once("gid")
    draft.gid = number(value, "gid", 1, _LARGEST)


def _rev(draft: Draft, value: str) -> None:
    draft.once("rev")
    draft.rev = number(value, "rev", 0, _LARGEST)


def _classtype(draft: Draft, value: str) -> None:
    draft.once("classtype")
    name = value.strip()
    if name not in draft.classes:
        hint = near_miss(name, list(draft.classes))
        raise RuleError(f"no class `{name}`", keyword="classtype", hint=hint)
    draft.classtype = name


def _priority(draft: Draft, value: str) -> None:
    draft.once("priority")
    draft.priority = number(value, "priority", 1, 255)


def _reference(draft: Draft, value: str) -> None:
    kind, comma, reference = value.partition(",")
    if not comma or not kind.strip():
        raise RuleError("needs a system and an id: `url,example.com`", keyword="reference")
    draft.references.append(printable(f"{kind.strip()},{reference.strip()}"))


def _metadata(draft: Draft, value: str) -> None:
    for pair in value.split(","):
        key, _, text = pair.strip().partition(" ")
        if key:
            draft.metadata.setdefault(printable(key), []).append(printable(text.strip()))


def _noalert(draft: Draft, value: str) -> None:
    if value:
        raise RuleError("takes no value", keyword="noalert")
    draft.noalert = True


KEYWORDS = {
    "msg": _msg,
    "sid": _sid,
    "gid": _gid,
    "rev": _rev,
    "classtype": _classtype,
    "priority": _priority,
    "reference": _reference,
    "metadata": _metadata,
    "noalert": _noalert,
}
