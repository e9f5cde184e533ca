"""Parquet files are complete or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_appliances.analytics.line import lines_of
from reference_appliances.analytics.parquet import Parquet

from .conftest import flow_event, top_event

parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'appliance-sdk[parquet]'")
T = 1_795_451_482.0
LINES = [*lines_of(flow_event()), *lines_of(flow_event(2)), *lines_of(top_event())]


def test_both_kinds_of_records_come_back_as_they_were(tmp_path: Path) -> None:
    files = Parquet(tmp_path / "flows.parquet", 10_000, 0)
    files.write(LINES, now=T)
    assert list(tmp_path.iterdir()) == []
    files.close()
    flows = parquet.read_table(tmp_path / "flows-20261123T163122Z.parquet").to_pylist()
    (top,) = parquet.read_table(tmp_path / "flows-top-20261123T163122Z.parquet").to_pylist()
    assert [row["to_server_packets"] for row in flows] == [1, 2]
    assert flows[0]["start_epoch_s"] == T - 2.5
    assert flows[0]["direction_sure"] is True
    assert (top["place"], top["key"]) == (1, "vpce-1,10.0.0.1")


def test_a_file_is_written_when_it_is_large_or_old(tmp_path: Path) -> None:
    files = Parquet(tmp_path / "flows.parquet", 1000, 60)
    for number in range(5):  # some 450 bytes each
        files.write(lines_of(flow_event()), now=T + number)
    (first,) = tmp_path.iterdir()
    assert parquet.read_table(first).num_rows == 3
    files.write([], now=T + 100)
    assert sum(parquet.read_table(path).num_rows for path in tmp_path.iterdir()) == 5
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_written_is_kept_and_what_is_offered_again_is_not_doubled(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "not-yet"
    files = Parquet(folder / "flows.parquet", 1, 0)
    files.write(LINES[:1], now=T)
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            files.write(LINES[1:2], now=T)
    folder.mkdir()
    files.write(LINES[1:2], now=T)
    files.close()
    rows = [row for path in folder.iterdir() for row in parquet.read_table(path).to_pylist()]
    assert sorted(row["to_server_packets"] for row in rows) == [1, 2]


def test_what_a_kill_left_unfinished_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".flows.parquet.unfinished").write_bytes(b"PAR1 and then the lights went out")
    files = Parquet(tmp_path / "flows.parquet", 1, 0)
    files.write(LINES[:1], now=T)
    files.close()
    (path,) = tmp_path.iterdir()
    assert parquet.read_table(path).num_rows == 1
