"""`appliance bench`: what it does is the same everywhere; how long it takes decides no test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance_sdk.cli.bench import Result, bench, report
from appliance_sdk.harness.workload import Connections, RoundTrips, Work


def test_every_round_trip_is_made() -> None:
    assert RoundTrips(250, flows=100).run() == Work(packets=250, flows=100, left=100)


def test_every_connection_lives_and_ends() -> None:
    work = Connections(hours=0.2).run()  # more than the clients that take turns
    assert (work.packets, work.flows) == (6 * 3600, 3600)
    assert work.left <= 10  # those that closed within the last two seconds


def test_the_figures_are_shown_and_written(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    options = ["--packets", "200", "--hours", "0.01", "--repeats", "3", "--json"]
    done = CliRunner().invoke(bench, ["harness", *options, str(path)])
    data = json.loads(path.read_text())
    assert [target["name"] for target in data["targets"]] == [
        "round trips",
        "0.01 hours, 5 flows/s",
    ]
    assert all(len(target["runs"]) == 3 for target in data["targets"])
    assert "round trips" in done.output
    assert done.exit_code == (0 if all(target["ok"] for target in data["targets"]) else 1)
    out = CliRunner().invoke(bench, ["harness", *options, "-"]).output
    assert json.loads(out)["scenario"] == "harness"


@pytest.mark.parametrize(
    ("at_least", "runs", "code"),
    [
        (True, [90.0, 110.0, 400.0], 0),
        (True, [50.0, 90.0, 400.0], 1),
        (False, [90.0, 10.0, 4.0], 0),
        (False, [200.0, 110.0, 4.0], 1),
    ],
)
def test_the_median_decides(
    at_least: bool, runs: list[float], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Result("speed", "1/s", 100.0, at_least, runs)
    if code:
        with pytest.raises(SystemExit, match="1"):
            report("made up", [result], None)
    else:
        report("made up", [result], None)
    assert ("too slow" in capsys.readouterr().out) is bool(code)


def test_nothing_cannot_be_measured() -> None:
    done = CliRunner().invoke(bench, ["harness", "--repeats", "0"])
    assert done.exit_code == 2
    assert "must be more than nothing" in done.output
