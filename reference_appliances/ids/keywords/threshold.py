"""`threshold` and `detection_filter`: how many matches, in what time, it takes to count."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from appliance_sdk import near_miss
from reference_appliances.ids.option import Draft, Option, number
from reference_appliances.ids.problems import RuleError

Kind: TypeAlias = Literal["limit", "threshold", "both", "detection_filter"]
Track: TypeAlias = Literal["by_src", "by_dst", "by_both", "by_rule"]
_KINDS = ("limit", "threshold", "both")
_MOST = 1 << 31


class Threshold(Option, frozen=True, tag="threshold"):
    """Matches are counted per source, destination, both, or for the rule, over all workers."""

    kind: Kind
    track: Track
    count: int
    seconds: int

    def weigh(self, total: int) -> tuple[bool, bool]:
        """What the match number `total` of a window does: does the rule act, is it reported?"""
        if self.kind == "limit":
            return True, total <= self.count
        if self.kind == "threshold":
            return (total % self.count == 0,) * 2
        if self.kind == "both":
            return total >= self.count, total == self.count
        return (total > self.count,) * 2

    def key(self, source: bytes, destination: bytes) -> bytes:
        """Whose matches are counted together."""
        if self.track == "by_src":
            return source
        if self.track == "by_dst":
            return destination
        return source + destination if self.track == "by_both" else b""


def _threshold(draft: Draft, value: str) -> None:
    draft.once("threshold")
    words = _words(value, "threshold", ("type", "track", "count", "seconds"))
    kind = words["type"]
    if kind not in _KINDS:
        hint = near_miss(kind, list(_KINDS))
        raise RuleError(f"no type `{kind[:40]}`", keyword="threshold", hint=hint)
    _add(draft, "threshold", kind, words)


def _detection_filter(draft: Draft, value: str) -> None:
    draft.once("detection_filter")
    words = _words(value, "detection_filter", ("track", "count", "seconds"))
    _add(draft, "detection_filter", "detection_filter", words)


def _add(draft: Draft, keyword: str, kind: str, words: dict[str, str]) -> None:
    if {"threshold", "detection_filter"} <= draft.seen:
        raise RuleError("stands beside another one: one of the two", keyword=keyword)
    track = words["track"]
    if track not in get_args(Track):
        hint = near_miss(track, list(get_args(Track)))
        raise RuleError(f"cannot track `{track[:40]}`", keyword=keyword, hint=hint)
    draft.options.append(
        Threshold(
            kind=kind,  # type: ignore[arg-type] # one of the words above
            track=track,  # type: ignore[arg-type]
            count=number(words["count"], keyword, 1, _MOST),
            seconds=number(words["seconds"], keyword, 1, _MOST),
        )
    )


def _words(value: str, keyword: str, names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in value.split(","):
        name, _, text = part.strip().partition(" ")
        if name not in names:
            hint = near_miss(name, list(names))
            raise RuleError(f"unknown word `{name[:40]}`", keyword=keyword, hint=hint)
        if name in found:
            raise RuleError(f"`{name}` stands twice", keyword=keyword)
        found[name] = text.strip()
    for name in names:
        if name not in found:
            raise RuleError(f"lacks `{name}`", keyword=keyword)
    return found


KEYWORDS = {"threshold": _threshold, "detection_filter": _detection_filter}
