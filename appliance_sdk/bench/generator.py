"""The load balancer's side of a measurement: what to send, and what came of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance_sdk.bench.compiled import build
from appliance_sdk.bench.load import APPLIANCE_MAC, NODE, NODE_MAC, Load
from appliance_sdk.bench.network import NODE_DEVICE, Network
from appliance_sdk.errors import HarnessError

COMPILED, PYTHON = "compiled C", "Python"
_FIELDS = (  # of a reply, by where they end in its frame
    (14, "Ethernet header"),
    (26, "outer IPv4 header"),
    (30, "outer source address"),
    (34, "outer destination address"),
    (36, "outer source port"),
    (38, "outer destination port"),
    (42, "outer UDP header"),
    (50, "GENEVE base header"),
    (62, "endpoint option"),
    (74, "attachment option"),
    (82, "flow cookie option"),
    (1 << 30, "inner packet"),
)


class FirstWrong(msgspec.Struct, frozen=True):
    """The first reply that was not right: its frame, and where it differs."""

    frame: int
    at: int
    """-1: in its length; -2: no such frame was sent."""
    is_: int = msgspec.field(name="is")
    wanted: int

    def __str__(self) -> str:
        if self.at == -1:
            return f"the reply to packet {self.frame} has another length"
        if self.at == -2:
            return "a reply to a packet that was never sent"
        field = next(name for end, name in _FIELDS if self.at < end)
        return (
            f"byte {self.at} of the reply to packet {self.frame} ({field}) is "
            f"0x{self.is_:02x}, not 0x{self.wanted:02x}"
        )


class Latency(msgspec.Struct, frozen=True):
    """Time from sending to the reply, in microseconds."""

    p50: float
    p99: float
    p999: float
    max: float


class Sent(msgspec.Struct, frozen=True):
    """What was sent and what came back. Every reply was checked: right ones are `answered`."""

    opened: int
    """Right replies to the rounds that opened the flows; all else is of what came after."""
    sent: int
    answered: int
    answered_in_time: int
    """While still sending."""
    seconds: float
    wrong: int
    repeated: int
    """Right, but for the second time."""
    reordered: int
    """Right, but overtaken within their flow."""
    other: int
    """Packets that are no GENEVE, such as ICMP errors."""
    whole: int
    """Compared byte for byte."""
    unread: int
    """Replies that the generator was too slow for: then the measurement is void."""
    refused: int
    held: int
    """How often the window was full: never, if it is the generator that limits."""
    process_s: float
    """Processor time of the appliance's processes."""
    busy_s: float
    """Time its cores were not idle, the kernel's part and strangers included."""
    softirq_s: float
    latency_us: Latency
    first_wrong: FirstWrong | None = None

    @property
    def lost(self) -> int:
        """Packets that never came back."""
        return self.sent - self.answered - self.wrong

    @property
    def rate(self) -> float:
        """Right replies a second."""
        return self.answered_in_time / self.seconds if self.seconds else 0.0

    @property
    def process_us(self) -> float:
        """Processor time of the appliance's processes per reply, microseconds."""
        return 1e6 * self.process_s / self.answered_in_time if self.answered_in_time else 0.0

    @property
    def busy_us(self) -> float:
        """The same with the kernel's part, and with whatever else ran there."""
        return 1e6 * self.busy_s / self.answered_in_time if self.answered_in_time else 0.0


class Sending:
    """A load that is under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._process.poll() is None

    def finish(self) -> Sent:
        """Wait for the end of it. Raises HarnessError if it could not be sent."""
        try:
            out, err = self._process.communicate()
        finally:
            self.stop()
        if self._process.returncode:
            said = err.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"status {self._process.returncode}"
            raise HarnessError(f"the generator failed: {why}")
        return msgspec.json.decode(out, type=Sent)

    def stop(self) -> None:
        """End it at once; no matter if it has ended."""
        self._process.kill()
        self._process.wait()


class Generator:
    """Sends and checks: by the compiled helper if there is a compiler, else in Python."""

    def __init__(self, folder: Path, cores: Sequence[int], *, compiled: bool | None = None) -> None:
        """Build the helper in `folder`. `compiled`: demand it or do without; None: as can be had.

        Raises HarnessError if it is demanded and cannot be built.
        """
        self._cores = cores
        self._command = [sys.executable, "-m", "appliance_sdk.bench.python_load"]
        self.kind = PYTHON
        self.why = ""
        """Why it is not compiled."""
        if compiled is False:
            self.why = "as asked for"
            return
        try:
            self._command = [str(build(folder, "load"))]
            self.kind = COMPILED
        except HarnessError as error:
            if compiled:
                raise
            self.why = str(error)

    def start(
        self,
        network: Network,
        address: str,
        load: Load,
        *,
        pids: Sequence[int] = (),
        cores: Sequence[int] = (),
        polite: bool = False,
    ) -> Sending:
        """Put this load on the appliance at `address`.

        The processor time of `pids` and `cores` is measured. `polite`: they share a core with us.
        """
        command = [*self._command, *_arguments(load), "--appliance", address]
        for pid in pids:
            command += ["--pid", str(pid)]
        for core in cores:
            command += ["--cpu", str(core)]
        if polite:
            command.append("--polite")
        out = err = subprocess.PIPE
        return Sending(network.start(network.gwlb, command, self._cores, out=out, err=err))


def _arguments(load: Load) -> list[str]:
    words = {
        "device": NODE_DEVICE,
        "node": NODE,
        "node-mac": NODE_MAC,
        "appliance-mac": APPLIANCE_MAC,
        "flows": load.flows,
        "size": load.size,
        "epoch": load.epoch,
        "open": load.open_rounds,
        "rate": load.rate,
        "window": load.window,
        "burst": load.burst,
        "seconds": load.seconds,
        "packets": load.packets,
        "whole": load.whole_every,
    }
    found = [text for name, value in words.items() for text in (f"--{name}", str(value))]
    flags = {"--tcp": load.tcp, "--ipv6": load.ipv6, "--one-way": load.one_way}
    return found + [name for name, given in flags.items() if given]
