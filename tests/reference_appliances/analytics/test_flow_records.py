"""The sink: what it takes, and what becomes of it when the disk does not."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance_sdk import Alert, ConfigError, decode_config
from appliance_sdk.server.sinks import SinkThread
from reference_appliances.analytics import FlowRecords, FlowRecordsConfig

from .conftest import flow_event, top_event


def test_it_takes_its_own_records_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    sink = FlowRecords(FlowRecordsConfig(path=str(path)))
    sink.write([Alert(message="m"), flow_event(), top_event()])
    sink.write([Alert(message="m")])
    sink.close()
    assert path.read_text().count("\n") == 2


def test_a_full_disk_is_said_once_and_the_rest_is_counted() -> None:
    said: list[str] = []
    failed = threading.Event()

    def log(name: str, **fields: Any) -> None:
        said.append(f"{name} {fields['error']}")
        failed.set()

    thread = SinkThread(FlowRecords(FlowRecordsConfig(path="/dev/full")), 10, log)
    for number in range(50):
        thread.put(flow_event(number))
    assert failed.wait(20)
    for number in range(50):
        thread.put(flow_event(number))
    thread.stop(20)
    assert said == ["sink.failed [Errno 28] No space left on device"]
    assert thread.written == 0
    assert 90 <= thread.lost <= 100


def test_a_folder_that_comes_late_gets_everything(tmp_path: Path) -> None:
    path = tmp_path / "later" / "flows.jsonl"
    said: list[str] = []
    failed, recovered = threading.Event(), threading.Event()

    def log(name: str, **fields: Any) -> None:
        said.append(name)
        (failed if name == "sink.failed" else recovered).set()

    thread = SinkThread(FlowRecords(FlowRecordsConfig(path=str(path))), 10, log)
    for number in range(5):
        thread.put(flow_event(number))
    assert failed.wait(20)
    path.parent.mkdir()
    assert recovered.wait(20)
    thread.stop(20)
    assert said == ["sink.failed", "sink.recovered"]
    assert path.read_text().count("\n") == 5


def test_parquet_without_pyarrow_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        decode_config(
            {"path": "flows.parquet", "format": "parquet"},
            FlowRecordsConfig,
            path="appliance.toml",
            key="plugins.flow-records",
        )
    assert str(caught.value) == (
        "appliance.toml: plugins.flow-records: "
        "parquet needs pyarrow: pip install 'appliance-sdk[parquet]'"
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "path: is missing"),
        ({"path": ""}, "`path` is empty"),
        ({"path": "x", "format": "csv"}, "invalid enum value"),
        ({"path": "x", "rotate_bytes": 0}, "`rotate_bytes`"),
        ({"path": "x", "rotate_s": -1}, "`rotate_s`"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        decode_config(settings, FlowRecordsConfig, key="plugins.flow-records")
