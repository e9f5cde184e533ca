"""Record files, read again: line by line, in bounded memory, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance_sdk import ConfigError
from reference_appliances.analytics.line import FlowLine, Line

LONGEST_LINE = 65536
_decode = msgspec.json.Decoder(Line).decode


@dataclass
class Unreadable:
    """Counts lines that are no records: a crash leaves one, another file many."""

    lines: int = 0


def read_flows(path: Path, unreadable: Unreadable) -> Iterator[FlowLine]:
    """The flows of a file of JSON lines. Raises ConfigError if it cannot be read."""
    try:
        with path.open("rb") as file:
            if file.peek(4)[:4] == b"PAR1":
                hint = "`top` reads JSON lines; DuckDB, pandas or Spark read this"
                raise ConfigError("is a Parquet file", path=str(path), hint=hint)
            while data := file.readline(LONGEST_LINE):
                try:
                    line = _decode(data)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    unreadable.lines += bool(data.strip())
                    continue
                if isinstance(line, FlowLine):
                    yield line
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from error
