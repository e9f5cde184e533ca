"""Several workers behind one port: no flow is split, and one that dies costs the others nothing."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from appliance_sdk.conformance.encapsulation import option
from appliance_sdk.conformance.packets import numbered
from appliance_sdk.wire import build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.geneve import build_geneve
from appliance_sdk.wire.packet import ACK, SYN

from .conftest import Running, alive

Launch = Callable[..., Running]
WORKERS = 4
WINDOW = 64


def launched(launch: Launch, **arguments: Any) -> Running:
    running = launch(top=f"workers = {WORKERS}", **arguments).ready()
    running.until(lambda: len(running.details()["workers"]) == WORKERS, "all workers")
    return running


def flow(
    number: int, *, ipv6: bool = False, back: bool = False, size: int = 4, port: int = 443
) -> bytes:
    """A datagram of a flow, both directions of one flow in different encapsulations."""
    client = number.to_bytes(4, "big")
    server = b"\x0a\0\0\x02"
    if ipv6:
        client, server = b"\x20\x01" + bytes(10) + client, b"\x20\x01" + bytes(10) + server
    ends = (server, client, port, 5000) if back else (client, server, 5000, port)
    usual = build_geneve(1, number, ethertype=0x86DD if ipv6 else 0x0800)
    more = b"".join(option(9, bytes(size), option_class=0xFFFE) for _ in range(number % 5))
    words = len(usual) // 4 - 2 + len(more) // 4
    encapsulation = bytes((words,)) + usual[1:] + more
    return encapsulation + build_udp(*ends, payload=number.to_bytes(4, "big"))


def ask(running: Running, datagrams: Sequence[bytes], patience_s: float = 5.0) -> list[bytes]:
    """Send them all, no more at a time than the buffers hold: those that did not come back."""
    waiting: dict[bytes, None] = {}
    left = iter(datagrams)
    more = True
    deadline = time.monotonic() + patience_s
    receiver = running._receiver
    while (more or waiting) and time.monotonic() < deadline:
        while more and len(waiting) < WINDOW:
            datagram = next(left, b"")
            more = bool(datagram)
            if more:
                waiting[datagram] = None
                running.send(datagram)
        if select.select([receiver], [], [], 0.05)[0]:
            waiting.pop(receiver.recv(65535), None)
            deadline = time.monotonic() + patience_s
    return list(waiting)


def counted(running: Running, name: str, at_least: int) -> dict[str, Any]:
    def enough() -> Any:
        counters = running.details()["counters"]
        return counters if counters[name] >= at_least else None

    found: dict[str, Any] = running.until(enough, f"{name} at least {at_least}")
    return found


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_ten_thousand_flows_and_none_is_split_or_lost(launch: Launch, ipv6: bool) -> None:
    running = launched(launch)
    for back in (False, True):
        size = 48 if back else 4  # header options of 32 to 252 bytes
        sent = [flow(n, ipv6=ipv6, back=back, size=size) for n in range(10_000)]
        assert not ask(running, sent)
    counters = counted(running, "received", 20_000)
    assert counters["flows_opened"] == 10_000  # a flow in two workers would count twice
    assert counters["forwarded"] == 20_000
    per_worker = [worker for worker in running.details()["workers"] if worker["received"] > 2000]
    assert len(per_worker) == WORKERS


def test_fragments_are_handed_to_the_worker_of_their_flow(launch: Launch) -> None:
    running = launched(launch)
    sent: list[bytes] = []
    for number in range(100):
        client = number.to_bytes(4, "big")
        whole = build_udp(client, b"\x0a\0\0\x02", 5000, 443, payload=bytes(2000))
        header = build_geneve(1, number)
        opening = header + build_udp(client, b"\x0a\0\0\x02", 5000, 443, payload=client)
        assert not ask(running, [opening])  # read at once: unread answers would fill the buffer
        sent += [header + piece for piece in fragment_packet(numbered(whole, number + 1), 1280)]
    assert not ask(running, sent)
    counters = counted(running, "forwarded", len(sent) + 100)
    assert counters["flows_opened"] == 100
    assert counters["handed_over"] > len(sent) / 2
    assert counters["handover_lost"] == 0


def segment(number: int, said: int = 0, flags: int = ACK) -> bytes:
    """A datagram of a TCP flow, of which nothing was ever answered."""
    client, data = number.to_bytes(4, "big"), bytes(1) if flags == ACK else b""
    packet = build_tcp(
        client, b"\x0a\0\0\x02", 5000, 443, seq=said, ack=1, flags=flags, payload=data
    )
    return build_geneve(1, number) + packet


def owners(
    running: Running, numbers: Iterable[int], flow: Callable[[int], bytes] = flow
) -> dict[int, int]:
    """The worker of each flow, told by stopping one after the other.

    Nothing is answered by one that is stopped; one that is only slow makes it be asked again.
    """
    pids = {w["worker"]: w["pid"] for w in running.details()["workers"]}
    for _ in range(5):
        found: dict[int, list[int]] = {n: [] for n in numbers}
        asked = {flow(n): n for n in numbers}
        for worker, pid in pids.items():
            os.kill(pid, signal.SIGSTOP)
            for datagram in ask(running, list(asked), patience_s=0.3):
                found[asked[datagram]].append(worker)
            os.kill(pid, signal.SIGCONT)
            while ask(running, list(asked), patience_s=1.0):
                continue
        if all(len(workers) == 1 for workers in found.values()):
            return {number: workers[0] for number, workers in found.items()}
    raise AssertionError(f"each flow has one worker: {found}")


def test_a_worker_killed_under_load_loses_what_it_had_and_the_others_nothing(
    launch: Launch,
) -> None:
    drain = "[drain]\nsettle_s = 0\nquiet_s = 0.5\n"
    running = launched(launch, settings=f"stalled_s = 30\n{drain}")
    numbers = range(60)
    assert not ask(running, [segment(n, flags=SYN) for n in numbers])
    owner = owners(running, numbers, segment)
    victim = owner[0]
    own = {n for n in numbers if owner[n] == victim}
    pid = next(w["pid"] for w in running.details()["workers"] if w["worker"] == victim)
    killed = 0.0
    unanswered: set[bytes] = set()  # of its own flows, since the turn after
    back: set[int] = set()
    turn = 0
    while back != own and turn < 2000:
        turn += 1
        # More than so many answers at once would find the buffer of this test full.
        turns = numbers if len(unanswered) < 100 else set(numbers) - own
        sent = {segment(n, turn): n for n in turns}
        for datagram, number in sent.items():
            running.send(datagram)
            if turn == 20 and number == len(numbers) // 2:
                killed = time.monotonic()
                os.kill(pid, signal.SIGKILL)
        if turn > 20:
            unanswered |= {datagram for datagram, number in sent.items() if number in own}
        waiting = set(sent) if turn < 20 else {d for d, n in sent.items() if n not in own}
        while waiting:
            heard = select.select([running._receiver], [], [], 5.0)[0]
            assert heard, f"turn {turn}: {[sent[datagram] for datagram in waiting]}"
            datagram = running._receiver.recv(65535)
            waiting.discard(datagram)
            if datagram in unanswered:
                unanswered.discard(datagram)
                back.add(int.from_bytes(datagram[52:56], "big"))
    assert back == own
    assert time.monotonic() - killed < 1.0
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    ended = [event for event in running.events() if event["event_type"] == "flow"]
    met = {e["gwlb"]["cookie"] for e in ended if e["flow"]["midstream"]}
    assert met == own
    assert {e["gwlb"]["cookie"] for e in ended} == set(numbers)


def test_after_a_killed_parent_the_same_command_works_at_once(launch: Launch) -> None:
    running = launched(launch)
    before = running.children()
    for _ in range(3):
        running.crash_and_restart()
        running.ready()
        assert not any(alive(pid) for pid in before)
        before = running.children()
        assert not ask(running, [flow(n) for n in range(100)])


def test_a_killed_parent_takes_every_worker_along_and_the_port_is_free(launch: Launch) -> None:
    running = launched(launch)
    children = running.children()
    assert len(children) == WORKERS + 1
    running.process.kill()
    running.process.wait(10)
    running.until(lambda: not any(alive(pid) for pid in children), "children gone", 1.0)

    def free() -> bool:
        with socket.socket(type=socket.SOCK_DGRAM) as geneve, socket.socket() as health:
            health.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                geneve.bind((running.address, 6081))
                health.bind((running.address, running.health_port))
            except OSError:
                return False
        return True

    running.until(free, "the ports are free")  # threads die later


def test_a_second_appliance_does_not_slip_into_the_group(launch: Launch) -> None:
    import subprocess
    import sys

    running = launched(launch)
    config = running.folder / "blocker.toml"
    command = [sys.executable, str(running.folder / "blocker.py"), "run", str(config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 2
    assert f"another process has UDP {running.address}:6081" in second.stderr
    assert not ask(running, [flow(n) for n in range(200)])


def test_health_follows_every_worker(launch: Launch) -> None:
    running = launched(launch, settings="stalled_s = 0.5\n")
    pid = running.details()["workers"][2]["pid"]
    os.kill(pid, signal.SIGSTOP)
    running.until(lambda: running.health()[0] == 503, "unhealthy")
    assert any("worker 2" in reason for reason in running.details()["reasons"])
    running.until(lambda: running.logged("worker.hung"), "replaced")
    running.ready()
    assert not ask(running, [flow(n) for n in range(200)])


def test_a_plugin_that_hangs_costs_its_worker_and_the_others_go_on(launch: Launch) -> None:
    running = launched(launch, settings="stalled_s = 2\n")
    pids = {w["worker"]: w["pid"] for w in running.details()["workers"]}
    owner = owners(running, range(40))
    running.ready()
    running.send(flow(1, port=7001))
    running.until(lambda: running.health()[0] == 503, "unhealthy")
    (reason,) = running.details()["reasons"]
    victim = int(reason.split()[1])
    assert reason.startswith(f"worker {victim} has said nothing for")
    assert not ask(running, [flow(n) for n, worker in owner.items() if worker != victim])
    running.until(lambda: running.logged("worker.hung"), "replaced")
    assert {one["worker"] for one in running.logged("worker.hung")} == {victim}
    running.ready()
    assert not ask(running, [flow(n) for n in range(200)])
    assert "in flow_opened" in running.log.read_text()
    after = {w["worker"]: w["pid"] for w in running.details()["workers"]}
    assert {worker for worker in pids if after[worker] != pids[worker]} == {victim}


def test_every_worker_drains(launch: Launch) -> None:
    running = launched(launch, settings="[drain]\nsettle_s = 0.5\nquiet_s = 0.5\n")
    assert not ask(running, [flow(n) for n in range(100)])
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    kinds = [event["event_type"] for event in running.events()]
    assert kinds.count("flow") == 100


def test_what_a_plugin_counts_and_remembers_is_that_of_all_workers(launch: Launch) -> None:
    running = launched(launch)
    counted_flows = [flow(n, port=7004) for n in range(60)]
    assert len(ask(running, counted_flows, patience_s=0.5)) == 50
    # Another flow of the same client, which another worker may have, knows what the first one put.
    assert not ask(running, [flow(n, port=7005) for n in range(60)])
    assert not ask(running, [flow(n, port=7006) for n in range(60)])
    assert len(ask(running, [flow(n, port=7006) for n in range(100, 110)], patience_s=0.5)) == 10
    for worker in running.details()["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    # What they shared outlives them.
    running.until(lambda: not ask(running, [flow(0)], patience_s=0.3), "forwarding again")
    assert not ask(running, [flow(n, port=7006) for n in range(60)])
    assert len(ask(running, [flow(n, port=7004) for n in range(200, 210)], patience_s=0.5)) == 10
