"""The sink: records into files, in the supervisor process, where a disk may be slow or full."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from appliance_sdk import Event, PluginConfig, Sink
from reference_appliances.analytics.json_lines import JsonLines
from reference_appliances.analytics.line import lines_of


class FlowRecordsConfig(PluginConfig, frozen=True, kw_only=True):
    """The `[plugins.flow-records]` table."""

    path: str
    """Where the records go; a file that is complete has its time before the suffix."""
    format: Literal["json", "parquet"] = "json"
    """JSON lines, or Parquet: smaller, for data lakes, needs pyarrow."""
    rotate_bytes: int = 64 * 1024 * 1024
    """A file is complete with so many bytes of records, as JSON; Parquet holds them in memory."""
    rotate_s: float = 3600
    """Or after so long, as far as anything is written then; 0: only by size."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("`path` is empty")
        if self.rotate_bytes < 1 or self.rotate_s < 0:
            raise ValueError("`rotate_bytes` and `rotate_s` must not be less than 1 and 0")
        if self.format == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise ValueError("Parquet needs pyarrow: pip install 'appliance-sdk[parquet]'")


class FlowRecords(Sink):
    """Writes flow records and top talkers, and nothing else, to files.

    If that fails, the SDK offers the same events again and says so once; what does not fit into
    its queue meanwhile is counted. No packet waits for that.
    """

    config: FlowRecordsConfig

    def __init__(self, config: FlowRecordsConfig | None = None) -> None:
        super().__init__(config)
        config = self.config
        if config.format == "parquet":
            from reference_appliances.analytics.parquet import Parquet

            self._files: JsonLines | Parquet = Parquet(
                Path(config.path), config.rotate_bytes, config.rotate_s
            )
        else:
            self._files = JsonLines(Path(config.path), config.rotate_bytes, config.rotate_s)

    def write(self, events: Sequence[Event]) -> None:
        """Write what is for us, all of it or (OSError) nothing."""
        lines = [line for event in events for line in lines_of(event)]
        # Other events are welcome, too: at least `stats` come now and then, and files grow old.
        self._files.write(lines, now=events[-1].timestamp)

    def close(self) -> None:
        """Write what is held back."""
        self._files.close()
