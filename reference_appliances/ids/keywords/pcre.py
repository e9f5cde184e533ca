"""`pcre`: regular expressions, by Python's `re`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

from reference_appliances.ids.option import PAYLOAD, Draft, Option, Subject, quoted
from reference_appliances.ids.problems import RuleError

_FLAGS = {"i": re.IGNORECASE, "s": re.DOTALL, "m": re.MULTILINE, "x": re.VERBOSE}
_WITHOUT_EFFECT = "BO"
"""Raw bytes are all there is; `O` lifts a limit that Suricata has."""
_BUFFERS = "UIPQHDMCSYVWGEA"
"""Modifiers that name a buffer of HTTP, or change what `re` cannot."""
_LONGEST = 8192
_POSIX = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "xdigit": "0-9A-Fa-f",
    "space": r"\s",
    "word": r"\w",
    "blank": r" \t",
    "cntrl": r"\0-\x1f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
    "punct": r"!-/:-@\[-`{-~",
}
_PERL = re.compile(r"\\([zZheQR])|\\g\{?([1-9])\}?|\\.|\(\?<(?=[A-Za-z_])|\[:(\w+):\]", re.DOTALL)
_IN_PYTHON = {"z": r"\Z", "Z": r"(?=\n?\Z)", "h": r"[ \t]", "e": r"\x1b", "R": r"(?:\r\n|[\n-\r])"}


class Pcre(Option, frozen=True, tag="pcre"):
    """An expression in Python's syntax, known to compile."""

    expression: str
    flags: int = 0
    buffer: str = PAYLOAD
    negated: bool = False
    relative: bool = False

    @property
    def costly(self) -> bool:
        """Always: it may take exponential time, so it comes last."""
        return True

    def payload(self) -> Pcre:
        """It finds itself."""
        return self

    def ends(self, subject: Subject, position: int) -> Iterator[int]:
        """Where each match ends.

        `^` is the beginning of the payload or stream, for a relative expression the end of the
        match before it; where a stream's beginning has gone by, a byte before what is left of it
        keeps `^` from matching there.
        """
        if self.relative and position >= 0:
            shift, data, first = position, subject.data[position:], 0
        elif subject.base:
            shift, data, first = -1, b"\0" + subject.data, 1
        else:
            shift, data, first = 0, subject.data, 0
        search = compiled(self.expression, self.flags).search
        found = search(data, first)
        while found:
            yield shift + found.end()
            found = search(data, found.start() + 1) if found.start() < len(data) else None


@lru_cache(maxsize=16384)
def compiled(expression: str, flags: int) -> re.Pattern[bytes]:
    """Compiled when it is first needed: thousands at once would hold up a reload."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(expression.encode("latin-1"), flags)


def in_python(expression: str) -> str:
    """A Perl expression in Python's syntax, as far as they differ in what rules use."""

    def one(match: re.Match[str]) -> str:
        if match[3]:
            if match[3] not in _POSIX:
                raise RuleError(f"no class `[:{match[3]}:]`", keyword="pcre")
            return _POSIX[match[3]]
        if match[2]:
            return f"(?:\\{match[2]})"
        if match[1]:
            if match[1] not in _IN_PYTHON:
                raise RuleError(
                    f"`\\{match[1]}` is not supported", keyword="pcre", unsupported=True
                )
            return _IN_PYTHON[match[1]]
        return "(?P<" if match[0] == "(?<" else match[0]

    return _PERL.sub(one, expression)


def _pcre(draft: Draft, value: str) -> None:
    bare = value.lstrip("! ").startswith("/")  # Suricata takes it without quotes too
    text, negated = (value.lstrip("! "), value.startswith("!")) if bare else quoted(value, "pcre")
    slash = text.rfind("/")
    if not text.startswith("/") or slash < 1:
        raise RuleError("must stand between slashes", keyword="pcre", hint='"/expression/flags"')
    expression, letters = text[1:slash], text[slash + 1 :]
    if "," in letters:
        raise RuleError("captures are not supported", keyword="pcre", unsupported=True)
    flags = 0
    for letter in letters:
        if letter in _FLAGS:
            flags |= _FLAGS[letter]
        elif letter in _BUFFERS:
            message = f"the modifier `{letter}` is not supported"
            raise RuleError(message, keyword="pcre", unsupported=True)
        elif letter not in "R" + _WITHOUT_EFFECT:
            raise RuleError(f"unknown modifier `{letter}`", keyword="pcre")
    if len(expression) > _LONGEST:
        raise RuleError(f"is longer than {_LONGEST} characters", keyword="pcre")
    raw = expression.encode("utf-8", "surrogateescape").decode("latin-1")
    expression = in_python(raw.replace("\\;", ";").replace("\\/", "/"))
    try:
        compiled.__wrapped__(expression, flags)
    except (re.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        hint = "Python's `re` is meant, which knows most of Perl's syntax"
        raise RuleError(f"does not compile: {error}", keyword="pcre", hint=hint) from None
    draft.options.append(Pcre(expression, flags, draft.buffer, negated, "R" in letters))


KEYWORDS = {"pcre": _pcre}
