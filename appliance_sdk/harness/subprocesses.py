"""Appliances in any language, started by a command line."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.guard import GUARD, MARK
from appliance_sdk.harness.process_tree import family, kill_family
from appliance_sdk.harness.processes import (
    STOP_S,
    TAIL_BYTES,
    ApplianceProcess,
    signals_come,
    signals_wait,
    status_of,
    tail_of,
)
from appliance_sdk.harness.states import Target
from appliance_sdk.plugin.config import near_miss
from appliance_sdk.server.orphan import die_with_parent
from appliance_sdk.wire.geneve import PORT

_numbers = itertools.count(1)
_KEPT_BYTES = 4 * 1024 * 1024
"""What an appliance may print until all but the last of it is forgotten."""
_BRACES = "a brace of your own is doubled: {{ or }}"


class Subprocess(ApplianceProcess):
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
            with signals_wait():
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                    env={**os.environ, **self._env, MARK: self._mark},
                    start_new_session=True,  # Ctrl-C is for the harness, which then stops them
                    preexec_fn=_in_the_child,  # noqa: PLW1509 - there are no threads here
                )
                self.pid = self._process.pid
                GUARD.take(self.pid, self._marker)
        except OSError as error:
            raise HarnessError(f"{command[0]}: {error.strerror}") from None
        except subprocess.SubprocessError as error:
            raise HarnessError(f"{command[0]}: {error}") from None
        finally:
            if output is None and self._kept is None:
                os.close(printed)

    def ended(self) -> int | None:
        """The exit status, None while it runs."""
        if self._process is None:
            return None
        return status_of(self.pid) if self.pid else self._process.returncode

    def tail(self) -> str:
        """The last that it printed."""
        if self._kept is None:
            return tail_of(self._log)
        size = os.fstat(self._kept.fileno()).st_size
        data = os.pread(self._kept.fileno(), TAIL_BYTES, max(size - TAIL_BYTES, 0))
        return data.decode(errors="replace").strip()

    def trim(self) -> None:
        """Forget all but the last of what it printed, if that is much."""
        if self._kept is None or os.fstat(self._kept.fileno()).st_size < _KEPT_BYTES:
            return
        said = self.tail()
        os.ftruncate(self._kept.fileno(), 0)
        self._kept.write(said.encode() + b"\n")

    def family(self) -> list[int]:
        return family(self.pid, self._marker) if self.pid else []

    def kill(self) -> None:
        if self.pid and self._process is not None:
            # Also children that outlived it, and such as made themselves daemons.
            kill_family(self.pid, self._marker)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may not be killed
                self._process.wait(STOP_S)
            GUARD.release(self.pid, self._marker)
            self.pid = 0

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


def _in_the_child() -> None:
    """Between its fork and the program."""
    die_with_parent()
    signals_come()


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
