"""The processes of an appliance: found wherever they went, and told apart by their sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance_sdk.harness import Subprocess, Target
from appliance_sdk.harness.process_tree import (
    descriptors,
    family,
    holders,
    kill_family,
    memory_bytes,
    send_signal,
)

TREE = """
import os, socket, sys, time
def wait(): time.sleep(600)
if os.fork() == 0: wait()                       # a child
if os.fork() == 0:
    os.setsid()                                 # a daemon: its parent ends at once
    if os.fork() == 0: wait()
    os._exit(0)
print("up", flush=True)
wait()
"""


def until(holds: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Subprocess]:
    process = Subprocess([sys.executable, "-c", TREE], log=tmp_path / "log")
    process.start(Target("one", "127.0.0.1", "a"))
    assert until(lambda: "up" in process.tail())
    yield process
    process.kill()


def test_children_and_daemons_are_of_the_family(tree: Subprocess) -> None:
    assert until(lambda: len(tree.family()) == 3)  # the one in between has ended
    assert len(family(tree.pid)) == 2  # without the mark in its environment the daemon is lost
    assert family(os.getpid()).count(tree.pid) == 1


def test_none_of_the_family_is_left(tree: Subprocess) -> None:
    assert until(lambda: len(tree.family()) == 3)
    members = tree.family()
    tree.kill()
    assert not [pid for pid in members if alive(pid)]
    assert tree.family() == []


def test_a_daemon_goes_also_when_its_ancestor_has_ended(tree: Subprocess) -> None:
    assert until(lambda: len(tree.family()) == 3)
    members = tree.family()
    os.kill(tree.pid, signal.SIGKILL)
    assert until(lambda: tree.ended() is not None)
    tree.stop()
    tree.kill()
    assert not [pid for pid in members if alive(pid)]


def test_sockets_tell_the_processes_apart() -> None:
    code = (
        "import socket,sys,time; kind = getattr(socket, sys.argv[1])\n"
        "s = socket.socket(socket.AF_INET, kind); s.bind((sys.argv[2], 0))\n"
        "kind == socket.SOCK_STREAM and s.listen()\n"
        "print(s.getsockname()[1], flush=True); time.sleep(600)"
    )
    processes = []
    ports = []
    for kind, address in (("SOCK_DGRAM", "127.0.0.1"), ("SOCK_STREAM", "0.0.0.0")):
        process = subprocess.Popen(
            [sys.executable, "-c", code, kind, address], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        ports.append(int(process.stdout.readline()))
    try:
        pids = [process.pid for process in processes]
        assert holders(pids, "udp", "127.0.0.1", ports[0]) == {pids[0]}
        assert holders(pids, "udp", "127.0.0.2", ports[0]) == set()
        assert holders(pids, "tcp", "127.0.0.1", ports[1]) == {pids[1]}  # on every address
        assert holders(pids, "tcp", "127.0.0.1", ports[0]) == set()
    finally:
        for process in processes:
            kill_family(process.pid)
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()


def test_descriptors_and_memory_are_counted() -> None:
    own = [os.getpid()]
    before = descriptors(own)
    with socket.socket(), socket.socket():
        assert descriptors(own) == before + 2
    # In a process of its own: this one may have room left over from other tests.
    code = "import sys; input(); kept = b'x' * 30_000_000; print('here', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        held = memory_bytes([child.pid])
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "here\n"
        assert memory_bytes([child.pid]) > held + 15_000_000
        child.kill()


def test_memory_that_somebody_else_ceases_to_share_is_no_growth() -> None:
    code = (
        "import os, time; shared = bytearray(b'x' * 30_000_000)\n"
        "if not os.fork(): print(os.getpid(), flush=True); time.sleep(600)\n"
        "input(); shared[:] = bytes(len(shared)); print('written', flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            held = memory_bytes([child])
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "written\n"
            assert held > 30_000_000
            assert memory_bytes([child]) < held + 1_000_000
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()


def test_what_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    assert family(process.pid) == []
    assert kill_family(process.pid) == []
    assert (descriptors([process.pid]), memory_bytes([process.pid])) == (0, 0)
    assert holders([process.pid], "udp", "127.0.0.1", 6081) == set()
    send_signal(process.pid, signal.SIGCONT)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
