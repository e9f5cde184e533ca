"""An appliance of several processes is asked the same, and answers as one."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.harness import Subprocess

FULL = os.environ.get("FULL") == "1"
SHORT = (Profile.TRANSPORT, Profile.FLOW)
LONG = (*SHORT, Profile.HEALTH, Profile.OPERATIONS)

APPLIANCE = '''
import os, sys, tempfile
from appliance_sdk import Appliance, Verdict

class Forwards(Appliance):
    """Lets everything pass."""
    def flow_opened(self, flow):
        return Verdict.DONE

CONFIG = """
origins = ["{origins}"]
workers = {workers}
[listen]
addresses = ["{address}"]
raw = {raw}
[health]
address = "{address}"
port = {port}
[drain]
settle_s = 0
deadline_s = 5
[events]
file = "{events}"
"""

if __name__ == "__main__":
    workers, raw, address, port, origins = sys.argv[1:]
    with tempfile.NamedTemporaryFile("w", suffix=".toml", dir=".", delete=False) as file:
        file.write(CONFIG.format(**globals(), events=os.environ["CONFORMANCE_EVENTS"]))
    sys.argv = ["forwards", "run", file.name]
    Forwards.main()
'''


@pytest.fixture(params=["raw", pytest.param("ports", marks=pytest.mark.anyone)])
def raw(request: pytest.FixtureRequest) -> bool:
    """Once with raw sockets, where they are permitted, once without."""
    if request.param == "raw":
        try:
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
        except PermissionError:
            pytest.skip("raw sockets want CAP_NET_RAW")
    return bool(request.param == "raw")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("workers", [1, 2, 4] if FULL else [4])
def test_workers_together_are_one_appliance(
    workers: int, raw: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "forwards.py"
    script.write_text(APPLIANCE)
    places = ["{address}", "{health_port}", "{origins}"]
    command = [sys.executable, str(script), str(workers), str(raw).lower(), *places]
    profiles = LONG if FULL else SHORT
    cases = [case for case in all_cases().values() if case.profile in profiles]
    features = Features(origins=True, drain=True, every_source_port=raw)
    door = open_door(Subprocess(command))
    try:
        results = run_cases(cases, door, features)
    finally:
        door.close()
    allowed = (Outcome.PASS, Outcome.UNSUPPORTED)
    assert [(r.case.id, r.detail) for r in results if r.outcome not in allowed] == []
    assert sum(one.outcome is Outcome.PASS for one in results) > 95
