"""`appliance gwlb --exec` with appliances that misbehave: one line in time, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance_sdk.harness import free_loopback

pytestmark = pytest.mark.anyone

ECHO = Path(__file__).parents[1] / "support" / "echo_appliance.py"
SIMPLE = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies" / "simple.toml"
PATIENCE_S = 60

WRAPPER = f"""#!/bin/sh
# Like many a start script: it starts the appliance as its child, and stays.
{sys.executable} {ECHO} "$1" "$2" {{token}} &
sleep 1000 {{token}} 2>/dev/null || sleep 1000 &
wait
"""
STUBBORN = f"""#!/bin/sh
trap '' TERM INT HUP
while :; do {sys.executable} {ECHO} "$1" "$2" {{token}}; done
"""
DAEMON = f"""#!/bin/sh
# It leaves the session and has no parent: only its environment says whose it is.
setsid {sys.executable} {ECHO} "$1" "$2" {{token}} </dev/null >/dev/null 2>&1 &
sleep 1000
"""
SCRIPTS = {"wrapper": WRAPPER, "stubborn": STUBBORN, "daemon": DAEMON}

HEALTHY = (
    "import socket,sys,threading\n"
    "h=socket.create_server((sys.argv[1],8080))\n"
    "u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.bind((sys.argv[1],6081))\n"
    "def serve():\n"
    " while True:\n"
    "  c,_=h.accept(); c.recv(999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n'); c.close()\n"
    "threading.Thread(target=serve,daemon=True).start()\n"
)


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "simple.toml"
    path.write_text(f'loopback = "{free_loopback()}"\n' + SIMPLE.read_text())
    return path


@pytest.fixture
def token(tmp_path: Path) -> Iterator[str]:
    """A word in the command line of everything that a test starts; nothing of it may remain."""
    token = f"token-{os.getpid()}-{tmp_path.name}"
    yield token
    assert not with_token(token)


def with_token(token: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if token.encode() in (entry / "cmdline").read_bytes() and state != "Z":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(token: str) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while with_token(token):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def script(folder: Path, text: str, token: str) -> str:
    path = folder / "start.sh"
    path.write_text(text.replace("{token}", token))
    path.chmod(0o755)
    return f"{path} {{address}} {{health_port}}"


def program(folder: Path, code: str, token: str) -> str:
    path = folder / "appliance.py"
    path.write_text(code)
    return f"{sys.executable} {path} {{address}} {token}"


def gwlb(topology: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "appliance_sdk", "gwlb", str(topology), "--exec", command]
    return subprocess.run(
        [*line, *options], text=True, capture_output=True, timeout=PATIENCE_S, check=False
    )


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("wrapper", "SIGINT"),
        ("wrapper", "SIGTERM"),
        ("wrapper", "SIGHUP"),
        ("wrapper", "SIGKILL"),
        ("daemon", "SIGINT"),
        ("daemon", "SIGKILL"),
        ("stubborn", "SIGTERM"),
        ("stubborn", "SIGKILL"),
    ],
)
def test_nothing_is_left_of_what_a_script_started(
    topology: Path, token: str, kind: str, end: str
) -> None:
    command = script(topology.parent, SCRIPTS[kind], token)
    line = [sys.executable, "-m", "appliance_sdk", "gwlb", str(topology), "--exec", command]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stderr is not None
    for said in running.stdout:
        if "answered" in said:
            break
    assert with_token(token)
    running.send_signal(getattr(signal, end))
    rest, complaints = running.stdout.read(), running.stderr.read()
    status = running.wait(PATIENCE_S)
    running.stdout.close()
    running.stderr.close()
    number = getattr(signal, end)
    expected = {"SIGINT": 0, "SIGKILL": -number}.get(end, 128 + number)
    assert (status, complaints) == (expected, "")
    assert ("traffic: " in rest) is (end == "SIGINT")
    assert gone(token)


def test_one_that_never_comes_up_is_said_in_time(topology: Path, token: str) -> None:
    command = f"{sys.executable} -u -c \"print('loading');import time;time.sleep(9999)\" {token}"
    done = gwlb(topology, command, "--start-timeout", "1")
    assert done.returncode == 1
    line = "appliance-1 is not healthy after 1 s (Target.FailedHealthChecks); it runs, and printed"
    assert f"{line}: loading" in done.stdout


def test_one_whose_health_checks_answer_garbage_is_said(topology: Path, token: str) -> None:
    code = HEALTHY.replace("HTTP/1.0 200 OK", "what?") + "threading.Event().wait()"
    done = gwlb(
        topology, program(topology.parent, code, token), "--start-timeout", "2", "--factor", "5"
    )
    assert done.returncode == 1
    assert "appliance-1 is not healthy after 2 s (Target.FailedHealthChecks)" in done.stdout


def test_one_that_goes_into_the_background_is_told_not_to(topology: Path, token: str) -> None:
    text = DAEMON.replace("sleep 1000", "exit 0")
    done = gwlb(topology, script(topology.parent, text, token))
    assert done.returncode == 1
    said = "appliance-1 ended with status 0 (it must not go into the background): no output"
    assert said in done.stdout
    assert gone(token)


@pytest.mark.parametrize(
    ("flood", "reason"),
    [
        ("u.sendto(b'\\xff' * 100, (a[0], 6081))", "bad_geneve"),
        ("u.sendto(p, (a[0], 6081))", "bad_ports"),
        ("u.sendto(p[:20] + b'\\0' * 40, (a[0], 6081))", "bad_geneve"),
    ],
)
def test_one_that_floods_is_ended_in_time(
    topology: Path, token: str, flood: str, reason: str
) -> None:
    code = HEALTHY + f"p, a = u.recvfrom(65535)\nwhile True:\n {flood}\n"
    options = ("--seconds", "2", "--factor", "5", "--quiet")
    began = time.monotonic()
    done = gwlb(topology, program(topology.parent, code, token), *options)
    assert time.monotonic() - began < PATIENCE_S
    assert done.returncode == 1
    assert done.stderr == ""
    assert any(reason in line for line in done.stdout.splitlines() if line.startswith("dropped"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program", "no-such-program: No such file or directory"),
        ("/etc/passwd", "/etc/passwd: Permission denied"),
        ("'unclosed", "No closing quotation: 'unclosed"),
        ("   ", "the appliance's command is empty"),
    ],
)
def test_a_command_that_cannot_be_started_is_one_line(
    topology: Path, command: str, said: str
) -> None:
    done = gwlb(topology, command)
    assert done.returncode == 2
    assert done.stderr == f"appliance: {said}\n"
