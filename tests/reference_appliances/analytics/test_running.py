"""The whole of it as a process: packets over UDP, records in a file, a disk that is full."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance_sdk.wire.build import build_udp
from appliance_sdk.wire.geneve import build_geneve

_NET = f"127.{180 + os.getpid() % 60}.{os.getpid() // 60 % 250}"
APPLIANCE, NODE = f"{_NET}.20", f"{_NET}.11"


class Running:
    """`appliance run` with analytics, and a node that sends to it."""

    def __init__(self, folder: Path, path: Path) -> None:
        config = folder / "appliance.toml"
        config.write_text(
            'origins = ["127.0.0.0/8"]\n'
            'enable = ["reference_appliances.analytics:Analytics", '
            '"reference_appliances.analytics:FlowRecords"]\n'
            f'[listen]\naddresses = ["{APPLIANCE}"]\nraw = false\n'
            "[events]\nqueue = 10\n[health]\nenabled = false\n"
            "[drain]\nsettle_s = 0\nquiet_s = 0\n"
            f'[plugins.flow-records]\npath = "{path}"\n'
            "[plugins.analytics]\nperiod_s = 1\n"
            "[engine]\nother_idle_s = 0.2\nidle_margin_s = 0\nhalf_open_s = 0.2\n"
        )
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "appliance_sdk", "run", str(config)]
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=folder)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((NODE, 0))
        self._answers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._answers.bind((NODE, 6081))
        self._answers.settimeout(0.5)

    def passes(self, source_port: int) -> bool:
        """Send a question of DNS: whether it comes back as it was."""
        inner = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", source_port, 53, payload=b"?")
        data = build_geneve(1, 7) + inner
        self._socket.sendto(data, (APPLIANCE, 6081))
        try:
            return self._answers.recv(9000) == data
        except TimeoutError:
            return False

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def until_logged(self, event: str) -> None:
        """Wait for a log line."""
        deadline = time.monotonic() + 20
        while not self.logged(event):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def end(self) -> None:
        """Stop in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0

    def clean(self) -> None:
        """End what is left."""
        self._socket.close()
        self._answers.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    path = getattr(request, "param", tmp_path / "flows.jsonl")
    running = Running(tmp_path, path)
    try:
        running.until_logged("appliance.started")
        yield running
    finally:
        running.clean()


def test_records_and_rankings_of_a_running_appliance(run: Running, tmp_path: Path) -> None:
    began = time.time()
    assert all(run.passes(port) for port in range(4000, 4003))
    run.until_logged("plugin.said")
    assert run.passes(5000)
    run.end()
    lines = [json.loads(line) for line in (tmp_path / "flows.jsonl").read_text().splitlines()]
    flows = [line for line in lines if line["record"] == "flow"]
    assert {flow["client_port"] for flow in flows} == {4000, 4001, 4002, 5000}
    assert {flow["application"] for flow in flows} == {"dns"}
    assert {flow["endpoint"] for flow in flows} == {"vpce-00000000000000001"}
    assert all(began - 1 <= flow["start_epoch_s"] <= time.time() + 1 for flow in flows)
    assert any(line["record"] == "top" and line["key"] == "dns" for line in lines)
    said = run.logged("plugin.said")[0]
    assert (said["plugin"], said["message"]) == ("analytics", "top talkers")


@pytest.mark.parametrize("run", ["/dev/full"], indirect=True)
def test_a_full_disk_stops_no_packet_and_is_said_once(run: Running) -> None:
    passed = [run.passes(port) for port in range(4000, 4030)]
    run.until_logged("sink.failed")
    passed += [run.passes(port) for port in range(5000, 5030)]
    assert all(passed)
    run.end()
    (failed,) = run.logged("sink.failed")
    assert (failed["sink"], failed["level"]) == ("FlowRecords", "warning")
    assert "No space left" in failed["error"]
    assert not run.logged("worker.died")
