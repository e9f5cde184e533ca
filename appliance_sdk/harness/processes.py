"""Appliances as processes of their own: started, watched, and never left behind."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.process_tree import family, kill_family
from appliance_sdk.harness.states import Target
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import near_miss
from appliance_sdk.server.config import ApplianceConfig, Drain, Events, Health, Listen, Log
from appliance_sdk.server.launch import run_appliance
from appliance_sdk.server.orphan import die_with_parent
from appliance_sdk.wire.geneve import PORT

SHORT_DRAIN = Drain(deadline_s=5, settle_s=0, quiet_s=1)
"""How an appliance of this program ends when it is told to: no load balancer waits for it."""
_MARK = "APPLIANCE_HARNESS"
"""The variable in an appliance's environment by which its processes are found."""
_numbers = itertools.count(1)
_STOP_S = 5.0
_TAIL_BYTES = 2000
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

    def family(self) -> list[int]:
        """Itself and its children and theirs, as far as they run."""


class Subprocess:
    """An appliance in any language: a command line with places to fill in.

    `{address}` is where it shall listen for GENEVE, `{port}` the UDP port: always 6081;
    `{health_port}` where it shall answer health checks; `{origins}` the range that packets come
    from; `{device}` its network device; `{name}` the target's name. What it prints goes to `log`,
    by default nowhere. With `netns` the conformance suite runs it in a network namespace of its
    own, as it must be if it reads a device or needs one.
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
        printed: Any = output
        if output is None:
            printed = subprocess.DEVNULL if self._log is None else self._log.open("ab")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env={**os.environ, **self._env, _MARK: self._mark},
                start_new_session=True,  # Ctrl-C is for the harness, which then stops them
                preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads here
            )
        except OSError as error:
            raise HarnessError(f"{command[0]}: {error.strerror}") from None
        finally:
            if not isinstance(printed, int):
                printed.close()
        self.pid = self._process.pid

    def ended(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.poll() if self._process is not None else None

    def tail(self) -> str:
        """The last that it printed."""
        return _tail(self._log)

    def signal(self, signum: int) -> None:
        """Send a signal, such as SIGTERM to drain."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)

    def family(self) -> list[int]:
        return family(self.pid, f"{_MARK}={self._mark}") if self.pid else []

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, None if it did not end in time."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        if self.pid:
            # Also children that outlived it, and such as made themselves daemons.
            kill_family(self.pid, f"{_MARK}={self._mark}")
            self.wait(_STOP_S)
            self.pid = 0

    def pause(self) -> None:
        if self.pid:
            _signal_session(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.pid:
            _signal_session(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        if not self.pid:
            return
        self.resume()  # one that hangs would not hear it
        # Two signals: the first makes an appliance drain, the second ends it.
        for _ in range(2):
            self.signal(signal.SIGTERM)
            if self.wait(_STOP_S / 10) is not None:
                break
        self.wait(_STOP_S)
        self.kill()


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
            listen=Listen(addresses=(target.address,), raw=self._settings.listen.raw),
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
                _print_to(output, self._log)
                run_appliance(config, self._plugin)
                code = 0
            except BaseException as error:  # the child must end here, whatever happened
                print(f"{self._plugin.name}: {error}", file=sys.stderr, flush=True)
            os._exit(code)
        self.pid = pid
        self._status = None

    def signal(self, signum: int) -> None:
        if self.pid and self.ended() is None:
            os.kill(self.pid, signum)

    def ended(self) -> int | None:
        if self._status is None and self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def tail(self) -> str:
        return _tail(self._log)

    def family(self) -> list[int]:
        return family(self.pid) if self.pid else []

    def kill(self) -> None:
        self._end(signal.SIGKILL, 0)

    def pause(self) -> None:
        if self.pid:
            _signal_session(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.pid:
            _signal_session(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.resume()
        self._end(signal.SIGTERM, _STOP_S)

    def _end(self, signum: int, patience_s: float) -> None:
        if not self.pid:
            return
        self.signal(signum)
        deadline = time.monotonic() + patience_s
        again = time.monotonic() + patience_s / 10
        while patience_s and time.monotonic() < deadline and self.ended() is None:
            if time.monotonic() > again:
                self.signal(signum)
                again = deadline
            time.sleep(0.005)
        kill_family(self.pid)
        if self._status is None:
            os.waitpid(self.pid, 0)
        self.pid = 0


def _signal_session(pid: int, signum: int) -> None:
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        return


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()


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
