"""Application bytes as a handler sees them: TCP stream bytes in order, or one UDP payload."""

from __future__ import annotations

import msgspec


class Chunk(msgspec.Struct, eq=False, gc=False):
    """New bytes of one direction, after up to `lookback` bytes that were shown before.

    `data[:fresh]` is look-back, `data[fresh:]` is new. `offset` is the position in the stream of
    the first new byte (0 for UDP), `gap` the number of bytes lost just before it.
    """

    data: bytes
    to_server: bool
    offset: int
    fresh: int
    gap: int
    _masks: list[tuple[int, bytes]] | None = None

    @property
    def to_client(self) -> bool:
        """True for bytes that the server sent."""
        return not self.to_server

    def __contains__(self, pattern: bytes) -> bool:
        """Whether `pattern` ends in the new bytes, so that segment borders do not matter."""
        return self.data.find(pattern, max(0, self.fresh - len(pattern) + 1)) >= 0

    def count(self, pattern: bytes) -> int:
        """How many times `pattern` occurs (without overlap) ending in the new bytes."""
        return self.data.count(pattern, max(0, self.fresh - len(pattern) + 1))

    def mask(self, start: int, end: int, fill: bytes = b"*") -> None:
        """Overwrite `data[start:end]` with `fill`, repeated, before the bytes are forwarded.

        Only new bytes can be changed: the part before `fresh` has left already and is skipped.
        The handler's class must say `edits = True`.
        """
        start = max(start, self.fresh)
        end = min(end, len(self.data))
        if not fill:
            raise ValueError("mask() needs at least one fill byte")
        if start < end:
            new = (fill * ((end - start) // len(fill) + 1))[: end - start]
            if self._masks is None:
                self._masks = []
            self._masks.append((start - self.fresh, new))

    def masked(self) -> bytes | None:
        """For the engine: the new bytes as they are to be sent, or None if nothing was masked."""
        if self._masks is None:
            return None
        new = bytearray(self.data[self.fresh :])
        for at, fill in self._masks:
            new[at : at + len(fill)] = fill
        return bytes(new)
