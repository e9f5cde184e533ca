"""Real GENEVE between the harness and processes: good ones, dead ones, hung ones, garbage."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.errors import ApplianceError, HarnessError
from appliance_sdk.harness import (
    Forked,
    Harness,
    InProcess,
    MemoryFleet,
    State,
    Subprocess,
    Topology,
    ToTarget,
    UdpFleet,
)
from appliance_sdk.testing.traffic import FlowFactory
from appliance_sdk.wire import build_udp

SUPPORT = Path(__file__).parents[1] / "support"
ECHO = [sys.executable, str(SUPPORT / "echo_appliance.py"), "{address}", "{health_port}"]
FACTOR = 5.0


class NoTelnet(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.REJECT if flow.server_port == 23 else Verdict.DONE


class LetThrough(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.DONE


def over_udp(topology: Topology, process: Subprocess | Forked | None) -> Harness:
    processes = {"appliance-1": process} if process is not None else {}
    fleet = UdpFleet(topology.nodes("gwlb").values(), processes, factor=FACTOR)
    return Harness(topology, fleet, factor=FACTOR)


def test_thirty_lines_without_the_sdk_are_an_appliance(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        flows = FlowFactory(harness)
        for ipv6 in (False, True):
            web = flows.tcp(80, ipv6=ipv6)
            assert web.opened
            data = os.urandom(100_000)
            assert web.client_sends(data)
            assert web.server_received == data
            assert web.close()
            assert flows.ping(ipv6=ipv6).replies == 1
        assert not harness.drops


def test_a_sender_that_shares_no_code_works_against_the_same_appliance(simple: Topology) -> None:
    with over_udp(simple, Forked(NoTelnet, health_port=8080)) as harness:
        harness.wait_healthy()
        target = harness.topology.targets("gwlb")[0].address
        nodes = ",".join(f"{simple.loopback}.9.{n}" for n in (11, 12, 13))
        script = str(SUPPORT / "independent_sender.py")
        options = ["--packets", "4000", "--flows", "100"]
        done = subprocess.run(
            [sys.executable, script, "--target", target, "--nodes", nodes, *options],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert FlowFactory(harness).tcp(80).opened


def test_every_source_port_that_aws_may_use(simple: Topology) -> None:
    gateway = msgspec.structs.replace(simple.gateways["gwlb"], source_ports=(1, 65535))
    topology = msgspec.structs.replace(simple, gateways={"gwlb": gateway})
    with over_udp(topology, Forked(NoTelnet, health_port=8080)) as harness:
        harness.wait_healthy()
        flows = FlowFactory(harness)
        pings = [flows.udp(5000 + n) for n in range(40)]
        arrived = [flow.client_sends(b"x") for flow in pings]
        ports = {entry.source_port for entry in harness.gateways["gwlb"].flows}
        assert len(ports) == 40
        # Without privileges no process can bind a port below the kernel's limit.
        limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        bindable = sum(os.geteuid() == 0 or port >= limit for port in ports)
        assert sum(arrived) >= bindable - 1  # another process may hold one of them


def test_a_forked_plugin_refuses_and_forwards(simple: Topology) -> None:
    with over_udp(simple, Forked(NoTelnet, health_port=8080)) as harness:
        harness.wait_healthy()
        flows = FlowFactory(harness)
        assert flows.tcp(23).reset
        web = flows.tcp(80)
        assert web.client_sends(b"hello")
        assert web.server_sends(b"good day")
        assert web.client_received == b"good day"


def test_a_target_that_never_comes_up_is_named(simple: Topology) -> None:
    with (
        over_udp(simple, None) as harness,
        pytest.raises(HarnessError, match=r"appliance-1 \(Target.FailedHealthChecks\)"),
    ):
        harness.wait_healthy(timeout_s=12)


def test_one_that_ends_before_it_is_healthy_is_told_at_once(simple: Topology) -> None:
    command = [sys.executable, "-c", "print('no licence'); raise SystemExit(3)"]
    with (
        over_udp(simple, Subprocess(command)) as harness,
        pytest.raises(HarnessError, match=r"^appliance-1 ended with status 3: no licence$"),
    ):
        harness.wait_healthy(timeout_s=1000)


def test_what_an_appliance_prints_is_kept_within_bounds(simple: Topology) -> None:
    command = [sys.executable, "-uc", "while True: print('x' * 100_000)"]
    process = Subprocess(command)
    with over_udp(simple, process) as harness:
        kept = process._kept
        assert kept is not None
        assert wait_until(lambda: os.fstat(kept.fileno()).st_size > 8_000_000)
        process.pause()
        harness.run(lambda: os.fstat(kept.fileno()).st_size < 8_000_000, timeout_s=100)
        assert os.fstat(kept.fileno()).st_size < 8_000_000
        assert process.tail().endswith("xxx")


def test_a_command_that_does_not_exist_is_one_line(simple: Topology) -> None:
    with pytest.raises(ApplianceError, match="no-such-program: No such file"):
        over_udp(simple, Subprocess("no-such-program {address}"))
    with pytest.raises(HarnessError, match=r"no place \{adress\} .did you mean `address`"):
        over_udp(simple, Subprocess("echo {adress}"))


def test_a_hung_target_times_out_and_comes_back(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        harness.hang_target("appliance-1")
        assert harness.run(lambda: harness.state("gwlb", "appliance-1") is State.UNHEALTHY)
        assert harness.changes[-1].reason == "Target.Timeout"
        assert not FlowFactory(harness).tcp(80).opened
        harness.resume_target("appliance-1")
        harness.wait_healthy()
        assert FlowFactory(harness).tcp(81).opened


@pytest.mark.parametrize("kind", ["subprocess", "forked"])
def test_a_hung_target_is_ended_all_the_same(simple: Topology, kind: str) -> None:
    process = Subprocess(ECHO) if kind == "subprocess" else Forked(NoTelnet, health_port=8080)
    with over_udp(simple, process) as harness:
        harness.wait_healthy()
        pids = [process.pid, *children(process.pid)]
        harness.hang_target("appliance-1")
    assert wait_until(lambda: not any(running(pid) for pid in pids))


def test_a_deaf_target_stays_healthy_and_its_traffic_is_lost(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        harness.deafen_target("appliance-1")
        assert not FlowFactory(harness).tcp(80).opened
        harness.run(lambda: False, timeout_s=20)
        assert harness.state("gwlb", "appliance-1") is State.HEALTHY
        assert harness.faults.counts["appliance-1"]["loss"] >= 3
        harness.resume_target("appliance-1")
        assert FlowFactory(harness).tcp(81).opened


def test_a_slow_target_answers_late_and_in_the_end_fails_its_checks(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        harness.slow_target("appliance-1", 0.3)
        ping = FlowFactory(harness).ping()
        assert ping.rtt_s is not None
        assert ping.rtt_s >= 0.6
        harness.slow_target("appliance-1", 2)
        assert harness.run(lambda: harness.state("gwlb", "appliance-1") is State.UNHEALTHY)
        assert harness.changes[-1].reason == "Target.Timeout"
        harness.resume_target("appliance-1")
        harness.wait_healthy()


def test_nobody_can_stop_what_was_not_started_here(simple: Topology) -> None:
    with over_udp(simple, None) as harness:
        with pytest.raises(HarnessError, match="target appliance-1 was not started here"):
            harness.hang_target("appliance-1")
        harness.resume_target("appliance-1")


def test_the_same_packets_are_lost_as_in_memory(simple: Topology) -> None:
    def heard(harness: Harness, until: int) -> list[bytes]:
        harness.wait_healthy()
        harness.faults.set("appliance-1", loss=0.2, direction="to")
        flow = FlowFactory(harness).udp(53)
        for number in range(30):
            flow.client.send_to("198.51.100.10", 53, bytes([number]))
        harness.run(lambda: len(flow.server_received) >= until, timeout_s=300)
        harness.run()
        return flow.server_received

    with Harness(simple, MemoryFleet({"": InProcess(LetThrough)})) as harness:
        in_memory = heard(harness, 0)
    assert 20 <= len(in_memory) < 30
    with over_udp(simple, Forked(LetThrough, health_port=8080)) as harness:
        assert heard(harness, len(in_memory)) == in_memory


def test_tcp_survives_every_fault_of_the_link(simple: Topology) -> None:
    faults = {"loss": 0.03, "duplicate": 0.05, "reorder": 0.05, "corrupt": 0.02, "truncate": 0.02}
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        harness.faults.set("appliance-1", **faults, delay_s=0.01)
        web = FlowFactory(harness).tcp(80)
        data = os.urandom(100_000)
        assert web.client_sends(data)
        assert web.server_received == data
        assert set(harness.faults.counts["appliance-1"]) == {*faults, "delay"}


def test_a_killed_target_fails_its_checks(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        harness.crash_target("appliance-1")
        assert harness.run(lambda: harness.state("gwlb", "appliance-1") is State.UNHEALTHY)
        assert harness.changes[-1].reason == "Target.FailedHealthChecks"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Draining\r\n\r\n", "Target.ResponseCodeMismatch"),
        (b"\x00\xff garbage\r\n", "Target.FailedHealthChecks"),
        (b"", "Target.FailedHealthChecks"),
        (b"HTTP/1.1 2" + b"0" * 8000, "Target.FailedHealthChecks"),
    ],
)
def test_health_checks_that_answer_wrong(simple: Topology, answer: bytes, reason: str) -> None:
    code = (
        "import socket,sys\n"
        "s=socket.create_server((sys.argv[1], 8080))\n"
        "while True:\n c,_=s.accept(); c.recv(999); c.sendall(eval(sys.argv[2])); c.close()"
    )
    command = [sys.executable, "-c", code, "{address}", repr(answer)]
    with over_udp(simple, Subprocess(command)) as harness:
        assert harness.run(lambda: harness.state("gwlb", "appliance-1") is State.UNHEALTHY)
        assert harness.run(lambda: harness.changes[-1].reason == reason, 60) or (
            harness.changes[-1].reason == reason
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="a packet socket needs CAP_NET_RAW")
@pytest.mark.parametrize("checksums", [False, True])
def test_outer_checksums_are_zero_unless_asked_for(simple: Topology, checksums: bool) -> None:
    fleet = UdpFleet(simple.nodes("gwlb").values(), checksums=checksums)
    target = simple.targets("gwlb")[0]
    node = simple.nodes("gwlb")["a"]
    datagram = ToTarget(target, node, 61000, b"x" * 50, 1)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as sniffer:
        sniffer.bind(("lo", 0x0800))
        sniffer.settimeout(5)
        fleet.send(datagram, 0.0)
        while True:
            packet = sniffer.recv(2048)
            if packet[9] == 17 and packet[12:16] == socket.inet_aton(node):
                break
    fleet.close()
    assert packet[20:24] == (61000).to_bytes(2, "big") + (6081).to_bytes(2, "big")
    assert (packet[26:28] != b"\0\0") is checksums


def test_garbage_from_a_target_is_counted_and_harms_nothing(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        target = harness.topology.targets("gwlb")[0].address
        node = harness.topology.nodes("gwlb")["a"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((target, 61500))
            for size in (0, 1, 7, 8, 39, 40, 41, 2000):
                sock.sendto(os.urandom(size), (node, 6081))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"from nobody", (node, 6081))
        harness.run(lambda: harness.drops.total() >= 9, timeout_s=5)
        assert harness.drops["bad_geneve"] == 8
        assert harness.drops["unknown_target"] == 1
        assert FlowFactory(harness).tcp(80).opened


def test_a_port_in_use_is_one_line(simple: Topology) -> None:
    node = simple.nodes("gwlb")["a"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((node, 6081))
        with pytest.raises(ApplianceError, match=r"another process has UDP .*6081"):
            over_udp(simple, None)


def running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_harness(
    simple: Topology, end: signal.Signals, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import msgspec
from appliance_sdk.harness import Forked, Harness, Subprocess, UdpFleet, shipped_topology
from test_udp_fleet import ECHO, NoTelnet
topology = msgspec.structs.replace(shipped_topology("simple"), loopback={simple.loopback!r})
gateway = topology.gateways["gwlb"]
part = gateway.targets["appliance-1"]
gateway = msgspec.structs.replace(gateway, targets={{"one": part, "two": part}})
topology = msgspec.structs.replace(topology, gateways={{"gwlb": gateway}})
one, two = Subprocess(ECHO), Forked(NoTelnet, health_port=8080)
fleet = UdpFleet(topology.nodes("gwlb").values(), {{"one": one, "two": two}}, factor=5.0)
with Harness(topology, fleet, factor=5.0) as harness:
    harness.wait_healthy()
    print(one.pid, two.pid, flush=True)
    while True:
        harness.run(lambda: False, 1)
"""
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    pids += children(pids[1])
    assert len(pids) == 4  # with the forked appliance's worker and supervisor
    parent.send_signal(end)
    parent.wait(10)
    assert wait_until(lambda: not any(running(pid) for pid in pids))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_node_is_replaced_over_udp(simple: Topology) -> None:
    with over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        web = FlowFactory(harness).tcp(80)
        assert web.client_sends(b"before")
        former = harness.gateways["gwlb"].nodes["a"]
        harness.replace_node("gwlb", "a", f"{simple.loopback}.0.31")
        assert web.client_sends(b"after")
        assert web.server_sends(b"too")
        assert not harness.drops
        # Who keeps the address of a flow's first packet is heard there, and told.
        entry = next(iter(harness.gateways["gwlb"].flows))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            late.bind((entry.target.address, 0))
            late.sendto(entry.header + b"\x45", (former, 6081))
            assert harness.run(lambda: harness.drops["node_gone"] == 1)
        assert harness.run(lambda: harness.state("gwlb", "appliance-1") == "healthy")


@pytest.mark.parametrize("right", [True, False])
def test_a_reply_with_a_wrong_outer_checksum_does_not_arrive(simple: Topology, right: bool) -> None:
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        pytest.skip("needs CAP_NET_RAW")
    with raw, over_udp(simple, Subprocess(ECHO)) as harness:
        harness.wait_healthy()
        node, target = harness.gateways["gwlb"].nodes["a"], simple.targets("gwlb")[0].address
        source, destination = (socket.inet_aton(address) for address in (target, node))
        packet = bytearray(build_udp(source, destination, 61000, 6081, payload=b"no header"))
        if not right:
            packet[26] ^= 0x55  # the UDP checksum
        raw.sendto(bytes(packet), (node, 0))
        raw.sendto(build_udp(source, destination, 61000, 6081, payload=b"a"), (node, 0))
        wanted = 2 if right else 1
        assert harness.run(lambda: harness.drops["bad_geneve"] >= wanted)
        assert harness.drops["bad_geneve"] == wanted
