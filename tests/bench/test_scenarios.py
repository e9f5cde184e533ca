"""The command, as small as it can be; how long anything takes decides no test."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from small_lab import TINY, why_no_namespaces

from appliance_sdk.bench import engine_cost, growth, in_process, lab
from appliance_sdk.bench.ebpf import load_xdp
from appliance_sdk.bench.figures import Result, Series, target_of
from appliance_sdk.bench.hairpin import hairpin
from appliance_sdk.bench.report import run_scenarios
from appliance_sdk.bench.scenarios import SCENARIOS, Scenario
from appliance_sdk.cli.bench import bench
from appliance_sdk.errors import ApplianceError, HarnessError

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, in no time."""
    monkeypatch.setattr(lab, "QUICK", TINY)
    monkeypatch.setattr(in_process, "CASES", ("bypassed", "one handler"))

    def run(*arguments: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(bench, arguments)

    return run


def test_the_scenarios_are_listed(run: Run) -> None:
    lines = run("--list").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [scenario.name for scenario in SCENARIOS]
    assert {line.split()[0] for line in lines if " root " in line} == {
        scenario.name for scenario in SCENARIOS if scenario.needs_root
    }


def test_a_name_that_is_almost_right_is_helped() -> None:
    done = click.testing.CliRunner().invoke(bench, ["groth"])
    assert isinstance(done.exception, ApplianceError)
    assert "no scenario 'groth' (did you mean `growth`?)" in str(done.exception)


@pytest.mark.anyone
def test_without_a_network_figures_are_shown_and_written(run: Run, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("figures.json", "chart.svg", "page.md")]
    options = [
        word
        for option, path in zip(("--json", "--svg", "--page"), paths, strict=True)
        for word in (option, str(path))
    ]
    done = run("engine", "growth", "harness", "--quick", *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    data = json.loads(paths[0].read_text())
    targets = {target["name"]: target for target in data["targets"]}
    assert set(targets) == {
        "memory of a TCP flow, 2,000 of them",
        "stop between two batches, p99.99",
        "round trips",
        "0.01 hours, 5 flows/s",
    }
    assert done.exit_code == (0 if all(one["ok"] for one in targets.values()) else 1)
    assert [result["scenario"] for result in data["results"]] == ["engine", "growth", "harness"]
    cases = {row["name"]: row["values"] for row in data["results"][0]["rows"]}
    assert set(cases) == {"bypassed", "one handler"}
    assert all(len(values["CPU us/packet"]["runs"]) == 2 for values in cases.values())
    assert data["conditions"]["python"] in done.output
    assert "round trips" in done.output
    assert "| round trips | at least 60k 1/s |" in paths[2].read_text()
    assert "chart.svg" not in paths[2].read_text()
    assert not paths[1].exists()
    assert "chart.svg: not written" in done.stderr  # nothing with a rate of packets


def test_what_misses_a_goal_is_measured_once_more_and_says_so() -> None:
    measured = iter([(50.0, 8.0), (41_000.0, 11.0)])

    def scenario(_lab: lab.Lab) -> Result:
        rate, stop = next(measured)
        targets = [
            target_of("rate", Series("1/s", (rate,)), 40_000),
            target_of("stop", Series("ms", (stop,)), 10, at_least=False),
        ]
        return Result("storm", "", [], targets, ["a note"])

    with lab.Lab(TINY) as small:
        report = run_scenarios(small, [Scenario("storm", "", scenario, False)])
    assert report.ok
    (result,) = report.results
    assert [target.measured for target in result.targets] == [41_000.0, 8.0]
    assert result.notes == ["a note", "measured twice, the first time: rate: 50 1/s"]


def test_what_misses_a_goal_twice_has_missed_it() -> None:
    measured = iter([3.0, 2.0, 5.0])

    def scenario(_lab: lab.Lab) -> Result:
        return Result("growth", "", [], [target_of("x", Series("", (next(measured),)), 4.0)])

    with lab.Lab(TINY) as small:
        report = run_scenarios(small, [Scenario("growth", "", scenario, False)])
    assert not report.ok
    assert next(measured) == 5.0


def test_json_on_standard_output_stands_alone(run: Run) -> None:
    assert json.loads(run("harness", "--quick", "--json", "-").stdout)["results"]


def test_a_file_that_cannot_be_written_is_named(run: Run) -> None:
    done = run("harness", "--quick", "--json", "/proc/nothing.json")
    assert isinstance(done.exception, HarnessError)
    assert "/proc/nothing.json: " in str(done.exception)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_without_root_it_says_what_to_do(run: Run) -> None:
    done = run("workers", "--quick")
    assert isinstance(done.exception, HarnessError)
    assert "needs root" in str(done.exception)


@pytest.mark.anyone
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ended_before_its_time_it_leaves_nothing(tmp_path: Path, end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "appliance_sdk", "bench", "engine"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as running:
        try:
            deadline = time.monotonic() + 30
            # By name: tempfile tries the folder with a file of its own before.
            while not any(tmp_path.glob("bench-*")) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert any(tmp_path.glob("bench-*"))
            running.send_signal(end)
            assert running.wait(30) in (130, 143)
        finally:
            running.kill()
    assert not list(tmp_path.iterdir())


def data_path(run: Run, tmp_path: Path, scenario: str, *options: str) -> dict[str, object]:
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)
    path, chart = tmp_path / "figures.json", tmp_path / "chart.svg"
    done = run(scenario, "--quick", "--json", str(path), "--svg", str(chart), *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (0, 1)
    data: dict[str, object] = json.loads(path.read_text())
    results = data["results"]
    assert isinstance(results, list)
    assert [result["scenario"] for result in results] == [scenario, "checker"]
    checked, whole, wrong = (row["values"]["count"]["median"] for row in results[1]["rows"])
    assert checked > 0
    assert wrong == 0
    assert whole >= checked // 1000
    assert scenario == "light" or chart.read_text().startswith("<svg")
    assert chart.exists() or "chart.svg: not written" in done.stderr
    return data


@pytest.mark.parametrize(
    ("scenario", "rows", "targets"),
    [
        ("handlers", 8, 5),
        ("light", 5, 0),
        ("protocols", 4, 0),
        ("sizes", 8, 0),
        ("flows", 3, 1),
        ("storm", 3, 1),
        ("workers", 2, 1),
        ("overload", 6, 4),
    ],
)
def test_the_data_path_is_measured(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    rows: int,
    targets: int,
) -> None:
    monkeypatch.setattr("appliance_sdk.bench.scale.SOME", 1500)
    monkeypatch.setattr(lab, "QUICK", TINY._replace(thorough=True))
    data = data_path(run, tmp_path, scenario)
    results, found = data["results"], data["targets"]
    assert isinstance(results, list)
    assert isinstance(found, list)
    no_bpf = any("hairpin" in note for note in results[0]["notes"])
    assert len(results[0]["rows"]) == rows - no_bpf
    assert len(found) == targets + 1  # that no reply is wrong
    assert all({"name", "goal", "measured", "ok"} <= set(target) for target in found)
    for row in results[0]["rows"]:
        for series in row["values"].values():
            assert all(value >= 0 for value in series["runs"])
            assert scenario != "light" or all(row["values"]["p50 us"]["runs"])  # some reply came


def test_it_goes_without_a_compiler(run: Run, tmp_path: Path) -> None:
    data = data_path(run, tmp_path, "workers", "--generator", "python")
    conditions = data["conditions"]
    assert isinstance(conditions, dict)
    assert conditions["generator"] == "Python (as asked for)"


@pytest.mark.anyone
def test_an_engine_grows_and_its_flows_expire() -> None:
    grown = growth.measure(1000)
    assert grown.flows == 1000
    assert grown.batches == math.ceil(3000 / 64) + math.ceil((1500 + 100_000) / 64)
    assert grown.expired > 0
    for median, late, longest in (grown.growing_us, grown.holding_us):
        assert 0 < median <= late <= longest


@pytest.mark.parametrize("case", engine_cost.CASES)
def test_the_engine_forwards_what_it_is_measured_with(case: str) -> None:
    assert engine_cost.Judging(engine_cost.CASES[case], 640).run(640) > 0


def test_the_hairpin_has_one_way_out_for_all_else() -> None:
    code = hairpin("10.200.1.7")
    jumps = [(at, one) for at, one in enumerate(code) if one.offset and one.code in (0x2D, 0x56)]
    assert {at + 1 + one.offset for at, one in jumps} == {len(code) - 2}
    assert code[-2].given == 2  # XDP_PASS
    assert all(len(one.encode()) == 8 for one in code)


def test_the_kernel_says_what_it_has_against_a_program() -> None:
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)
    try:
        os.close(load_xdp(hairpin("10.200.1.7")))
    except HarnessError as error:
        pytest.skip(f"no BPF here: {error}")
    with pytest.raises(HarnessError, match=r"BPF: .*: "):
        load_xdp(hairpin("10.200.1.7")[:-1])  # it does not end
