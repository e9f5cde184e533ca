"""What the demo says while it runs: as plain lines, or beside a live picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Check(NamedTuple):
    """One thing that the demo claims, and whether it happened."""

    scene: str
    claim: str
    happened: bool
    evidence: str


class Show(Protocol):
    """Where the demo is seen."""

    def scene(self, title: str, story: str) -> None:
        """A new part begins."""

    def say(self, text: str) -> None:
        """One line about what happens."""

    def walk(self, title: str, lines: list[str]) -> None:
        """The way of a packet, a hop a line."""

    def check(self, check: Check) -> None:
        """Something that was claimed was looked at."""

    def refresh(self) -> None:
        """Some time has passed."""

    def summary(self, checks: list[Check], facts: list[tuple[str, str]]) -> None:
        """The end."""


class PlainShow:
    """Lines of text, for logs and for terminals without colour."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def scene(self, title: str, story: str) -> None:
        self._write(f"\n== {title}: {story}")

    def say(self, text: str) -> None:
        self._write(f"   {text}")

    def walk(self, title: str, lines: list[str]) -> None:
        self._write(f"   {title}")
        for line in lines:
            self._write(f"     {line}")

    def check(self, check: Check) -> None:
        mark = "ok  " if check.happened else "FAIL"
        self._write(f"   {mark} {check.claim} — {check.evidence}")

    def refresh(self) -> None:
        """Nothing moves on paper."""

    def summary(self, checks: list[Check], facts: list[tuple[str, str]]) -> None:
        self._write("\n== Summary")
        width = max(len(check.claim) for check in checks)
        for check in checks:
            mark = "ok  " if check.happened else "FAIL"
            self._write(f"   {mark} {check.claim:<{width}}  {check.evidence}")
        self._write("")
        for name, value in facts:
            self._write(f"   {name:<22} {value}")
