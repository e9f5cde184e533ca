"""Ends the appliances of a harness that ended without doing so itself, killed or crashed, and
removes its temporary folders.

The kernel ends the children of such a harness (`die_with_parent`), but not what those started: a
shell script's appliance, a daemon. So a second process waits for the first one's end. It runs this
file alone, on the standard library.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

MARK = "APPLIANCE_HARNESS"
"""The variable in an appliance's environment by which its processes are found."""
_LOOK_S = 1.0


class Guard:
    """The waiting process; it is started for the first appliance and lives as long as this one."""

    def __init__(self) -> None:
        self._owner = 0
        self._pipe = -1

    def take(self, pid: int, marker: str) -> None:
        """Have a process and its family ended with this process."""
        self.ready()
        self._tell(f"+{pid} {marker}\n")

    def ready(self) -> None:
        """Have the waiting process started: it stays in the network namespace of this moment."""
        if self._owner != os.getpid():  # the first time, or in a fork, which has a life of its own
            self._start()

    def release(self, pid: int, marker: str) -> None:
        """It is ended."""
        if self._owner == os.getpid():
            self._tell(f"-{pid} {marker}\n")

    def take_folder(self, path: str) -> None:
        """Have a folder, by its absolute path, removed with the end of this process."""
        self.ready()
        self._tell(f"+{path}\n")

    def release_folder(self, path: str) -> None:
        """It is removed."""
        if self._owner == os.getpid():
            self._tell(f"-{path}\n")

    def forget(self) -> None:
        """In a fork: it is not the one whose end is waited for."""
        if self._pipe >= 0:
            os.close(self._pipe)
        self._owner, self._pipe = 0, -1

    def _start(self) -> None:
        self.forget()
        if not sys.executable:
            return
        reading, self._pipe = os.pipe()
        self._owner = os.getpid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", __file__, str(self._owner)],
                {name: value for name, value in os.environ.items() if name != MARK},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reading, 0),
                    (os.POSIX_SPAWN_DUP2, nowhere, 1),  # nobody shall wait for it to close these
                    (os.POSIX_SPAWN_DUP2, nowhere, 2),
                ],
                setsid=True,  # Ctrl-C and a hang-up are for the harness
            )
        finally:
            os.close(reading)
            os.close(nowhere)

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # somebody killed it
            os.write(self._pipe, line.encode())


GUARD = Guard()


def wait(owner: int) -> None:
    """What the waiting process does: until the owner's end, then remove what it left."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    wards: dict[str, None] = {}
    for line in _lines(owner):
        if line.startswith("+"):
            wards[line[1:]] = None
        else:
            wards.pop(line[1:], None)
    kill_family = _kill_family()
    folders = [ward for ward in wards if ward.startswith("/")]
    for ward in wards.keys() - folders:
        pid, _, marker = ward.partition(" ")
        kill_family(int(pid), marker)
    for folder in folders:  # now that nobody writes to them
        shutil.rmtree(folder, ignore_errors=True)


def _lines(owner: int) -> Iterator[str]:
    """What the owner says, until it closes the pipe or, where a fork holds that open, is gone."""
    rest = b""
    while True:
        ready, _, _ = select.select([0], [], [], _LOOK_S)
        if not ready:
            if os.getppid() != owner:
                return
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in lines)


def _kill_family() -> Callable[..., Any]:
    """The function of the module beside this one, without its package and all that this imports."""
    path = os.path.join(os.path.dirname(__file__), "process_tree.py")
    spec = importlib.util.spec_from_file_location("process_tree", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = module.kill_family
    return function


if __name__ == "__main__":
    wait(int(sys.argv[1]))
