"""Temporary folders are gone with the program that made them, however it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance_sdk.harness.scratch import scratch_folder

PROGRAM = """
import sys
from appliance_sdk.harness.scratch import scratch_folder

with scratch_folder("mine-") as folder:
    (folder / "deeper").mkdir()
    (folder / "deeper" / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_it_is_gone_when_the_block_ends() -> None:
    with scratch_folder("mine-") as folder:
        assert folder.is_dir()
        assert folder.name.startswith("mine-")
        (folder / "file").write_text("x")
    assert not folder.exists()


def test_it_is_gone_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder("mine-") as folder:
        raise ZeroDivisionError
    assert not folder.exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_is_gone_when_the_program_is_ended(end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        folder = Path(program.stdout.readline().strip())
        assert (folder / "deeper" / "file").exists()
        program.send_signal(end)
        assert program.wait(30) != 0
    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not folder.exists()
