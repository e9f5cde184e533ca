"""What is lost makes health degraded, and leaves it healthy; an episode is told once."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest

from appliance_sdk.server.losses import SHOWN_S
from appliance_sdk.server.monitor import Monitor

from .conftest import Running
from .test_monitor import beat

Launch = Callable[..., Running]


@pytest.fixture
def monitor() -> Monitor:
    made = Monitor(2, 2.0 * SHOWN_S, 0.0)
    made.beat(beat(), 1.0)
    made.beat(beat(worker=1), 1.0)
    assert made.state(1.0).healthy
    return made


def test_drops_are_degraded_and_healthy_until_some_seconds_after_the_last(monitor: Monitor) -> None:
    began = monitor.beat(beat(kernel_drops=1000), 2.0)
    assert began == ["overload: 1,000 packets found the receive buffer of worker 0 full"]
    assert monitor.state(2.0) == ("degraded", tuple(began), True)
    for second in range(3, 9):
        assert monitor.beat(beat(kernel_drops=1234), float(second)) == []
    reasons = ("overload: 1,234 packets found the receive buffer of worker 0 full",)
    assert monitor.state(3.0 + SHOWN_S - 0.1) == ("degraded", reasons, True)
    assert monitor.state(3.0 + SHOWN_S) == ("ready", (), True)
    assert monitor.details(3.0)["state"] == "degraded"
    assert monitor.counters()["loss_episodes"] == {"kernel_drops": 1}


def test_another_episode_begins_when_the_last_one_has_ended(monitor: Monitor) -> None:
    assert monitor.beat(beat(kernel_drops=5), 2.0)
    assert not monitor.beat(beat(kernel_drops=6), 1.9 + SHOWN_S)
    assert not monitor.beat(beat(kernel_drops=6), 50.0)
    assert monitor.beat(beat(kernel_drops=8), 50.2) == [
        "overload: 2 packets found the receive buffer of worker 0 full"
    ]
    assert monitor.counters()["loss_episodes"] == {"kernel_drops": 2}


def test_each_worker_and_kind_of_loss_has_its_own_episode(monitor: Monitor) -> None:
    assert len(monitor.beat(beat(kernel_drops=5, messages_lost=1), 2.0)) == 2
    assert len(monitor.beat(beat(worker=1, handover_lost=3, unbindable_ports=2), 2.1)) == 2
    assert monitor.state(2.2).reasons == (
        "overload: 5 packets found the receive buffer of worker 0 full",
        "overload: 1 messages of worker 0 were lost, events among them",
        "overload: 3 fragments of worker 1 found another's inbox full",
        "worker 1 cannot bind 2 source ports to answer from",
    )


def test_a_worker_that_was_replaced_begins_to_count_at_nothing(monitor: Monitor) -> None:
    assert monitor.beat(beat(kernel_drops=50), 2.0)
    assert not monitor.beat(beat(kernel_drops=0, pid=2), 3.0 + SHOWN_S)
    assert monitor.state(3.0 + SHOWN_S).name == "ready"
    assert monitor.beat(beat(kernel_drops=1, pid=3), 4.0 + SHOWN_S)


def test_what_is_broken_is_unhealthy_also_in_a_flood(monitor: Monitor) -> None:
    monitor.beat(beat(kernel_drops=50), 2.0)
    monitor.beat(beat(worker=1, degraded={"feed": "too old"}), 2.0)
    state = monitor.state(2.0)
    assert (state.name, state.healthy, len(state.reasons)) == ("degraded", False, 2)


def test_a_burst_that_the_buffer_does_not_hold_is_said_once_and_checks_still_succeed(
    launch: Launch,
) -> None:
    running = launch(
        listen="raw = false\nreceive_buffer_bytes = 8192\n", settings="stalled_s = 30\n"
    ).ready()
    worker = running.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    for number in range(500):
        running.send(running.packet(80, source_port=6000 + number))
    os.kill(worker, signal.SIGCONT)
    running.until(lambda: running.details()["state"] == "degraded", "degraded")
    details = running.details()
    lost = details["counters"]["kernel_drops"]
    assert 0 < lost < 500
    assert details["reasons"] == [
        f"overload: {lost:,} packets found the receive buffer of worker 0 full"
    ]
    assert running.health() == (200, "degraded\n")
    (said,) = running.logged("worker.losing")
    assert said["level"] == "warning"
    assert details["counters"]["loss_episodes"] == {"kernel_drops": 1}
    running.until(lambda: running.health() == (200, "ready\n"), "over", 5 * SHOWN_S)

    def states() -> list[str]:
        return [change["state"] for change in running.logged("health.changed")]

    running.until(lambda: states()[-2:] == ["degraded", "ready"], "logged")
    assert states().count("degraded") == 1
    assert len(running.logged("worker.losing")) == 1


def test_tcp_checks_still_connect_while_packets_are_lost(launch: Launch) -> None:
    checks = 'kind = "tcp"\nstalled_s = 30\n'
    running = launch(listen="raw = false\nreceive_buffer_bytes = 8192\n", settings=checks)

    def connects() -> bool:
        try:
            socket.create_connection((running.address, running.health_port), 5).close()
        except ConnectionError:
            return False
        return True

    running.until(connects, "healthy")
    worker = running.children()[1]
    os.kill(worker, signal.SIGSTOP)
    for number in range(500):
        running.send(running.packet(80, source_port=6000 + number))
    os.kill(worker, signal.SIGCONT)
    running.until(lambda: running.logged("health.changed")[-1]["state"] == "degraded", "degraded")
    assert connects()
