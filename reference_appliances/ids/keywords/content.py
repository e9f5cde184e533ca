"""`content` and what modifies it: literal bytes in the payload, and where they must be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from reference_appliances.ids.option import PAYLOAD, Draft, Option, Subject, number, quoted
from reference_appliances.ids.problems import RuleError

_LONGEST = 65535
_FARTHEST = 1 << 20
"""Suricata's bounds for offset and depth, and for distance and within."""
_ESCAPED = '"\\;:'
_RELATIVE = ("distance", "within")
_ABSOLUTE = ("offset", "depth", "startswith")


class Content(Option, frozen=True, tag="content"):
    """Bytes that must be there, or must not. None: the rule does not say."""

    pattern: bytes
    buffer: str = PAYLOAD
    negated: bool = False
    nocase: bool = False
    offset: int | None = None
    depth: int | None = None
    distance: int | None = None
    within: int | None = None
    startswith: bool = False
    endswith: bool = False
    fast_pattern: bool = False
    chop: tuple[int, int] | None = None
    """The part that the fast pattern is, as offset and length."""

    @property
    def relative(self) -> bool:
        """It counts from where the match before it ended."""
        return self.distance is not None or self.within is not None

    @property
    def anchored(self) -> bool:
        """It counts from the beginning, of each packet too."""
        return self.offset is not None or self.depth is not None or self.startswith

    @property
    def costly(self) -> bool:
        """Never: finding bytes is cheap."""
        return False

    def payload(self) -> Content:
        """It finds itself."""
        return self

    def ends(self, subject: Subject, position: int) -> Iterator[int]:
        """Where each match ends. Positions before the buffer are negative, and count."""
        data = subject.lower if self.nocase else subject.data
        pattern = self.pattern.lower() if self.nocase else self.pattern
        size, stop = len(pattern), len(data)
        if self.relative:
            start = position + (self.distance or 0)
            if self.within is not None:
                stop = min(stop, start + self.within)
        else:
            start = (self.offset or 0) - subject.base
            if self.startswith:
                stop = min(stop, size - subject.base)
            elif self.depth is not None:
                stop = min(stop, start + self.depth)
        if stop < size:
            return
        start = max(start, 0)
        if self.endswith:
            start = max(start, len(data) - size)
        at = data.find(pattern, start, stop)
        while at >= 0:
            yield at + size
            at = data.find(pattern, at + 1, stop)


def parse_bytes(text: str, keyword: str) -> bytes:
    """Text with `|00 ff|` and escapes as bytes. Raises RuleError."""
    out = bytearray()
    for index, part in enumerate(_split_bars(text, keyword)):
        if index % 2:
            try:
                out += bytes.fromhex(part)
            except ValueError:
                raise RuleError(f"`|{part[:40]}|` is not hex", keyword=keyword) from None
        else:
            out += _unescaped(part, keyword)
    if not out:
        raise RuleError("is empty", keyword=keyword)
    if len(out) > _LONGEST:
        raise RuleError(f"is longer than {_LONGEST} bytes", keyword=keyword)
    return bytes(out)


def _split_bars(text: str, keyword: str) -> list[str]:
    parts = text.split("|")
    if len(parts) % 2 == 0:
        raise RuleError("has a `|` without its partner", keyword=keyword)
    return parts


def _unescaped(text: str, keyword: str) -> bytes:
    for escape in re.findall(r"\\(.?)", text, re.DOTALL):
        if not escape or escape not in _ESCAPED:
            hint = "write other bytes in hex: |0d 0a|"
            raise RuleError(f"`\\{escape}` is no escape", keyword=keyword, hint=hint)
    plain = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
    return plain.encode("utf-8", "surrogateescape")


def _content(draft: Draft, value: str) -> None:
    text, negated = quoted(value, "content")
    if '"' in text.replace('\\"', ""):
        hint = 'modifiers are keywords of their own: `content:"a"; nocase;`'
        raise RuleError("has a quote in its middle", keyword="content", hint=hint)
    pattern = parse_bytes(text, "content")
    draft.options.append(Content(pattern, buffer=draft.buffer, negated=negated))


def _modifier(
    keyword: str, change: Callable[[Content, str], Content]
) -> Callable[[Draft, str], None]:
    """A keyword that changes the content before it."""

    def parse(draft: Draft, value: str) -> None:
        last = draft.options[-1] if draft.options else None
        if not isinstance(last, Content):
            raise RuleError("must follow a content", keyword=keyword)
        new = change(last, value)
        _check(new, keyword)
        draft.options[-1] = new

    return parse


def _flag(keyword: str) -> Callable[[Content, str], Content]:
    def change(content: Content, value: str) -> Content:
        if value:
            raise RuleError("takes no value", keyword=keyword)
        return msgspec.structs.replace(content, **{keyword: True})

    return change


def _count(keyword: str, low: int, high: int) -> Callable[[Content, str], Content]:
    def change(content: Content, value: str) -> Content:
        if getattr(content, keyword) is not None:
            raise RuleError("stands twice for one content", keyword=keyword)
        name = value.strip()
        if name[:1].isalpha() or name[:1] == "_":
            message = f"the variable `{name[:40]}` needs byte_extract, which is not supported"
            raise RuleError(message, keyword=keyword, unsupported=True)
        return msgspec.structs.replace(content, **{keyword: number(value, keyword, low, high)})

    return change


def _fast_pattern(content: Content, value: str) -> Content:
    value = value.strip()
    if not value or value == "only":
        return msgspec.structs.replace(content, fast_pattern=True)
    parts = value.split(",")
    if len(parts) != 2:
        raise RuleError("takes nothing, or offset,length", keyword="fast_pattern")
    at, size = (number(part, "fast_pattern", 0, _LONGEST) for part in parts)
    if size < 1 or at + size > len(content.pattern):
        raise RuleError("reaches beyond the content", keyword="fast_pattern")
    return msgspec.structs.replace(content, fast_pattern=True, chop=(at, size))


def _rawbytes(content: Content, value: str) -> Content:
    return content  # there is no other than the raw payload


def _check(content: Content, keyword: str) -> None:
    """What Suricata refuses, since it can never match or means nothing."""
    size = len(content.pattern)
    for name in ("depth", "within"):
        bound = getattr(content, name)
        if bound is not None and bound < size:
            hint = f"it must be at least {size}"
            raise RuleError("is shorter than the content", keyword=name, hint=hint)
    absolute = [name for name in _ABSOLUTE if getattr(content, name) not in (None, False)]
    if content.relative and absolute:
        message = f"{absolute[0]} counts from the beginning, distance and within do not"
        raise RuleError(message, keyword=keyword)
    if content.startswith and (content.offset is not None or content.depth is not None):
        raise RuleError("stands for offset and depth already", keyword="startswith")


KEYWORDS = {
    "content": _content,
    "nocase": _modifier("nocase", _flag("nocase")),
    "offset": _modifier("offset", _count("offset", 0, _LONGEST)),
    "depth": _modifier("depth", _count("depth", 1, _LONGEST)),
    "distance": _modifier("distance", _count("distance", -_FARTHEST, _FARTHEST)),
    "within": _modifier("within", _count("within", 1, _FARTHEST)),
    "startswith": _modifier("startswith", _flag("startswith")),
    "endswith": _modifier("endswith", _flag("endswith")),
    "fast_pattern": _modifier("fast_pattern", _fast_pattern),
    "rawbytes": _modifier("rawbytes", _rawbytes),
}
