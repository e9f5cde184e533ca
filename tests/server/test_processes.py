"""The processes of a running appliance: what dies comes back, and nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance_sdk.harness.process_tree import holders

from .conftest import Running, alive

Launch = Callable[..., Running]


def test_packets_pass_and_are_judged(launch: Launch) -> None:
    running = launch(rules="23 25").ready()
    assert running.passes(80)
    assert not running.passes(23)
    counters = running.until(
        lambda: c if (c := running.details()["counters"])["received"] >= 2 else None, "counted"
    )
    assert counters["forwarded"] == 1
    assert counters["dropped"] == {"plugin_block": 1}


def test_a_killed_worker_is_back_in_under_a_second(launch: Launch) -> None:
    running = launch().ready()
    first = running.worker_pid()
    os.kill(first, signal.SIGKILL)
    killed = time.monotonic()
    running.until(lambda: running.passes(80, wait_s=0.1), "forwarding again", 5)
    assert time.monotonic() - killed < 1.0
    running.until(lambda: running.worker_pid() != first, "another worker")
    assert running.logged("worker.died")[0]["status"] == -9
    assert running.health()[0] == 200


def test_what_arrives_while_a_worker_is_away_waits_for_the_next_one(launch: Launch) -> None:
    running = launch().ready()
    os.kill(running.worker_pid(), signal.SIGSTOP)
    sent = [running.packet(80, source_port=6000 + n) for n in range(50)]
    for data in sent:
        running.send(data)
    os.kill(running.worker_pid(), signal.SIGKILL)
    counters = running.until(
        lambda: c if (c := running.details()["counters"])["received"] >= 50 else None, "received"
    )
    assert counters["forwarded"] == 50


def test_a_plugin_that_kills_its_worker_does_not_take_the_appliance_along(launch: Launch) -> None:
    running = launch().ready()
    assert not running.passes(7000)
    running.until(lambda: running.passes(80), "forwarding again")
    assert running.process.poll() is None


def test_a_hung_worker_is_unhealthy_then_replaced_and_its_stack_is_shown(launch: Launch) -> None:
    running = launch(settings="stalled_s = 0.4\n").ready()
    running.send(running.packet(7001))
    running.until(lambda: running.health()[0] == 503, "unhealthy")
    assert "has said nothing" in running.details()["reasons"][0]
    running.until(lambda: running.logged("worker.hung"), "replaced")
    running.until(lambda: running.passes(80), "forwarding again")
    running.ready()
    assert "in flow_opened" in running.log.read_text()


def test_a_stopped_worker_is_replaced_too(launch: Launch) -> None:
    running = launch(settings="stalled_s = 0.4\n").ready()
    stopped = running.worker_pid()
    os.kill(stopped, signal.SIGSTOP)  # it takes no SIGABRT
    running.until(lambda: running.logged("worker.hung"), "noticed")
    running.until(lambda: not alive(stopped), "killed")
    assert running.ready().worker_pid() != stopped


def test_a_worker_that_dies_at_every_start_is_never_healthy(launch: Launch) -> None:
    running = launch(settings="stalled_s = 0.3\n", rules="668")
    running.until(lambda: running.health()[1] == "degraded\n", "no longer starting")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert running.health() == (503, "degraded\n")
    assert len(running.logged("worker.died")) < 15  # with pauses that grow


@pytest.mark.parametrize("closed", [False, True])
def test_a_log_that_cannot_be_written_does_not_stop_the_packets(
    launch: Launch, closed: bool
) -> None:
    reader, writer = os.pipe()
    if not closed:
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    os.close(reader)
    running = launch(stderr=writer).ready()
    os.close(writer)
    os.kill(running.worker_pid(), signal.SIGKILL)
    running.until(lambda: running.passes(80, wait_s=0.1), "forwarding again")
    for _ in range(2):
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert running.process.wait(20) == 0


def test_a_log_that_nobody_reads_does_not_stop_the_packets(launch: Launch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    running = launch(stderr=writer).ready()
    os.close(writer)
    worker = running.worker_pid()
    os.kill(worker, signal.SIGKILL)
    running.until(lambda: running.passes(80, wait_s=0.1), "forwarding again")
    while filled:
        filled -= len(os.read(reader, min(filled, 65536)))
    running.until(lambda: running.worker_pid() != worker, "another worker")
    os.kill(running.worker_pid(), signal.SIGKILL)  # read again, it is written again
    with open(reader, "rb") as lines:
        assert any(b"worker." in line for line in lines)  # after what was said meanwhile
    running.stop()


def test_each_process_has_the_sockets_that_are_its_own(launch: Launch) -> None:
    running = launch().ready()
    worker = running.worker_pid()
    (supervisor,) = [pid for pid in running.children() if pid != worker]
    assert holders([worker, supervisor], "udp", running.address, 6081) == {worker}
    assert holders([worker, supervisor], "tcp", running.address, running.health_port) == {
        supervisor
    }


def test_a_killed_supervisor_comes_back_and_the_packets_go_on(launch: Launch) -> None:
    running = launch().ready()
    worker = running.worker_pid()
    (supervisor,) = [pid for pid in running.children() if pid != worker]
    os.kill(supervisor, signal.SIGKILL)
    assert running.passes(80)
    running.ready()
    assert running.worker_pid() == worker


def test_nothing_outlives_a_killed_parent(launch: Launch) -> None:
    running = launch().ready()
    children = running.children()
    assert len(children) == 2
    running.process.kill()
    running.process.wait(10)
    running.until(lambda: not any(alive(pid) for pid in children), "children gone")
    running.until(lambda: _can_bind(running.address), "the port is free")  # threads die later


def _can_bind(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 6081))
        except OSError:
            return False
    return True


def reloading(running: Running, text: str) -> int:
    """Ask for a reload of these rules: the process that loads them."""
    before = set(running.children())
    running.rules.write_text(text)
    running.process.send_signal(signal.SIGHUP)
    new: set[int] = running.until(lambda: set(running.children()) - before, "loading")
    return new.pop()


def test_a_load_does_not_outlive_a_killed_parent(launch: Launch) -> None:
    running = launch().ready()
    loader = reloading(running, "sleep")
    time.sleep(0.2)
    running.process.kill()
    running.process.wait(10)
    running.until(lambda: not alive(loader), "the load is gone")


def test_a_raising_plugin_costs_its_own_flow_only(launch: Launch) -> None:
    running = launch().ready()
    for number in range(20):
        assert not running.passes(7002, source_port=7000 + number, wait_s=0.05)
        assert running.passes(80, source_port=8000 + number)
    assert len(running.logged("plugin.error")) == 1
    running.until(
        lambda: running.details()["counters"]["plugin_errors"].get("blocker") == 20, "counted"
    )


def test_a_plugin_may_wait_for_an_answer_and_nobody_else_does(launch: Launch) -> None:
    running = launch().ready()
    running.send(running.packet(7007, source_port=3))  # nobody answers
    for source_port in (1, 2):  # a timer, and a thread
        assert running.passes(7007, source_port=source_port, wait_s=5)
    assert running.passes(80)
    counters = running.until(
        lambda: c if (c := running.details()["counters"])["dropped"] else None, "given up"
    )
    assert counters["dropped"] == {"plugin_block": 1}
    assert counters["metrics"] == {"blocker.hold_timeout": 1}
    pid = running.worker_pid()
    used = cpu_s(pid)
    time.sleep(1)
    assert cpu_s(pid) - used < 0.5  # it does not spin


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_reload_takes_new_rules_and_rejudges_live_flows(launch: Launch) -> None:
    running = launch(rules="23").ready()
    assert running.passes(80, source_port=9000)
    running.rules.write_text("23 80")
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: running.logged("appliance.reloaded"), "reloaded")
    running.until(lambda: not running.passes(80, source_port=9000, wait_s=0.2), "rejudged")
    assert running.passes(81)


@pytest.mark.parametrize("rules", ["twenty-three", "666"])
def test_a_reload_that_fails_keeps_the_old_rules(launch: Launch, rules: str) -> None:
    running = launch(rules="23").ready()
    running.rules.write_text(rules)
    running.process.send_signal(signal.SIGHUP)
    failed = running.until(lambda: running.logged("appliance.reload_failed"), "refused")
    if rules == "twenty-three":
        assert "(ports, please)" in failed[0]["error"]
    assert running.passes(80)
    assert not running.passes(23)
    os.kill(running.worker_pid(), signal.SIGKILL)
    running.until(lambda: running.passes(81), "a new worker with the old rules")


def test_health_says_that_a_reload_failed_until_one_succeeds(launch: Launch) -> None:
    running = launch(rules="23").ready()
    running.rules.write_text("twenty-three")
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: running.health() == (200, "degraded\n"), "said")
    (reason,) = running.details()["reasons"]
    assert reason.startswith("the last reload failed: ")
    assert "(ports, please)" in reason
    (supervisor,) = set(running.children()) - {running.worker_pid()}
    os.kill(supervisor, signal.SIGKILL)
    running.until(lambda: running.health() == (200, "degraded\n"), "the next supervisor knows")
    running.rules.write_text("24")
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: running.health() == (200, "ready\n"), "and that it is over")
    counters = running.details()["counters"]
    assert (counters["reloads"], counters["reloads_failed"]) == (1, 1)
    assert not running.passes(24)


def test_drain_fails_health_at_once_serves_on_and_ends_with_0(launch: Launch) -> None:
    running = launch(settings="[drain]\nsettle_s = 1\nquiet_s = 1\n").ready()
    assert running.passes(80)
    running.process.send_signal(signal.SIGTERM)
    running.until(lambda: running.health()[0] == 503, "draining")
    assert running.health()[1] == "draining\n"
    assert running.passes(80)
    assert running.passes(81)
    assert running.process.wait(20) == 0
    assert running.logged("appliance.stopped")
    kinds = [e["event_type"] for e in running.events()]
    assert kinds.count("flow") == 2


def test_it_stays_as_long_as_flows_are_busy_and_not_longer(launch: Launch) -> None:
    running = launch(settings="[drain]\nsettle_s = 0.1\nquiet_s = 1\n").ready()
    assert running.passes(80)
    running.process.send_signal(signal.SIGTERM)
    busy_until = time.monotonic() + 3
    while time.monotonic() < busy_until:
        assert running.passes(80)
        time.sleep(0.1)
    assert running.process.wait(5) == 0
    (stopped,) = running.logged("appliance.stopped")
    assert stopped["live_flows"] == 0


def test_a_second_signal_stops_at_once(launch: Launch) -> None:
    running = launch().ready()
    running.process.send_signal(signal.SIGTERM)
    running.until(lambda: running.logged("appliance.draining"), "draining")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("twenty", "blocker: {rules}: invalid literal"),
        ("667", "667 cannot start"),
        ("666", "666 is not for us"),
    ],
)
def test_an_appliance_that_cannot_start_says_why_in_one_line(
    launch: Launch, rules: str, text: str
) -> None:
    running = launch(rules=rules)
    assert running.process.wait(20) == 2
    lines = running.log.read_text().splitlines()
    plain = [line for line in lines if not line.startswith("{")]
    assert len(plain) == 1, plain
    assert text.format(rules=running.rules) in plain[0]


def test_a_sink_that_cannot_be_made_ends_the_start_with_one_line(launch: Launch) -> None:
    running = launch(top='enable = ["blocker.py:NoBroker"]')
    assert running.process.wait(20) == 2
    lines = running.log.read_text().splitlines()
    plain = [line for line in lines if not line.startswith("{")]
    assert plain == ["blocker: no-broker: cannot be made: RuntimeError: no broker"]


def test_a_port_in_use_is_one_line_with_what_to_do(launch: Launch, tmp_path: Path) -> None:
    first = launch().ready()
    config = first.folder / "blocker.toml"
    import subprocess
    import sys

    command = [sys.executable, str(first.folder / "blocker.py"), "run", str(config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 2
    assert f"{first.address}:6081" in second.stderr
    assert "ss -lunp" in second.stderr
    assert second.stderr.count("\n") == 1
    assert first.passes(80)
