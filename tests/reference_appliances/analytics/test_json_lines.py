"""Files of JSON lines: nothing twice, nothing half, renamed when it is time."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reference_appliances.analytics.json_lines import JsonLines, append, free_name
from reference_appliances.analytics.line import lines_of

from .conftest import flow_event, top_event

T = 1_795_451_482.0
FLOW = lines_of(flow_event())


def test_a_line_is_flat_and_says_its_units(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    JsonLines(path, 10_000, 0).write([*FLOW, *lines_of(top_event())], now=T)
    flow, top = map(json.loads, path.read_text().splitlines())
    assert flow["record"] == "flow"
    assert (flow["start_epoch_s"], flow["end_epoch_s"]) == (T - 2.5, T - 0.5)
    assert flow["endpoint"] == "vpce-0a1b2c3d4e5f60718"
    assert flow["to_server_bytes"] == 100
    assert (top["record"], top["fields"], top["key"]) == (
        "top",
        "endpoint,client_ip",
        "vpce-1,10.0.0.1",
    )
    assert all(not isinstance(value, dict | list) for value in (flow | top).values())


def test_large_files_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    files = JsonLines(path, 600, 0)
    for number in range(6):
        files.write(FLOW, now=T + number)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [
        "flows-20261123T163124Z.jsonl",
        "flows-20261123T163126Z.jsonl",
        "flows.jsonl",
    ]
    assert sum(p.read_text().count("\n") for p in tmp_path.iterdir()) == 6


def test_old_files_are_renamed_although_nothing_new_comes(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    files = JsonLines(path, 10_000, 60)
    files.write([], now=T)
    files.write(FLOW, now=T + 100)
    files.write([], now=T + 159)
    assert path.exists()
    files.write([], now=T + 160)
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_no_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    files = JsonLines(path, 1, 0)
    for _ in range(4):
        files.write(FLOW, now=T)
    assert len(list(tmp_path.iterdir())) == 4
    assert free_name(path, T).name == "flows-20261123T163122Z-4.jsonl"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    files = JsonLines(path, 10_000, 0)
    files.write(FLOW, now=T)
    path.rename(tmp_path / "other")
    files.write(FLOW, now=T)
    assert path.read_text().count("\n") == 1


def test_a_line_that_was_cut_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    path.write_text('{"record":"flow","sta')
    append(path, b"{}\n")
    assert path.read_text().splitlines()[1] == "{}"


def test_a_full_disk_keeps_no_half_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    append(path, b"a" * 99 + b"\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            append(path, b"b" * 100 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"a" * 99 + b"\n"


def test_a_kill_leaves_whole_lines_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from reference_appliances.analytics.json_lines import append\n"
        "while True: append(Path(sys.argv[1]), b'0123456789' * 10 + b'\\n')\n"
    )
    path = tmp_path / "flows.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 10_000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert path.stat().st_size >= 10_000
    assert {len(line) for line in path.read_bytes().split(b"\n")} == {100, 0}
