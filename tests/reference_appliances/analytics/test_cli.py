"""`appliance analytics`, as it is called."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reference_appliances.analytics.cli import analytics
from reference_appliances.analytics.json_lines import JsonLines
from reference_appliances.analytics.line import lines_of

from .conftest import flow_event, top_event

OFFICE = str(files("reference_appliances.firewall") / "examples" / "office.pcap")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(analytics, [str(a) for a in arguments])


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    path = tmp_path / "flows.jsonl"
    events = [flow_event(n) for n in (1, 2, 3)]
    lines = [line for e in (*events, top_event()) for line in lines_of(e)]
    JsonLines(path, 10_000, 0).write(lines, now=1.0)
    return path


def test_three_tables_and_how_many_flows(flows: Path) -> None:
    done = call("top", flows)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "bytes   share  flows  endpoint",
        "720 B  100.0%      3  vpce-0a1b2c3d4e5f60718",
        "",
        "bytes   share  flows  application",
        "720 B  100.0%      3  tls",
        "",
        "bytes   share  flows  endpoint                client_ip",
        "720 B  100.0%      3  vpce-0a1b2c3d4e5f60718  10.0.0.1",
        "",
        "3 flows",
    ]


@pytest.mark.parametrize(
    ("sort", "line"),
    [
        ("bytes", "720 B  100.0%      3  443          a.example"),
        ("packets", "      9  100.0%      3  443          a.example"),
        ("flows", "    3  100.0%  443          a.example"),
    ],
)
def test_what_is_ranked_and_by_what(flows: Path, sort: str, line: str) -> None:
    done = call("top", "--by", "server_port,host", "--sort", sort, flows)
    assert done.stdout.splitlines()[1] == line


def test_several_files_are_added_up_and_bad_lines_counted(flows: Path) -> None:
    other = flows.with_name("other.jsonl")
    good = flows.read_bytes().splitlines()[0]
    other.write_bytes(good + b'\n{"record":"flow"}\n[' + b"[" * 5000 + b"\n\xff\n\n" + good[:50])
    done = call("top", "--by", "zone", flows, other)
    assert "4 flows" in done.stdout
    assert done.stderr == "4 lines are no records and were left out\n"


def test_a_table_is_no_wider_than_80_columns(flows: Path) -> None:
    text = flows.read_text().replace("10.0.0.1", "2001:0db8:1111:2222:3333:4444:5555:6666")
    flows.write_text(text)
    lines = call("top", flows).stdout.splitlines()
    assert max(map(len, lines)) == 80
    assert any("…" in line for line in lines)


def test_what_is_in_a_file_does_not_steer_the_terminal(flows: Path) -> None:
    flows.write_text(flows.read_text().replace("a.example", "\\u001b[2J\\u202e"))
    out = call("top", "--by", "host", flows).stdout
    assert "?[2J?" in out
    assert out.isascii()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere.jsonl"], "cannot be read: No such file"),
        (["/"], "cannot be read: Is a directory"),
        (["/dev/null"], "no flow is recorded there"),
        (["--by", "hots", "/dev/null"], "no field `hots` (did you mean `host`?)"),
    ],
)
def test_what_cannot_be_read_is_one_line(arguments: list[str], problem: str) -> None:
    done = call("top", *arguments)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_records_of_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    done = call("replay", OFFICE, path)
    assert done.exit_code == 0
    assert "378 forwarded + 0 dropped" in done.stdout
    assert "32 flows" in call("top", path).stdout


def test_records_that_cannot_be_written() -> None:
    done = call("replay", OFFICE, "/dev/full")
    assert done.exit_code == 2
    assert done.stderr == "Error: /dev/full: cannot be written: No space left on device\n"


def test_parquet_is_not_read_but_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert call("replay", OFFICE, tmp_path / "f.parquet", "--format", "parquet").exit_code == 0
    done = call("top", *tmp_path.iterdir())
    assert done.exit_code == 2
    assert "is a Parquet file (`top` reads JSON lines" in done.stderr
