"""JSON lines in a file that is renamed when it is large or old."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from reference_appliances.analytics.line import Line


class JsonLines:
    """Appends to `path`. Nothing is held open or in memory between two batches."""

    def __init__(self, path: Path, rotate_bytes: int, rotate_s: float) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._rotate_s = rotate_s
        self._since: float | None = None
        self._encoder = msgspec.json.Encoder()

    def write(self, lines: Sequence[Line], *, now: float) -> None:
        """Append lines: all of them, or (OSError) none. `now`: seconds since the epoch."""
        self._rotate(now)
        if not lines:
            return
        if self._since is None:
            self._since = now
        append(self._path, self._encoder.encode_lines(lines))

    def close(self) -> None:
        """There is nothing to do."""

    def _rotate(self, now: float) -> None:
        old = self._since is not None and 0 < self._rotate_s <= now - self._since
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            self._since = None
            return
        if size >= self._rotate_bytes or (old and size):
            self._path.rename(free_name(self._path, now))
            self._since = None


def append(path: Path, data: bytes) -> None:
    """Append to a file, whole or not at all; a line that a crash has cut is ended first."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            data = b"\n" + data
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
        except OSError:
            with contextlib.suppress(OSError):  # a device has no size
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def free_name(path: Path, now: float) -> Path:
    """`flows.jsonl` as `flows-20261123T190720Z.jsonl`, or the next one that is not taken."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = path.with_name(f"{path.stem}-{stamp}{path.suffix}")
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.stem}-{stamp}-{number}{path.suffix}")
    return name
