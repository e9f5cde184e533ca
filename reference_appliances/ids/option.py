"""What keywords share: their parsed form, the rule that is being read, what a rule looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from reference_appliances.ids.problems import RuleError

if TYPE_CHECKING:
    from reference_appliances.ids.classification import Classes
    from reference_appliances.ids.keywords import AnyOption

PAYLOAD = "payload"
"""The buffer that contents are looked for in, as long as no keyword names another."""
BUDGET = 3000
"""Attempts for one rule on one buffer before it counts as no match, as in Suricata."""


class Option(msgspec.Struct, frozen=True):
    """The parsed form of a keyword. Every subclass has a tag, by which it crosses processes."""

    def condition(self) -> Condition | None:
        """A test of the packet or the flow; None for what is matched in a buffer."""
        return None

    def payload(self) -> PayloadMatcher | None:
        """What is looked for in a buffer; None for other options."""
        return None


class Condition(Protocol):
    """A test that does not look into the payload."""

    def __call__(self, subject: Subject, /) -> bool: ...


class PayloadMatcher(Protocol):
    """Something that is looked for in a buffer."""

    @property
    def negated(self) -> bool:
        """It must not be there."""

    @property
    def relative(self) -> bool:
        """It counts from where the one before it ended."""

    @property
    def costly(self) -> bool:
        """Look for the others first."""

    def ends(self, subject: Subject, position: int) -> Iterator[int]:
        """Where each of its matches ends, in order; `position` is where the last one ended."""


class Subject:
    """What a rule looks at: a packet, or the newest part of a stream.

    `base` is the position of `data[0]` in the stream, 0 for packets.
    """

    __slots__ = ("_lower", "base", "budget", "data", "established", "flags", "stream", "to_server")

    def __init__(
        self,
        data: bytes,
        *,
        to_server: bool,
        established: bool,
        base: int = 0,
        stream: bool = False,
        flags: int = -1,
    ) -> None:
        self.data = data
        self.to_server = to_server
        self.established = established
        self.base = base
        self.stream = stream
        self.flags = flags
        """TCP flags; -1 where there are none."""
        self.budget = BUDGET
        self._lower: bytes | None = None

    @property
    def lower(self) -> bytes:
        """The data in lower case, for `nocase`."""
        if self._lower is None:
            self._lower = self.data.lower()
        return self._lower


@dataclass
class Draft:
    """A rule while its options are read."""

    classes: Classes
    options: list[AnyOption] = field(default_factory=list)
    buffer: str = PAYLOAD
    message: str = ""
    sid: int = 0
    gid: int = 1
    rev: int = 0
    classtype: str = ""
    priority: int = 0
    references: list[str] = field(default_factory=list)
    metadata: dict[str, list[str]] = field(default_factory=dict)
    noalert: bool = False
    seen: set[str] = field(default_factory=set)

    def once(self, keyword: str) -> None:
        """Refuse a keyword that may stand only once."""
        if keyword in self.seen:
            raise RuleError("stands twice", keyword=keyword)
        self.seen.add(keyword)


def number(value: str, keyword: str, low: int, high: int) -> int:
    """A decimal number within bounds. Raises RuleError."""
    text = value.strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise RuleError(f"`{text[:40]}` is no number", keyword=keyword)
    found = int(text)
    if not low <= found <= high:
        raise RuleError(f"{found} is not in {low} to {high}", keyword=keyword)
    return found


def quoted(value: str, keyword: str) -> tuple[str, bool]:
    """The text between the quotes, and whether a `!` stands before them. Raises RuleError."""
    text = value.strip()
    negated = text.startswith("!")
    if negated:
        text = text[1:].lstrip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        hint = "a `;` within is written `\\;`" if text[:1] == '"' else ""
        raise RuleError("must stand in double quotes", keyword=keyword, hint=hint)
    return text[1:-1], negated
