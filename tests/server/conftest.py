"""An appliance as its users run it: a process of its own, with a configuration file."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance_sdk.wire.build import build_udp
from appliance_sdk.wire.geneve import build_geneve

_numbers = itertools.count(1)
DEADLINE_S = 20.0

APPLIANCE = """
import asyncio, os, time
from pathlib import Path
from appliance_sdk import Appliance, ConfigError, PluginConfig, Sink, Verdict

class Config(PluginConfig, frozen=True):
    rules: str = ""

class Tally(Sink):
    def write(self, events):
        with open("tally.txt", "a") as file:
            file.writelines(type(event).__name__ + "\\n" for event in events)

class NoBroker(Sink):
    def __init__(self, config=None):
        raise RuntimeError("no broker")

class Blocker(Appliance):
    '''Blocks the ports that its file lists.'''
    config: Config
    ports = frozenset()
    kept = []

    @classmethod
    def load(cls, config):
        if not config.rules:
            return []
        text = Path(config.rules).read_text()
        if text == "sleep":
            time.sleep(60)
        try:
            return [int(word) for word in text.split()]
        except ValueError as error:
            raise ConfigError(str(error), path=config.rules, hint="ports, please") from None

    def loaded(self, data):
        if 666 in data:
            raise ValueError("666 is not for us")
        self.ports = frozenset(data)
        self.recheck_flows()

    def start(self):
        if 667 in self.ports:
            raise RuntimeError("667 cannot start")
        if 668 in self.ports:
            os._exit(9)

    def flow_opened(self, flow):
        if flow.server_port == 7000:
            os.kill(os.getpid(), 9)
        if flow.server_port == 7001:
            while True: pass
        if flow.server_port == 7002:
            raise ValueError("7002")
        if flow.server_port in self.ports:
            return Verdict.BLOCK.because("listed", rule=str(flow.server_port))
        if flow.server_port == 7010:
            flow.save("from the beginning", and_next=2)
        if flow.server_port == 7007:
            answer = self.slowly(flow.client_port)
            return flow.hold(answer, timeout_s=0.5, otherwise=Verdict.BLOCK)
        if flow.server_port == 7004 and self.shared.count(b"n", window_s=1e6) > 10:
            return Verdict.BLOCK
        if flow.server_port == 7005:
            self.shared.put(flow.client_ip, b"known", ttl_s=60)
        if flow.server_port == 7006 and self.shared.get(flow.client_ip) is None:
            return Verdict.BLOCK
        if flow.server_port == 7011:
            flow.alert("long" * 2000)
        if flow.server_port == 7012:
            self.kept.append(bytearray(32 << 20))
        if flow.server_port == 7003:
            flow.alert("seven thousand and three", rule=7003, severity=1, more="x")
        return Verdict.DONE

    async def slowly(self, port):
        if port == 1:
            await asyncio.sleep(0.1)
        elif port == 2:
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)
        else:
            await asyncio.Event().wait()

    recheck = lambda self, flow, handler: self.flow_opened(flow)

if __name__ == "__main__":
    Blocker.main()
"""


class Running:
    """An appliance process and a GWLB node that talks to it."""

    def __init__(
        self,
        folder: Path,
        settings: str = "",
        rules: str = "",
        top: str = "",
        listen: str = "raw = false\n",
        stderr: int | None = None,
    ) -> None:
        number = next(_numbers)
        # An address of its own for each appliance: several test runs may share the machine.
        block = f"127.{70 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self.address, self.node = f"{block}.{2 * number}", f"{block}.{2 * number + 1}"
        self.folder = folder
        self.rules = folder / "rules.txt"
        self.rules.write_text(rules)
        self.log = folder / "log.txt"
        self.eve = folder / "eve.json"
        self.health_port = 8099
        script = folder / "blocker.py"
        script.write_text(APPLIANCE)
        config = folder / "blocker.toml"
        config.write_text(
            f'origins = ["127.0.0.0/8"]\n{top}\n[listen]\naddresses = ["{self.address}"]\n'
            f'{listen}[events]\nfile = "{self.eve}"\ncaptures = "{folder}/saved"\n'
            "[plugins.blocker]\n"
            f'rules = "{self.rules}"\n[health]\naddress = "{self.address}"\n'
            f"port = {self.health_port}\n{settings}"
        )
        self._command = [sys.executable, str(script), "run", str(config)]
        self.process = self._start(stderr)
        self._senders: dict[int, socket.socket] = {}
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind((self.node, 6081))
        self._receiver.settimeout(0.02)

    def _start(self, stderr: int | None = None) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            errors = log if stderr is None else stderr
            return subprocess.Popen(self._command, stderr=errors, stdout=log, cwd=self.folder)

    def crash_and_restart(self) -> None:
        """SIGKILL, and the same command at once."""
        self.process.kill()
        self.process.wait(10)
        self.process = self._start()

    def until(self, holds: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Poll until something holds; its value."""
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            value = holds()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"{what}: not within {deadline_s} s\n{self.log.read_text()}")

    def health(self, path: str = "/") -> tuple[int, str]:
        """Status and body; (0, "") if the port is closed."""
        connection = http.client.HTTPConnection(self.address, self.health_port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionError:
            return 0, ""
        finally:
            connection.close()

    def ready(self) -> Running:
        """Wait for a healthy answer."""
        self.until(lambda: self.health()[0] == 200, "healthy")
        return self

    def details(self) -> Any:
        """What `?verbose` says."""
        return json.loads(self.health("/?verbose")[1])

    def worker_pid(self) -> int:
        """The worker's process id."""
        return int(self.details()["workers"][0]["pid"])

    def children(self) -> list[int]:
        """Process ids of the appliance's children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def packet(self, port: int, source_port: int = 5000) -> bytes:
        """A GWLB datagram with a UDP packet to that port."""
        inner = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", source_port, port, payload=b"x")
        return build_geneve(1, 7) + inner

    def passes(self, port: int, source_port: int = 5000, wait_s: float = 0.5) -> bool:
        """Send a packet: whether it comes back as it was."""
        data = self.packet(port, source_port)
        self.send(data)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                answer, source = self._receiver.recvfrom(65535)
            except TimeoutError:
                continue
            if answer == data:
                assert source == (self.address, self._sport())
                return True
        return False

    def send(self, data: bytes) -> None:
        """Send a datagram to the appliance."""
        self._sender().sendto(data, (self.address, 6081))

    def _sender(self) -> socket.socket:
        if 0 not in self._senders:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((self.node, 0))
            self._senders[0] = sock
        return self._senders[0]

    def _sport(self) -> int:
        return int(self._sender().getsockname()[1])

    def events(self) -> list[dict[str, Any]]:
        """The EVE lines so far."""
        if not self.eve.exists():
            return []
        return [json.loads(line) for line in self.eve.read_text().splitlines()]

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        found = []
        for line in self.log.read_text().splitlines():
            if line.startswith("{"):
                record = json.loads(line)
                if record["event"] == name:
                    found.append(record)
        return found

    def stop(self) -> None:
        """End the appliance, whatever it does."""
        self._receiver.close()
        for sock in self._senders.values():
            sock.close()
        if self.process.poll() is None:
            children = self.children()
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.until(lambda: not any(alive(pid) for pid in children), "children gone")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start appliances that end with the test."""
    started: list[Running] = []

    def start(**arguments: Any) -> Running:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Running(folder, **arguments))
        return started[-1]

    yield start
    for running in started:
        running.stop()
