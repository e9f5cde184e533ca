"""Rings through what they hold: each member knows its neighbours, and leaves from anywhere."""

from __future__ import annotations


class Link:
    """A place in a ring, or in none: what comes before and after it."""

    __slots__ = ("after", "before")

    before: Link | None
    after: Link | None

    def leave(self) -> None:
        """Go out of the ring, if it is in one."""
        before, after = self.before, self.after
        if before is not None and after is not None:
            before.after, after.before = after, before
        self.before = self.after = None


class Ring(Link):
    """The place between the last and the first."""

    __slots__ = ()

    def __init__(self) -> None:
        self.before = self.after = self

    def append(self, link: Link) -> None:
        """Put one that is in no ring behind the last."""
        last = self.before
        assert last is not None
        link.before, link.after = last, self
        last.after = self.before = link
