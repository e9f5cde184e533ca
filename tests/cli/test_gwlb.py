"""`appliance gwlb`: run it for an appliance, draw it, mistakes in one line."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance_sdk.harness import free_loopback
from appliance_sdk.wire.pcapng import read_pcapng

pytestmark = pytest.mark.anyone

ECHO = Path(__file__).parents[1] / "support" / "echo_appliance.py"
SIMPLE = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies" / "simple.toml"


def appliance(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance_sdk", *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "simple.toml"
    path.write_text(f'loopback = "{free_loopback()}"\n' + SIMPLE.read_text())
    return path


def test_it_runs_an_appliance_in_any_language(topology: Path) -> None:
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    done = appliance("gwlb", str(topology), "--exec", echo, "--seconds", "1", "--factor", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "appliance-1 is healthy in zone a" in done.stdout
    assert "client pings server (198.51.100.10): answered" in done.stdout
    assert "client pings server (fd00:10:0:1::10): answered" in done.stdout
    assert "dropped" not in done.stdout


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind_when_it_is_ended(topology: Path, end: signal.Signals) -> None:
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}} {topology.parent}"
    command = [sys.executable, "-m", "appliance_sdk", "gwlb", str(topology), "--exec", echo]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for line in running.stdout:
        if "answered" in line:
            break
    assert processes_with(str(ECHO), str(topology.parent))
    running.send_signal(end)
    rest = running.stdout.read()
    running.wait(10)
    running.stdout.close()
    if end == signal.SIGINT:
        assert running.returncode == 0
        assert "traffic: " in rest
    deadline = time.monotonic() + 10
    while processes_with(str(ECHO), str(topology.parent)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes_with(str(ECHO), str(topology.parent))


def processes_with(*words: str) -> list[str]:
    """Command lines that have all of these in them and are those of the appliance."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if line[1:2] == [words[0].encode()] and all(w.encode() in line for w in words):
            found.append(str(entry))
    return found


def test_a_trace_shows_each_hop(topology: Path) -> None:
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    options = ("--seconds", "1", "--trace", "--quiet", "--factor", "5")
    done = appliance("gwlb", str(topology), "--exec", echo, *options)
    assert "the clock runs 5 times as fast as the real one" in done.stdout
    assert "10.0.1.0/24 -> gwlbe (route table edge)" in done.stdout


def test_a_capture_is_written_and_said(topology: Path) -> None:
    path = topology.with_name("a.pcapng")
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    options = ["--seconds", "1", "--factor", "5", "--quiet", "--capture", str(path)]
    done = appliance("gwlb", str(topology), "--exec", echo, *options, "--capture-at", "client,gwlb")
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = list(read_pcapng(io.BytesIO(path.read_bytes())))
    assert {block.interface for block in blocks} == {"client", "gwlb"}
    assert f"{len(blocks)} packets are in {path}" in done.stdout


def test_a_full_disk_ends_the_capture_only(topology: Path) -> None:
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    options = ["--seconds", "1", "--factor", "5", "--quiet", "--capture", "/dev/full"]
    done = appliance("gwlb", str(topology), "--exec", echo, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/dev/full: No space left on device: the capture ends after 0 packets" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--capture", "a", "--capture-at", "cleint"],
            "no place 'cleint' (did you mean `client`?)",
        ),
        (["--capture-at", "client"], "--capture-at: says where, but not to which file (--capture)"),
        (["--capture", "/none/a"], "/none/a: No such file or directory"),
    ],
)
def test_a_mistake_about_a_capture_is_one_line(
    topology: Path, options: list[str], said: str
) -> None:
    done = appliance("gwlb", str(topology), *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"appliance: {said}"


def test_faults_are_told_and_counted(topology: Path) -> None:
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    options = ["--seconds", "2", "--factor", "5", "--quiet", "--rate", "5"]
    options += ["--fault", "appliance-1:delay=20ms", "--fault", "client:loss=100%,after=1h"]
    done = appliance("gwlb", str(topology), "--exec", echo, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fault begins: appliance-1:delay=20ms" in done.stdout
    assert "fault begins: client" not in done.stdout
    assert "faults of appliance-1, in packets: delay " in done.stdout


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("aplliance-1:loss=1", "no target or host 'aplliance-1' (did you mean `appliance-1`?)"),
        ("appliance-1:loss=11", "11 is no rate from 0 to 1"),
        ("appliance-1:hang", "can only be done to what was started here (give --exec)"),
    ],
)
def test_a_mistake_in_a_fault_is_one_line(fault: str, said: str) -> None:
    done = appliance("gwlb", "simple", "--fault", fault)
    assert done.returncode == 2
    assert done.stderr == f"appliance: --fault {fault}: {said}\n"


def test_an_appliance_that_ends_is_said(topology: Path) -> None:
    command = f"{sys.executable} -c \"print('no licence'); raise SystemExit(3)\""
    done = appliance("gwlb", str(topology), "--exec", command, "--seconds", "1")
    assert done.returncode == 1
    assert "appliance-1 ended with status 3: no licence" in done.stdout
    assert "traffic: none was sent: no target was healthy" in done.stdout


def test_a_wrong_reply_is_explained(topology: Path) -> None:
    code = (
        "import socket,sys,threading; h=socket.create_server((sys.argv[1],8080)); "
        "u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.bind((sys.argv[1],6081));\n"
        "def serve():\n"
        " while True:\n"
        "  c,_=h.accept(); c.recv(999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n'); c.close()\n"
        "threading.Thread(target=serve,daemon=True).start()\n"
        "while True:\n p,a=u.recvfrom(65535); u.sendto(p,(a[0],6081))\n"
    )
    script = topology.with_name("naive.py")
    script.write_text(code)
    run = f"{sys.executable} {script} {{address}}"
    done = appliance("gwlb", str(topology), "--exec", run, "--seconds", "2", "--factor", "5")
    assert done.returncode == 1
    assert "bad_ports" in done.stdout
    assert "The UDP ports of a reply stay as they were" in done.stdout


def test_metrics_are_written_as_cloudwatch_has_them(topology: Path) -> None:
    path = topology.with_name("metrics.json")
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    options = ("--seconds", "1", "--quiet", "--factor", "5", "--metrics", str(path))
    done = appliance("gwlb", str(topology), "--exec", echo, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    points = json.loads(path.read_text())
    assert f"{len(points)} data points are in {path}" in done.stdout
    assert sum(p["Value"] for p in points if p["MetricName"] == "ProcessedBytes") > 0
    balancers = {d["Value"] for p in points for d in p["Dimensions"] if d["Name"] == "LoadBalancer"}
    assert len(balancers) == 1
    assert balancers.pop().startswith("gateway/gwlb/")
    nowhere = str(topology.with_name("no") / "such.json")
    done = appliance("gwlb", str(topology), "--metrics", nowhere)
    assert done.returncode == 2
    assert done.stderr == f"appliance: {nowhere}: No such file or directory\n"


def test_draw_in_the_terminal_and_as_svg(tmp_path: Path) -> None:
    done = appliance("gwlb", "draw", "inline-ids")
    assert done.returncode == 0
    assert "◇ gwlbe-fw" in done.stdout
    path = tmp_path / "picture.svg"
    assert appliance("gwlb", "draw", "inline-ids", "--svg", str(path)).returncode == 0
    assert path.read_text().startswith("<svg ")
    assert appliance("gwlb", "draw", "simple", "--svg", "-").stdout.startswith("<svg ")


def test_check_says_what_aws_takes_and_what_will_not_work(tmp_path: Path) -> None:
    fine = appliance("gwlb", "check", "transit")
    assert (fine.returncode, fine.stdout) == (0, "transit: fine\n")
    path = tmp_path / "past.toml"
    path.write_text(SIMPLE.read_text().replace('edge_routes = "edge"', ""))
    done = appliance("gwlb", "check", str(path))
    assert done.returncode == 1
    first, _ = done.stdout.splitlines()
    assert first.startswith(f"{path}: vpcs.vpc.edge_routes: no edge route for 10.0.1.0/24: ")
    assert first.endswith("[past_endpoint]")
    drawn = appliance("gwlb", "draw", str(path))
    assert "warning: vpcs.vpc.edge_routes: no edge route for 10.0.1.0/24" in drawn.stderr
    assert "warning" not in drawn.stdout
    path.write_text("[gateways]\n")
    assert appliance("gwlb", "check", str(path)).returncode == 2


def test_hosts_of_vpcs_ask_each_other_over_a_transit_gateway(tmp_path: Path) -> None:
    path = tmp_path / "transit.toml"
    text = SIMPLE.with_name("transit.toml").read_text()
    text = text.replace(", appliance_mode = true", "")
    path.write_text(f'loopback = "{free_loopback()}"\n{text}')
    echo = f"{sys.executable} {ECHO} {{address}} {{health_port}}"
    done = appliance("gwlb", str(path), "--exec", echo, "--seconds", "2", "--factor", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "warning: transit_gateways.tgw.attachments.inspection: appliance_mode is off" in done.stderr
    )
    assert "web-a asks api-a (10.2.1.10:80): answered 200" in done.stdout
    assert re.search(r"dropped \d+ times, no_entry: ", done.stdout)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("simpel", "no topology 'simpel' comes with the SDK (did you mean `simple`?"),
        ("no/such.toml", "no/such.toml: no such file"),
    ],
)
def test_a_topology_that_is_not_there(text: str, said: str) -> None:
    done = appliance("gwlb", text)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_mistake_in_a_topology_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mistake.toml"
    path.write_text(
        SIMPLE.read_text().replace(
            'servers = { "0.0.0.0/0" = "gwlbe"', 'servers = { "0.0.0.0/0" = "gwlbee"'
        )
    )
    done = appliance("gwlb", "draw", str(path))
    assert done.returncode == 2
    assert "vpcs.vpc.route_tables.servers.0.0.0.0/0" in done.stderr
    assert "did you mean `gwlbe`?" in done.stderr
    assert done.stderr.count("\n") == 1
