"""The processes of an appliance that was started here, and which of its sockets each holds.

All of it is read from proc(5); what ended meanwhile, or may not be read, is left out.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_TCP_LISTENS = "0A"
_AGAIN_S = 0.01


def family(pid: int, marker: str = "") -> list[int]:
    """A process, what descends from it and what else is in its session; none that is dead.

    `marker` is a NAME=VALUE of its environment alone: it finds those too that left the session
    and whose parents have ended, as daemons do.
    """
    parents: dict[int, int] = {}
    found: list[int] = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or not (fields := _stat(int(entry.name))):
            continue
        one = int(entry.name)
        parents[one] = int(fields[1])
        if one == pid or int(fields[3]) == pid or (marker and _has(one, marker)):
            found.append(one)
    for member in found:  # grows while it is walked
        found += [one for one, parent in parents.items() if parent == member and one not in found]
    return found


def kill_family(pid: int, marker: str = "", *, patience_s: float = 5.0) -> list[int]:
    """Kill a family and wait until it is gone: who is there yet, because it may not be killed."""
    deadline = time.monotonic() + patience_s
    while members := family(pid, marker):
        for member in members:
            send_signal(member, signal.SIGKILL)
        if time.monotonic() > deadline:
            return members
        time.sleep(_AGAIN_S)
    return []


def send_signal(pid: int, signum: int) -> None:
    """Send a signal to a process that may be gone, or be somebody else's by now."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return


def holders(pids: Iterable[int], protocol: str, address: str, port: int) -> set[int]:
    """Which of the processes have a socket on an IPv4 address: "udp", or "tcp" that listens."""
    found = set()
    for pid in pids:
        if _bound(pid, protocol, address, port).intersection(_sockets(pid)):
            found.add(pid)
    return found


def descriptors(pids: Iterable[int]) -> int:
    """How many files and sockets the processes have open, together."""
    return sum(sum(1 for _ in _open_files(pid)) for pid in pids)


def memory_bytes(pids: Iterable[int]) -> int:
    """The resident memory of the processes, shared pages in full for each.

    So it grows by what they touch anew alone: their proportional share would grow too when somebody
    else, such as the program that they were forked from, comes to own pages that it shared.
    """
    return sum(_resident_bytes(pid) for pid in pids)


def _resident_bytes(pid: int) -> int:
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in text.splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] == "Rss:")


def _stat(pid: int) -> list[str]:
    """State, parent, process group, session and so on; [] of one that is gone or a zombie."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return fields if fields[0] not in "ZX" else []


def _has(pid: int, marker: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return marker.encode() in environment.split(b"\0")


def _sockets(pid: int) -> Iterator[str]:
    for name in _open_files(pid):
        if name.startswith("socket:["):
            yield name[8:-1]


def _open_files(pid: int) -> Iterator[str]:
    try:
        entries = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield os.readlink(entry)
        except OSError:
            continue


def _bound(pid: int, protocol: str, address: str, port: int) -> set[str]:
    """The inodes of sockets bound there, in the network namespace of a process."""
    own = struct.unpack("=I", socket.inet_aton(address))[0]
    found = set()
    for suffix in ("", "6"):
        try:
            lines = (_PROC / str(pid) / "net" / (protocol + suffix)).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            bound, _, bound_port = fields[1].partition(":")
            if int(bound_port, 16) != port or int(bound[-8:], 16) not in (own, 0):
                continue
            if protocol == "udp" or fields[3] == _TCP_LISTENS:
                found.add(fields[9])
    return found
