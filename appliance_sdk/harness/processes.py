"""Appliances as processes of their own: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.guard import GUARD, MARK
from appliance_sdk.harness.process_tree import family, kill_family, send_signal
from appliance_sdk.harness.states import Target
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import near_miss
from appliance_sdk.server.config import ApplianceConfig, Drain, Events, Health, Listen, Log
from appliance_sdk.server.launch import run_appliance
from appliance_sdk.server.orphan import die_with_parent
from appliance_sdk.wire.geneve import PORT

SHORT_DRAIN = Drain(deadline_s=5, settle_s=0, quiet_s=1)
"""How an appliance of this program ends when it is told to: no load balancer waits for it."""
_numbers = itertools.count(1)
_STOP_S = 5.0
_TAIL_BYTES = 2000
_KEPT_BYTES = 4 * 1024 * 1024
"""What an appliance may print until all but the last of it is forgotten."""
_BRACES = "a brace of your own is doubled: {{ or }}"


class ApplianceProcess(Protocol):
    """An appliance that the harness can start and stop."""

    pid: int
    """0 while it does not run."""

    def start(self, target: Target, *, output: int | None = None) -> None:
        """Start it for the address of a target. Raises HarnessError.

        What it prints goes to the descriptor `output`, if one is given.
        """

    def twin(self) -> ApplianceProcess:
        """Another one of the same, not started yet."""

    def kill(self) -> None:
        """End it at once, as a crash would."""

    def pause(self) -> None:
        """Stop it where it stands (SIGSTOP), with every process that it started."""

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""

    def stop(self) -> None:
        """End it and wait; one that does not end is killed."""

    def signal(self, signum: int) -> None:
        """Send a signal, such as SIGTERM to drain."""

    def ended(self) -> int | None:
        """The exit status, None while it runs."""

    def tail(self) -> str:
        """The last that it printed, if that is kept."""

    def trim(self) -> None:
        """Keep no more of what it printed than is needed; to be called from time to time."""

    def family(self) -> list[int]:
        """Itself and its children and theirs, as far as they run."""


class Subprocess:
    """An appliance in any language: a command line with places to fill in.

    `{address}` is where it shall listen for GENEVE, `{port}` the UDP port: always 6081;
    `{health_port}` where it shall answer health checks; `{origins}` the range that packets come
    from; `{device}` its network device; `{name}` the target's name. What it prints goes to `log`;
    by default the last of it is kept. With `netns` the conformance suite runs it in a network
    namespace of its own, as it must be if it reads a device or needs one.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        health_port: int = 8080,
        health_path: str = "/",
        origins: str = "127.0.0.0/8",
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        netns: bool = False,
        device: str = "lo",
    ) -> None:
        try:
            words = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise HarnessError(f"{error}: {command}") from None
        if not words:
            raise HarnessError("the appliance's command is empty")
        self.command = words
        self.health_port = health_port
        self.health_path = health_path
        self.pid = 0
        self.netns = netns
        self._places = {
            "port": str(PORT),
            "health_port": str(health_port),
            "origins": origins,
            "device": device,
            "name": "",
            "address": "",
        }
        for word in words:
            filled(word, self._places)  # a mistake is better said now
        self._env = dict(env or {})
        self._mark = f"{os.getpid()}-{next(_numbers)}"
        self._log = log
        self._kept: BinaryIO | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def recipe(self) -> tuple[Any, ...]:
        """What is started: equal for two that behave alike."""
        return self.command, self.health_path, self._places, self._env, self._log, self.netns

    def again(
        self,
        health_port: int,
        *,
        origins: str = "",
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        device: str = "",
    ) -> Subprocess:
        """Another process of the same command, whose health is asked on this port."""
        return Subprocess(
            self.command,
            health_port=health_port,
            health_path=self.health_path,
            origins=origins or self._places["origins"],
            env={**self._env, **(env or {})},
            log=self._log or log,
            netns=self.netns,
            device=device or self._places["device"],
        )

    def twin(self) -> Subprocess:
        return self.again(self.health_port)

    def start(self, target: Target, *, output: int | None = None) -> None:
        self.kill()
        places = {**self._places, "address": target.address, "name": target.name}
        command = [filled(word, places) for word in self.command]
        printed = self._open_output() if output is None else output
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env={**os.environ, **self._env, MARK: self._mark},
                start_new_session=True,  # Ctrl-C is for the harness, which then stops them
                preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads here
            )
        except OSError as error:
            raise HarnessError(f"{command[0]}: {error.strerror}") from None
        except subprocess.SubprocessError as error:
            raise HarnessError(f"{command[0]}: {error}") from None
        finally:
            if output is None and self._kept is None:
                os.close(printed)
        self.pid = self._process.pid
        GUARD.take(self.pid, self._marker)

    def ended(self) -> int | None:
        """The exit status, None while it runs."""
        if self._process is None:
            return None
        return _status(self.pid) if self.pid else self._process.returncode

    def tail(self) -> str:
        """The last that it printed."""
        if self._kept is None:
            return _tail(self._log)
        size = os.fstat(self._kept.fileno()).st_size
        data = os.pread(self._kept.fileno(), _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
        return data.decode(errors="replace").strip()

    def trim(self) -> None:
        """Forget all but the last of what it printed, if that is much."""
        if self._kept is None or os.fstat(self._kept.fileno()).st_size < _KEPT_BYTES:
            return
        said = self.tail()
        os.ftruncate(self._kept.fileno(), 0)
        self._kept.write(said.encode() + b"\n")

    def signal(self, signum: int) -> None:
        """Send a signal, such as SIGTERM to drain."""
        if self.pid and self.ended() is None:
            send_signal(self.pid, signum)

    def family(self) -> list[int]:
        return family(self.pid, self._marker) if self.pid else []

    def kill(self) -> None:
        if self.pid and self._process is not None:
            # Also children that outlived it, and such as made themselves daemons.
            kill_family(self.pid, self._marker)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may not be killed
                self._process.wait(_STOP_S)
            GUARD.release(self.pid, self._marker)
            self.pid = 0

    def pause(self) -> None:
        for pid in self.family():
            send_signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self.family():
            send_signal(pid, signal.SIGCONT)

    def stop(self) -> None:
        stop_all([self])

    @property
    def _marker(self) -> str:
        return f"{MARK}={self._mark}"

    def _open_output(self) -> int:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        try:
            if self._log is not None:
                return os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._kept = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - until the next start
            # Appending, so that what is printed after `trim` stands where the file then ends.
            fcntl.fcntl(self._kept, fcntl.F_SETFL, os.O_APPEND)
            return self._kept.fileno()
        except OSError:  # the disk is full: it runs all the same
            return os.open(os.devnull, os.O_WRONLY)


def filled(word: str, places: Mapping[str, str]) -> str:
    """A word of a command line with its places filled in. Raises HarnessError."""
    try:
        return word.format(**places)
    except KeyError as error:
        name = str(error.args[0])
        wrong = f"no place {{{name}}}"
        hint = near_miss(name, list(places)) if name.isidentifier() else _BRACES
    except (IndexError, ValueError, AttributeError) as error:
        wrong, hint = str(error), _BRACES
    raise HarnessError(f"{word}: {wrong} ({hint})")


class Forked:
    """A plugin class of this program, run as a whole appliance in a child process."""

    def __init__(
        self,
        plugin: type[Plugin],
        config: Mapping[str, Any] | None = None,
        *,
        health_port: int = 80,
        origins: str = "127.0.0.0/8",
        events: str = "",
        settings: ApplianceConfig | None = None,
        log: Path | None = None,
    ) -> None:
        self.pid = 0
        self._origins = origins
        self._events = events
        self._log = log
        self._status: int | None = None
        self._plugin = plugin
        self._config = dict(config or {})
        self._health_port = health_port
        self._settings = settings or ApplianceConfig(drain=SHORT_DRAIN)

    def twin(self) -> Forked:
        return Forked(
            self._plugin,
            self._config,
            health_port=self._health_port,
            origins=self._origins,
            events=self._events,
            settings=self._settings,
            log=self._log,
        )

    def start(self, target: Target, *, output: int | None = None) -> None:
        quiet = output is None and self._log is None
        config = msgspec.structs.replace(
            self._settings,
            origins=(self._origins,),
            events=Events(file=self._events, stats_interval_s=0),
            listen=Listen(addresses=self._addresses(target), raw=self._settings.listen.raw),
            health=Health(address=target.address, port=self._health_port),
            log=Log(format="console", level="error" if quiet else "info"),
            plugins={self._plugin.name: self._config},
        )
        pid = os.fork()
        if not pid:
            code = 1
            try:
                die_with_parent()
                os.setsid()
                GUARD.forget()
                _print_to(output, self._log)
                run_appliance(config, self._plugin)
                code = 0
            except BaseException as error:  # the child must end here, whatever happened
                print(f"{self._plugin.name}: {error}", file=sys.stderr, flush=True)
            os._exit(code)
        self.pid = pid
        self._status = None
        GUARD.take(pid, "")

    def signal(self, signum: int) -> None:
        if self.pid and self.ended() is None:
            send_signal(self.pid, signum)

    def ended(self) -> int | None:
        if self._status is None and self.pid:
            self._status = _status(self.pid)
        return self._status

    def tail(self) -> str:
        return _tail(self._log)

    def family(self) -> list[int]:
        return family(self.pid) if self.pid else []

    def trim(self) -> None:
        """It prints to a log of its own, or where this program does."""

    def kill(self) -> None:
        if self.pid:
            kill_family(self.pid)
            pid, status = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(status)
            GUARD.release(pid, "")
            self.pid = 0

    def pause(self) -> None:
        for pid in self.family():
            send_signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self.family():
            send_signal(pid, signal.SIGCONT)

    def stop(self) -> None:
        stop_all([self])

    def _addresses(self, target: Target) -> tuple[str, ...]:
        """The target's, and what the settings have besides "every address"."""
        also = [a for a in self._settings.listen.addresses if a not in ("0.0.0.0", target.address)]
        return target.address, *also


def stop_all(processes: Iterable[ApplianceProcess]) -> None:
    """End several at the same time, and wait; those that do not end are killed."""
    running = [process for process in processes if process.pid]
    for process in running:
        process.resume()  # one that hangs would not hear it
    # Two signals: the first makes an appliance drain, the second ends it.
    for patience_s in (_STOP_S / 10, _STOP_S):
        for process in running:
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and any(one.ended() is None for one in running):
            time.sleep(0.005)
    for process in running:
        process.kill()


def _status(pid: int) -> int | None:
    """How a child ended, None while it runs. Its number stays taken until it is waited for: who
    kills it, or what it left, kills nobody else."""
    try:
        told = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # somebody else waited for it
        return 0
    if told is None:
        return None
    return told.si_status if told.si_code == os.CLD_EXITED else -told.si_status


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        return file.read().decode(errors="replace").strip()


def _print_to(output: int | None, log: Path | None) -> None:
    """Have this process print to a descriptor or file, if there is one."""
    if output is None:
        if log is None:
            return
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # What this program made of them, a test's capture for example, is not what the child wants.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
