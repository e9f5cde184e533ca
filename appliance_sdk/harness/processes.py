"""Appliances as processes of their own: watched, stopped, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance_sdk.harness.process_tree import send_signal
from appliance_sdk.harness.states import Target

STOP_S = 5.0
"""How long a process may take to end."""
TAIL_BYTES = 2000
"""How much of what an appliance printed is shown."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ApplianceProcess(ABC):
    """An appliance that the harness can start and stop."""

    pid: int
    """0 while it does not run."""

    @abstractmethod
    def start(self, target: Target, *, output: int | None = None) -> None:
        """Start it for the address of a target. Raises HarnessError.

        What it prints goes to the descriptor `output`, if one is given.
        """

    @abstractmethod
    def twin(self) -> ApplianceProcess:
        """Another one of the same, not started yet."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, as a crash would."""

    def pause(self) -> None:
        """Stop it where it stands (SIGSTOP), with every process that it started."""
        for pid in self.family():
            send_signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        for pid in self.family():
            send_signal(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and wait; one that does not end is killed."""
        stop_all([self])

    def signal(self, signum: int) -> None:
        """Send a signal, such as SIGTERM to drain."""
        if self.pid and self.ended() is None:
            send_signal(self.pid, signum)

    @abstractmethod
    def ended(self) -> int | None:
        """The exit status, None while it runs."""

    @abstractmethod
    def tail(self) -> str:
        """The last that it printed, if that is kept."""

    @abstractmethod
    def trim(self) -> None:
        """Keep no more of what it printed than is needed; to be called from time to time."""

    @abstractmethod
    def family(self) -> list[int]:
        """Itself and its children and theirs, as far as they run."""


def stop_all(processes: Iterable[ApplianceProcess]) -> None:
    """End several at the same time, and wait; those that do not end are killed."""
    running = [process for process in processes if process.pid]
    for process in running:
        process.resume()  # one that hangs would not hear it
    # Two signals: the first makes an appliance drain, the second ends it.
    for patience_s in (STOP_S / 10, STOP_S):
        for process in running:
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and any(one.ended() is None for one in running):
            time.sleep(0.005)
    for process in running:
        process.kill()


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """What would end this program comes after the block, in which a process is started.

    In its middle the interruption is lost, or the process is one that nobody knows of. What is
    started calls `signals_come`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def signals_come() -> None:
    """In a new process: what ends it is heard again, and ends it.

    Functions of the program that it comes from are not called for that.
    """
    for signum in _ENDING:
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def status_of(pid: int) -> int | None:
    """How a child ended, None while it runs. Its number stays taken until it is waited for: who
    kills it, or what it left, kills nobody else."""
    try:
        told = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # somebody else waited for it
        return 0
    if told is None:
        return None
    return told.si_status if told.si_code == os.CLD_EXITED else -told.si_status


def tail_of(log: Path | None) -> str:
    """The last of a file, as text."""
    if log is None or not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
        return file.read().decode(errors="replace").strip()
