"""Keywords about a single packet: `dsize`, `flags`."""

from __future__ import annotations

import re
from typing import Literal

from reference_appliances.ids.option import Condition, Draft, Option, Subject, number
from reference_appliances.ids.problems import RuleError

_TOP = 65535
_RANGE = re.compile(r"\s*([0-9]{1,5})\s*<>\s*([0-9]{1,5})\s*\Z")
_COMPARED = re.compile(r"\s*(<=|>=|<|>|!|)\s*([0-9]{1,5})\s*\Z")
_FLAGS = {
    "F": 0x01,
    "S": 0x02,
    "R": 0x04,
    "P": 0x08,
    "A": 0x10,
    "U": 0x20,
    "E": 0x40,
    "2": 0x40,
    "C": 0x80,
    "1": 0x80,
    "0": 0,
}
"""RFC 9293 §3.1; 1 and 2 are what ECN's two bits were called before RFC 3168."""


class Dsize(Option, frozen=True, tag="dsize"):
    """How long a packet's own payload is, both ends included; or, `other`, not."""

    low: int
    high: int
    other: bool = False

    def condition(self) -> Condition:
        """As in Suricata, "not" and "at least" want some payload, whatever the number."""
        low, high = self.low, self.high
        if self.other:
            return lambda subject: bool(subject.data) and not low <= len(subject.data) <= high
        return lambda subject: low <= len(subject.data) <= high


class Flags(Option, frozen=True, tag="flags"):
    """TCP flags of a packet."""

    wanted: int
    mask: int = 0xFF
    """Flags that count at all."""
    how: Literal["exactly", "all", "any", "not"] = "exactly"

    def condition(self) -> Condition:
        """A packet without TCP header has no flags and never matches."""
        wanted, mask, how = self.wanted, self.mask, self.how

        def holds(subject: Subject) -> bool:
            if subject.flags < 0:
                return False
            flags = subject.flags & mask
            if not wanted:
                return (flags != 0) is (how == "not")
            if how == "any":
                return flags & wanted != 0
            if how == "exactly":
                return flags == wanted
            return (flags & wanted == wanted) is (how == "all")

        return holds


def _dsize(draft: Draft, value: str) -> None:
    draft.once("dsize")
    between = _RANGE.match(value)
    compared = _COMPARED.match(value)
    if between:
        low, high = int(between[1]) + 1, int(between[2]) - 1
        if low > high:
            raise RuleError("the range is empty: its ends do not belong to it", keyword="dsize")
        option = Dsize(low, min(high, _TOP))
    elif compared:
        size = number(compared[2], "dsize", 0, _TOP)
        option = {
            "": Dsize(size, size),
            "!": Dsize(size, size, other=True),
            "<": Dsize(0, size - 1),
            "<=": Dsize(0, size),
            ">": Dsize(size + 1, _TOP),
            ">=": Dsize(max(size, 1), _TOP),
        }[compared[1]]
    else:
        hint = "such as 10, !10, <10, >=10 or 10<>20"
        raise RuleError(f"`{value.strip()[:40]}` is no size", keyword="dsize", hint=hint)
    draft.options.append(option)


def _flags(draft: Draft, value: str) -> None:
    draft.once("flags")
    text, _, ignored = value.replace(" ", "").partition(",")
    how: Literal["exactly", "all", "any", "not"] = "exactly"
    for sign, meaning in (("+", "all"), ("*", "any"), ("!", "not")):
        if sign in text:
            if how != "exactly" or not (text.startswith(sign) or text.endswith(sign)):
                raise RuleError(f"`{value.strip()[:40]}` has a sign too many", keyword="flags")
            how = meaning  # type: ignore[assignment]
            text = text.replace(sign, "", 1)
    draft.options.append(Flags(_bits(text), 0xFF & ~_bits(ignored or "0"), how))


def _bits(text: str) -> int:
    if not text:
        raise RuleError("names no flag", keyword="flags", hint="F S R P A U C E, or 0")
    bits = 0
    for char in text:
        if char.upper() not in _FLAGS:
            hint = "F S R P A U C E, or 0"
            raise RuleError(f"`{char}` is no flag", keyword="flags", hint=hint)
        bits |= _FLAGS[char.upper()]
    return bits


KEYWORDS = {"dsize": _dsize, "flags": _flags}
