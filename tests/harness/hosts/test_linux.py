"""The simulated host against the kernel's TCP, UDP and ICMP, and against curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "support" / "tun_hosts.py"


def _can() -> bool:
    if os.geteuid() or not all(map(shutil.which, ("unshare", "ip", "curl"))):
        return False
    command = ["unshare", "-n", "ip", "tuntap", "add", "t0", "mode", "tun"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("loss", ["0", "0.03"])
def test_linux_and_the_simulated_host_understand_each_other(loss: str) -> None:
    if not _can():
        pytest.skip("needs root, network namespaces, /dev/net/tun, ip and curl")
    command = ["unshare", "-n", sys.executable, str(_SCRIPT), loss]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        **dict.fromkeys(("echo4", "echo6", "refused4", "refused6", "curl", "to4", "to6"), True),
        **dict.fromkeys(("udp4", "udp6"), "whole"),
        **dict.fromkeys(("closed4", "closed6"), "refused"),
        "dropped": 0,
    }
