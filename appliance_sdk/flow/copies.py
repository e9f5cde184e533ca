"""Segments copied from beyond a hole in a stream, until the one that is missing arrives."""

from __future__ import annotations

from bisect import bisect_left


class Copies:
    """Bytes of one stream by their positions."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        """In order, and none overlaps another."""
        self.size = 0
        """Bytes of all pieces."""

    def agree(self, at: int, data: bytes) -> bool:
        """Whether these bytes are the same where there are copies."""
        between = self._between(at, at + len(data))
        return all(data.startswith(copied, start - at) for start, copied in between)

    def missing(self, at: int, data: bytes, most: int) -> list[tuple[int, bytes]] | None:
        """The parts of a segment that were not copied yet; None if there are more than `most`."""
        end = at + len(data)
        parts: list[tuple[int, bytes]] = []
        for start, copied in [*self._between(at, end), (end, b"")]:
            if start > at:
                if len(parts) >= most:
                    return None
                parts.append((at, data[at - end : start - end or None]))
            at = start + len(copied)
        return parts

    def add(self, parts: list[tuple[int, bytes]]) -> None:
        """Keep what is `missing`."""
        for part in parts:
            self.pieces.insert(bisect_left(self.pieces, part), part)
            self.size += len(part[1])

    def take(self, position: int) -> tuple[bytes, int]:
        """Take out what follows a position without a hole, and how many bytes lay before it."""
        shown = bytearray()
        used = spare = 0
        for start, copied in self.pieces:
            if start > position:
                break
            used += 1
            self.size -= len(copied)
            new = copied[position - start :]
            spare += len(copied) - len(new)
            position += len(new)
            shown += new
        del self.pieces[:used]
        return bytes(shown), spare

    def _between(self, at: int, end: int) -> list[tuple[int, bytes]]:
        """What was copied from between these positions."""
        pieces = self.pieces
        first = bisect_left(pieces, (at, b""))
        if first and pieces[first - 1][0] + len(pieces[first - 1][1]) > at:
            first -= 1
        between = pieces[first : bisect_left(pieces, (end, b""))]
        if between:
            start, copied = between[-1]
            between[-1] = start, copied[: end - start]
            start, copied = between[0]
            between[0] = max(start, at), copied[max(at - start, 0) :]
        return between
