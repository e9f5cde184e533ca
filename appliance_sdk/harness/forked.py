"""Plugin classes of this program as appliances in child processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from appliance_sdk.harness.guard import GUARD
from appliance_sdk.harness.process_tree import family, kill_family
from appliance_sdk.harness.processes import (
    ApplianceProcess,
    signals_come,
    signals_wait,
    status_of,
    tail_of,
)
from appliance_sdk.harness.states import Target
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.server.config import ApplianceConfig, Drain, Events, Health, Listen, Log
from appliance_sdk.server.launch import run_appliance
from appliance_sdk.server.orphan import die_with_parent

SHORT_DRAIN = Drain(deadline_s=5, settle_s=0, quiet_s=1)
"""How an appliance of this program ends when it is told to: no load balancer waits for it."""


class Forked(ApplianceProcess):
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
        with signals_wait():
            self.pid = os.fork()
            if not self.pid:
                self._be(config, output)
            self._status = None
            GUARD.take(self.pid, "")

    def _be(self, config: ApplianceConfig, output: int | None) -> NoReturn:
        """What the child does."""
        code = 1
        try:
            die_with_parent()
            signals_come()
            os.setsid()
            GUARD.forget()
            _print_to(output, self._log)
            run_appliance(config, self._plugin)
            code = 0
        except BaseException as error:  # the child must end here, whatever happened
            print(f"{self._plugin.name}: {error}", file=sys.stderr, flush=True)
        os._exit(code)

    def ended(self) -> int | None:
        if self._status is None and self.pid:
            self._status = status_of(self.pid)
        return self._status

    def tail(self) -> str:
        return tail_of(self._log)

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

    def _addresses(self, target: Target) -> tuple[str, ...]:
        """The target's, and what the settings have besides "every address"."""
        also = [a for a in self._settings.listen.addresses if a not in ("0.0.0.0", target.address)]
        return target.address, *also


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
