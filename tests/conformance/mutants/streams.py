"""What an IDS keeps of one direction of a TCP connection: its bytes, and which may come now."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


class Stream:
    """The bytes of one direction by their place, from the first that was seen."""

    window = 1 << 20
    """So far ahead of what is whole a receiver may take something."""

    def __init__(self, start: int) -> None:
        self.start = start
        """The sequence number of the first byte."""
        self.whole = bytearray()
        """Everything up to the first byte that is missing."""
        self.ahead: dict[int, bytes] = {}
        """What came early, by its place."""

    def place(self, sequence: int) -> int:
        """Where a sequence number is; less than 0 if before the start."""
        place = sequence - self.start & _MASK
        return place if place < 1 << 31 else place - (1 << 32)

    def takes(self, place: int, data: bytes) -> bool:
        """Whether the receiver may take something of it."""
        return place + len(data) > 0 and place <= len(self.whole) + self.window

    def agrees(self, place: int, data: bytes) -> bool:
        """Whether bytes are equal to those that were seen in their place."""
        known = [(0, bytes(self.whole)), *self.ahead.items()]
        for at, other in known:
            begin, end = max(place, at), min(place + len(data), at + len(other))
            if begin < end and data[begin - place : end - place] != other[begin - at : end - at]:
                return False
        return True

    def add(self, place: int, data: bytes) -> int:
        """Keep them; the length of what was whole before."""
        before = len(self.whole)
        if len(self.ahead.get(place, b"")) < len(data):
            self.ahead[place] = data
        for at in sorted(self.ahead):
            if at > len(self.whole):
                break
            self.whole += self.ahead.pop(at)[len(self.whole) - at :]
        return before
