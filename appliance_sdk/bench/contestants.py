"""Who is measured: the appliance as its users run it, the naive loop, the bare XDP hairpin."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from appliance_sdk.bench import plugins
from appliance_sdk.bench.ebpf import attach_xdp, load_xdp
from appliance_sdk.bench.hairpin import hairpin
from appliance_sdk.bench.load import NODE
from appliance_sdk.bench.network import APPLIANCE_DEVICE, Network
from appliance_sdk.bench.processors import family
from appliance_sdk.errors import HarnessError
from appliance_sdk.wire.geneve import PORT

_START_S = 60.0
_HEALTH_PORT = 8080
HEALTH_TIMEOUT_S = 5.0
"""GWLB waits no longer for the answer to a check (its default)."""


class Contestant(Protocol):
    """Something that answers GENEVE at an address of its own."""

    name: str
    address: str
    workers: int

    def start(self) -> None:
        """Begin; it may take its time to be ready."""

    def ready(self) -> None:
        """Wait until it answers. Raises HarnessError."""

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """While it is measured."""

    def pids(self) -> Sequence[int]:
        """Its processes."""

    def stop(self) -> None:
        """End it and wait."""


class Program:
    """A process that takes GENEVE at an address: here the naive loop."""

    workers = 1

    def __init__(
        self,
        name: str,
        network: Network,
        address: str,
        cores: Sequence[int],
        command: Sequence[str],
        log: Path,
    ) -> None:
        self.name = name
        self.address = address
        self.network = network
        self._cores = cores
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = self.network.start(
                self.network.appliances, self._command, self._cores, out=log, err=log
            )

    def ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self.answers():
            if self._process is None or self._process.poll() is not None:
                raise HarnessError(f"{self.name} ended: {self._last_words()}")
            if time.monotonic() > deadline:
                raise HarnessError(f"{self.name} does not start: {self._last_words()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it has bound its port."""
        assert self._process is not None
        ip = int.from_bytes(socket.inet_aton(self.address), sys.byteorder)
        wanted = f"{ip:08X}:{PORT:04X}"
        try:
            lines = Path(f"/proc/{self._process.pid}/net/udp").read_text(encoding="ascii")
        except OSError:
            return False
        return wanted in lines

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        yield

    def pids(self) -> Sequence[int]:
        return family(self._process.pid) if self._process is not None else []

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # its children go with it; to close a million flows would take a while
        process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Appliance(Program):
    """`appliance run` with a configuration file: launcher, supervisor and workers."""

    def __init__(
        self,
        name: str,
        network: Network,
        address: str,
        cores: Sequence[int],
        folder: Path,
        *,
        enable: Sequence[str] = (),
        workers: int = 1,
        raw: bool = True,
        engine: Mapping[str, float] | None = None,
    ) -> None:
        """`enable`: classes of `bench.plugins`; `engine`: settings that differ from the default."""
        self.workers = workers
        config = folder / f"{address}.toml"
        lines = [
            f'origins = ["{NODE}/32"]',
            f"enable = {json.dumps([f'{plugins.__name__}:{plugin}' for plugin in enable])}",
            f"workers = {workers}",
            "[listen]",
            f'addresses = ["{address}"]',
            f"raw = {str(raw).lower()}",
            "[health]",
            f'address = "{address}"',
            f"port = {_HEALTH_PORT}",
            "[drain]",
            "deadline_s = 0",
            "[engine]",
            *(f"{key} = {value}" for key, value in (engine or {}).items()),
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "appliance_sdk", "run", str(config)]
        super().__init__(name, network, address, cores, command, folder / f"{address}.log")

    def answers(self) -> bool:
        try:
            return self.health()[0] == 200
        except OSError:
            return False

    def health(self) -> tuple[int, dict[str, Any]]:
        """What a health check is told: status and details. Raises OSError if it gets no answer."""
        with self.network.appliances.entered():
            sock = socket.create_connection((self.address, _HEALTH_PORT), HEALTH_TIMEOUT_S)
        connection = http.client.HTTPConnection(self.address, timeout=HEALTH_TIMEOUT_S)
        connection.sock = sock
        try:
            connection.request("GET", "/?verbose")
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def counters(self) -> dict[str, Any]:
        """Its counters, once they tell of all that it has taken. Raises HarnessError."""
        deadline = time.monotonic() + _START_S
        last: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                counters: dict[str, Any] = self.health()[1]["counters"]
            except (OSError, KeyError):
                counters = {}
            if counters and counters == last:
                return counters
            last = counters
            time.sleep(0.5)  # two beats of a worker
        raise HarnessError(f"{self.name} does not say what it has counted")


class Hairpin:
    """XDP_TX for everything: what the kernel alone can do."""

    workers = 1

    def __init__(self, network: Network, address: str) -> None:
        """Raises HarnessError if BPF cannot be had."""
        self.name = "bare XDP hairpin"
        self.address = address
        self._network = network
        self._program = load_xdp(hairpin(address))

    def start(self) -> None:
        """It works in its turns only: the others would pass through it."""

    def ready(self) -> None:
        with self.turn():
            pass

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        with self._network.appliances.entered():
            link = attach_xdp(self._program, APPLIANCE_DEVICE)
        try:
            yield
        finally:
            os.close(link)

    def pids(self) -> Sequence[int]:
        return ()

    def stop(self) -> None:
        os.close(self._program)
