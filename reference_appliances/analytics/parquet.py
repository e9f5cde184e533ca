"""Parquet files: each is complete, or is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from reference_appliances.analytics.json_lines import free_name
from reference_appliances.analytics.line import FlowLine, Line, TopLine

_decode = msgspec.json.Decoder(Line).decode


class Parquet:
    """Gathers records, and writes a file when they are many or old.

    `flows.parquet` stands for `flows-TIME.parquet` and, for the rankings, `flows-top-TIME.parquet`.
    A kill loses what is gathered; no file is ever seen half written.
    """

    def __init__(self, path: Path, rotate_bytes: int, rotate_s: float) -> None:
        self._tables = [
            _Table(path, FlowLine, rotate_bytes, rotate_s),
            _Table(path.with_stem(f"{path.stem}-top"), TopLine, rotate_bytes, rotate_s),
        ]

    def write(self, lines: Sequence[Line], *, now: float) -> None:
        """Take lines: all of them, or (OSError) none. `now`: seconds since the epoch."""
        for table in self._tables:
            table.flush_if_due(now)
        for table in self._tables:
            table.take(lines, now)

    def close(self) -> None:
        """Write what is gathered. Raises OSError, and it is lost, if that cannot be."""
        for table in self._tables:
            table.flush()


class _Table:
    """One kind of record. Gathered as JSON, which takes a fifth of the memory of objects."""

    def __init__(
        self, path: Path, kind: type[FlowLine | TopLine], rotate_bytes: int, rotate_s: float
    ) -> None:
        self._path = path
        self._kind = kind
        self._rotate_bytes = rotate_bytes
        self._rotate_s = rotate_s
        self._gathered: list[bytes] = []
        self._bytes = 0
        self._since = self._now = 0.0

    def take(self, lines: Sequence[Line], now: float) -> None:
        """Gather the lines that are of this kind."""
        self._now = now
        if not self._gathered:
            self._since = now
        for line in lines:
            if isinstance(line, self._kind):
                self._gathered.append(msgspec.json.encode(line))
                self._bytes += len(self._gathered[-1])

    def flush_if_due(self, now: float) -> None:
        """Write a file if there is enough for one, or something old."""
        self._now = now
        old = 0 < self._rotate_s <= now - self._since
        if self._bytes >= self._rotate_bytes or old:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered to a file of a name of its own, and only then to its place."""
        if not self._gathered:
            return
        import pyarrow
        import pyarrow.parquet

        rows = [msgspec.to_builtins(_decode(line)) for line in self._gathered]
        table = pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow, self._kind))
        unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        with unfinished.open("wb") as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(free_name(self._path, self._now))
        self._gathered = []
        self._bytes = 0


def _schema(pyarrow: Any, kind: type[msgspec.Struct]) -> Any:
    types = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    fields = msgspec.structs.fields(kind)
    return pyarrow.schema([(field.name, types[field.type]) for field in fields])
