"""The fixtures as a vendor's own test suite has them: ten lines, memory and UDP."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from inner_pytest import run_pytest

from appliance_sdk.wire.pcapng import read_pcapng

ECHO = Path(__file__).parents[1] / "support" / "echo_appliance.py"

NO_TELNET = """
from appliance_sdk import Appliance, Verdict

class NoTelnet(Appliance):
    def flow_opened(self, flow):
        return Verdict.REJECT if flow.server_port == 23 else Verdict.DONE
"""

FIRST_TEST = """\
import pytest
from no_telnet import NoTelnet

@pytest.fixture
def appliance():
    return NoTelnet

def test_telnet_is_refused(flow_factory):
    assert flow_factory.tcp(23).reset
    assert flow_factory.tcp(80).client_sends(b"GET / HTTP/1.1")
"""


def run_vendor(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    return run_pytest(folder, *options, no_telnet=NO_TELNET, **files)


def test_a_first_harness_test_has_ten_lines() -> None:
    assert len(FIRST_TEST.splitlines()) <= 10


@pytest.mark.parametrize("plane", ["memory", "udp"])
def test_it_passes_in_memory_and_over_udp(tmp_path: Path, plane: str) -> None:
    done = run_vendor(tmp_path, f"--gwlb-plane={plane}", test_it=FIRST_TEST)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    said = "gwlb: over UDP, its clock 5 times as fast as the real one"
    assert (said in done.stdout) is (plane == "udp")


def test_one_parameter_runs_both(tmp_path: Path) -> None:
    both = FIRST_TEST.replace(
        "def test_", '@pytest.mark.parametrize("gwlb_plane", ["memory", "udp"])\ndef test_'
    )
    done = run_vendor(tmp_path, "-v", test_it=both)
    assert "test_telnet_is_refused[memory] PASSED" in done.stdout, done.stdout
    assert "test_telnet_is_refused[udp] PASSED" in done.stdout, done.stdout


def test_without_an_appliance_it_says_what_to_write(tmp_path: Path) -> None:
    done = run_vendor(tmp_path, test_it="def test_it(gwlb): ...")
    assert done.returncode == 1
    assert "define a fixture `appliance` that returns your appliance" in done.stdout


def test_a_failed_test_leaves_a_capture(tmp_path: Path) -> None:
    wrong = FIRST_TEST.replace("tcp(23).reset", "tcp(23).opened")
    done = run_vendor(tmp_path, f"--basetemp={tmp_path / 'base'}", test_it=wrong)
    assert done.returncode == 1
    assert "between load balancer and appliance" in done.stdout
    assert "tcp 10.0.1.10:23 -> 203.0.113.10" in done.stdout
    path = tmp_path / "base" / "gwlb0" / "gwlb.pcapng"
    assert str(path) in done.stdout
    blocks = list(read_pcapng(io.BytesIO(path.read_bytes())))
    assert {"client", "igw", "gwlb", "appliance-1"} <= {block.interface for block in blocks}
    assert any("kept by the appliance" in comment for b in blocks for comment in b.comments)


def test_a_failed_test_says_what_its_topology_cannot_do(tmp_path: Path) -> None:
    changed = (
        FIRST_TEST
        + """

@pytest.fixture
def gwlb_topology():
    import msgspec
    from appliance_sdk.harness import shipped_topology

    simple = shipped_topology("simple")
    vpc = msgspec.structs.replace(simple.vpcs["vpc"], edge_routes="")
    return msgspec.structs.replace(simple, vpcs={"vpc": vpc})
"""
    )
    done = run_vendor(tmp_path, test_it=changed)
    assert done.returncode == 1
    assert "- the topology -" in done.stdout
    assert "vpcs.vpc.edge_routes: no edge route for 10.0.1.0/24: " in done.stdout


def test_an_appliance_in_any_language(tmp_path: Path) -> None:
    test = f"""
import pytest, sys
from appliance_sdk.testing import Subprocess

@pytest.fixture
def appliance():
    return Subprocess([sys.executable, {str(ECHO)!r}, "{{address}}", "{{health_port}}"])

def test_echo(flow_factory, gwlb, capture):
    flow = flow_factory.udp(53)
    assert flow.client_sends(b"a question") and flow.server_sends(b"an answer")
    assert flow.client_received == [b"an answer"]
    assert not gwlb.drops
    assert len(capture.to_target) == len(capture.from_target) == 2
    sent, came = capture.to_target, capture.from_target
    assert {{one.header for one in sent}} == {{one.header for one in came}}
"""
    done = run_vendor(tmp_path, "--gwlb-plane=udp", test_it=test)
    assert done.returncode == 0, done.stdout
    refused = run_vendor(tmp_path, test_it=test)
    assert "Subprocess runs outside this process: use --gwlb-plane=udp" in refused.stdout


def test_the_wrong_kind_of_appliance_is_one_line(tmp_path: Path) -> None:
    test = "import pytest\n@pytest.fixture\ndef appliance(): return 42\ndef test_it(gwlb): ..."
    done = run_vendor(tmp_path, "--gwlb-plane=udp", test_it=test)
    assert "`appliance` is a int: neither a plugin nor what runs one" in done.stdout


def test_it_costs_other_test_suites_nothing() -> None:
    code = "import sys, appliance_sdk.testing.pytest_plugin; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, timeout=60, check=True
    )
    for heavy in ("h11", "click", "structlog", "appliance_sdk.harness", "appliance_sdk.engine"):
        assert heavy not in done.stdout.split()
