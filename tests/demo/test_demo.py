"""The demo: all of it happens, nothing stays behind, and a claim that is not so is seen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance_sdk.demo import scenes
from appliance_sdk.demo.show import Check, PlainShow
from appliance_sdk.demo.stage import open_stage

pytestmark = pytest.mark.anyone

README = Path(__file__).parents[2] / "README.md"
DEMO = [sys.executable, "-m", "appliance_sdk", "demo", "--plain"]
RUNS = 20 if os.environ.get("FULL") == "1" else 1


def claims(text: str) -> list[str]:
    """What the summary says happened."""
    return re.findall(r"^   ok   (.*?)  ", text.partition("== Summary")[2] or text, re.M)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes whose configuration lies in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.timeout(60 * RUNS)
def test_all_of_it_happens(tmp_path: Path) -> None:
    for _ in range(RUNS):
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            DEMO, text=True, capture_output=True, timeout=60, env=environment, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "all of it happened" in done.stdout
        assert "FAIL" not in done.stdout
        assert not processes_of(tmp_path)
        assert not list(tmp_path.iterdir())
    assert claims(README.read_text(encoding="utf-8")) == claims(done.stdout)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_behind_when_it_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, env=environment)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "every target passes" in line:
            break
    assert len(processes_of(tmp_path)) >= 9  # three appliances of three processes each
    demo.send_signal(end)
    demo.wait(15)
    demo.stdout.close()
    deadline = time.monotonic() + 10
    while (processes_of(tmp_path) or any(tmp_path.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes_of(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_claim_that_is_not_so_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    show = PlainShow(lines.append)
    monkeypatch.setattr(scenes, "SCENES", (scenes.comes_up, scenes.rejected))
    with open_stage(show) as stage:
        # Port 80 in the place of 23: it is allowed, so that the refusal cannot happen.
        monkeypatch.setattr(scenes, "TELNET", 80)
        checks = scenes.play(stage)
    assert [check.happened for check in checks] == [True, False, False]
    assert any(line.startswith("   FAIL telnet is refused with a reset") for line in lines)


def test_a_fleet_that_does_not_come_up_ends_the_demo() -> None:
    lines: list[str] = []
    show = PlainShow(lines.append)
    with open_stage(show) as stage:
        (stage.folder / "policy.toml").write_text("home = 5\n")
        for process in stage.processes.values():
            process.kill()
        stage.processes["fw-1"].start(stage.topology.targets("firewalls")[0])
        monkey_checks = list(scenes.comes_up(stage))
        assert monkey_checks == [
            Check(
                "The fleet comes up",
                "every target passes its health checks",
                False,
                monkey_checks[0].evidence,
            )
        ]
        assert any("policy.toml: home" in complaint for complaint in stage.complaints())
