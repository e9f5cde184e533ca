"""Appliances in a network namespace of their own: raw sockets, devices, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from inner_pytest import run_pytest

from appliance_sdk.cli.conformance import conformance
from appliance_sdk.conformance import Subprocess
from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.namespaces import Namespace

pytestmark = pytest.mark.timeout(300)  # a busy machine takes its time

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
BAD = [sys.executable, str(HERE / "bad_appliance.py")]
ECHO = f"{sys.executable} {SUPPORT / 'echo_appliance.py'} {{address}} {{health_port}}"
SOME = ["--case", "reply/once", "--case", "size/8500"]


MARK = "NAMESPACES_OF_THIS_TEST"


def left() -> set[str]:
    """The processes of this test that are in another network namespace than it is itself."""
    own, found = os.readlink("/proc/self/ns/net"), set()
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            ours = parent == str(os.getpid()) or mark in (entry / "environ").read_bytes()
            if ours and os.readlink(entry / "ns" / "net") != own:
                found.add(entry.name)
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No process in a namespace, and this one as it was."""
    try:
        Namespace().close()
    except HarnessError as error:
        pytest.skip(str(error))
    monkeypatch.setenv(MARK, str(tmp_path))
    own, devices = os.readlink("/proc/thread-self/ns/net"), Path("/proc/net/dev").read_text()
    yield
    assert os.readlink("/proc/thread-self/ns/net") == own
    assert Path("/proc/net/dev").read_text().count("\n") == devices.count("\n")
    deadline = time.monotonic() + 10
    while still := left():
        assert time.monotonic() < deadline, still
        time.sleep(0.02)


MINE = """
from appliance_sdk import Appliance, Verdict

class Mine(Appliance):
    def flow_opened(self, flow):
        return Verdict.DONE

if __name__ == "__main__":
    Mine.main()
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(conformance, ["run", "--netns", *arguments])


def test_the_sdk_answers_from_every_port_and_address(tmp_path: Path) -> None:
    """A raw socket on every address of a device."""
    (tmp_path / "mine.py").write_text(MINE)
    config = tmp_path / "appliance.toml"
    config.write_text(
        'origins = ["10.9.0.0/24"]\n[listen]\naddresses = ["0.0.0.0"]\n[health]\nport = 8080\n'
    )
    command = [sys.executable, str(tmp_path / "mine.py"), "run", str(config)]
    cases = [case for case in all_cases().values() if case.profile is Profile.TRANSPORT]
    features = Features(every_source_port=True, every_address=True, origins=True)
    door = open_door(Subprocess(command), netns=True)
    try:
        results = run_cases(cases, door, features)
    finally:
        door.close()
    wrong = {
        one.case.id: (one.outcome, one.detail)
        for one in results
        if one.outcome not in (Outcome.PASS, Outcome.NON_STRICT)
    }
    assert not wrong


def test_an_appliance_that_reads_its_device(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here (cc)")
    program = tmp_path / "packet_echo"
    source = SUPPORT / "packet_echo.c"
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, "-o", program, source], check=True)
    done = call(
        *("--exec", f"{program} {{device}} {{health_port}}"),
        *("--expected", str(SUPPORT / "echo_expected.toml")),
        *("--feature", "every_source_port", "--feature", "every_address"),
    )
    assert done.exit_code == 0, done.output
    assert "in a network namespace" in done.output
    assert "26 failures were expected" in done.output


def test_one_that_listens_on_a_socket(tmp_path: Path) -> None:
    done = call("--exec", ECHO, *SOME)
    assert done.exit_code == 0, done.output


def test_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    command = [sys.executable, str(tmp_path / "mine.py"), "conformance", "run", "--netns", *SOME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "mine over UDP, in a network namespace" in done.stdout


def test_a_class_in_pytest(tmp_path: Path) -> None:
    test = f"""
import pytest
from appliance_sdk.conformance import Subprocess, TransportTests

@pytest.fixture
def appliance():
    return Subprocess({ECHO!r}, netns=True)

class TestTransport(TransportTests):
    pass

def test_a_harness_has_none(gwlb):
    pass
"""
    chosen = "reply__once or size__8500 or harness"
    done = run_pytest(tmp_path, "--gwlb-plane=udp", "-k", chosen, test_mine=test)
    assert "4 passed" in done.stdout, done.stdout
    assert "netns is for the conformance suite; a harness has none" in done.stdout


def test_a_process_that_escapes_its_session_is_ended_all_the_same() -> None:
    door = open_door(Subprocess([*BAD, "escapes", "{address}"], netns=True))
    try:
        assert run_cases([all_cases()["inner/ping"]], door, Features())
        assert len(left()) == 2
    finally:
        door.close()
    # nothing_is_left says the rest


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_nothing_is_left(signum: int) -> None:
    command = " ".join([*BAD, "silent", "{address}"])
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance_sdk", "conformance", "run", "--netns", "--exec", command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while len(left()) < 2:  # the suite, on its own side, and the appliance
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signum)
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def test_without_the_right_to_it_is_a_line() -> None:
    command = [sys.executable, "-m", "appliance_sdk", "conformance", "run", "--netns", "--exec=x"]
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here (util-linux)")
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "needs root" in done.stderr
    assert "unshare --map-root-user --net" in done.stderr


def test_without_ip_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HarnessError, match="install iproute2"):
        Namespace()


def test_what_ip_does_not_do_is_said() -> None:
    namespace = Namespace()
    try:
        with pytest.raises(HarnessError, match=r"ip: Cannot find device \"wlan7\""):
            namespace.ip("link set wlan7 up")
        with pytest.raises(HarnessError, match="wlan7: no checksums"):
            namespace.complete_checksums("wlan7")
    finally:
        namespace.close()
