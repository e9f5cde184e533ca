"""Appliances behind real UDP: each node and each target has an address of its own."""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

from appliance_sdk.dataplane.addresses import never_fragment, open_listeners, set_buffer
from appliance_sdk.dataplane.ports import descriptor_room
from appliance_sdk.dataplane.replies import drop_everything, error_name
from appliance_sdk.errors import ConfigError, HarnessError
from appliance_sdk.harness.checks import Probe
from appliance_sdk.harness.fleet import Arrival, ProbeResult
from appliance_sdk.harness.outcomes import Place, ToTarget
from appliance_sdk.harness.probes import Probing
from appliance_sdk.harness.processes import ApplianceProcess, stop_all
from appliance_sdk.harness.states import Target
from appliance_sdk.wire.geneve import PORT

_BUFFER_BYTES = 8 * 1024 * 1024
_A_TURN = 512
"""Datagrams taken from one node before the others have their turn."""
_HEARD_PORTS = 64
"""Of so many ports the wrong replies, sent back to where a packet came from, are heard."""
_SO_NO_CHECK = 11  # Linux, asm-generic/socket.h
_TRIM_S = 0.1
_AGAIN = (errno.EAGAIN, errno.ENOBUFS)


class UdpFleet:
    """Sends from a node's address and the flow's port, as GWLB does, and hears what comes back.

    `processes` are started when their target is; a target without one is expected to run already.
    `factor`: how much faster the harness's clock is than the real one, for health checks. Outer
    UDP checksums are 0 unless `checksums` is set: both are allowed (RFC 8926 §3.3).
    """

    realtime = True

    def __init__(
        self,
        nodes: Iterable[str],
        processes: Mapping[str, ApplianceProcess] | None = None,
        *,
        factor: float = 1.0,
        checksums: bool = False,
    ) -> None:
        self.processes = dict(processes or {})
        self.errors: Counter[str] = Counter()
        """Datagrams that the kernel would not send, by errno: "EADDRINUSE" for a taken port."""
        self._factor = factor
        self.checksums = checksums
        self._ports: OrderedDict[tuple[str, int], socket.socket] = OrderedDict()
        self._probing = Probing()
        self._trim_at = 0.0
        self._listeners: dict[int, tuple[Place, socket.socket]] = {}
        try:
            for node in nodes:
                self.listen(node)
        except HarnessError:
            self.close()
            raise
        self._capacity = descriptor_room()

    def listen(self, node: str) -> None:
        if any(place == (node, PORT) for place, _ in self._listeners.values()):
            return
        try:
            for sock in open_listeners([node], PORT, receive_buffer_bytes=_BUFFER_BYTES):
                self._listeners[sock.fileno()] = (node, PORT), sock
        except ConfigError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise HarnessError(f"a load balancer's node: {error.message}{hint}") from None

    def start(self, target: Target, now: float) -> None:
        process = self.processes.get(target.name)
        if process is not None:
            process.start(target)

    def stop(self, name: str) -> None:
        self._process(name).kill()

    def ended(self, name: str) -> str:
        process = self.processes.get(name)
        if process is None or not process.pid or (status := process.ended()) is None:
            return ""
        hint = "" if status else " (it must not go into the background)"
        return f"ended with status {status}{hint}: {process.tail() or 'no output'}"

    def hang(self, name: str) -> None:
        self._process(name).pause()

    def resume(self, name: str) -> None:
        process = self.processes.get(name)
        if process is not None:
            process.resume()

    def send(self, datagram: ToTarget, now: float) -> None:
        try:
            sock = self._port(datagram.node, datagram.source_port)
            sock.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, not self.checksums)
            sock.sendto(datagram.payload, (datagram.target.address, PORT))
        except OSError as error:
            if error.errno in _AGAIN:
                self.errors["EAGAIN"] += 1
            else:
                self.errors[error_name(error.errno or 0)] += 1

    def probe(self, probe: Probe, now: float) -> None:
        self._probing.begin(probe, time.monotonic(), probe.check.timeout_s / self._factor)

    def poll(self, timeout_s: float, now: float) -> tuple[list[Arrival], list[ProbeResult]]:
        poller = select.poll()
        for descriptor in self._listeners:
            poller.register(descriptor, select.POLLIN)
        for descriptor, events in self._probing.events.items():
            poller.register(descriptor, events)
        patience = min(timeout_s, self._probing.next_deadline() - time.monotonic())
        arrivals: list[Arrival] = []
        for descriptor, _ in poller.poll(max(patience, 0) * 1000):
            if descriptor in self._listeners:
                self._hear(*self._listeners[descriptor], arrivals)
            else:
                self._probing.ready(descriptor)
        now_s = time.monotonic()
        self._probing.expire(now_s)
        if now_s >= self._trim_at:
            self._trim_at = now_s + _TRIM_S
            for process in self.processes.values():
                process.trim()
        results = self._probing.results[:]
        self._probing.results.clear()
        return arrivals, results

    def next_deadline(self) -> float:
        return math.inf

    def close(self) -> None:
        self._probing.close()
        for _, sock in self._listeners.values():
            sock.close()
        for sock in self._ports.values():
            sock.close()
        self._listeners.clear()
        self._ports.clear()
        stop_all(self.processes.values())

    def _process(self, name: str) -> ApplianceProcess:
        process = self.processes.get(name)
        if process is None:
            raise HarnessError(f"the appliance of target {name} was not started here")
        return process

    def _hear(self, place: Place, sock: socket.socket, arrivals: list[Arrival]) -> None:
        for _ in range(_A_TURN):
            try:
                payload, source = sock.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError as error:
                self.errors[error_name(error.errno or 0)] += 1
                return
            arrivals.append(Arrival((source[0], source[1]), place, payload))

    def _port(self, node: str, port: int) -> socket.socket:
        place = node, port
        sock = self._ports.get(place)
        if sock is not None:
            self._ports.move_to_end(place)
            return sock
        if port == PORT:
            return next(sock for at, sock in self._listeners.values() if at == place)
        if len(self._ports) >= self._capacity:
            old = self._ports.popitem(last=False)[1]
            self._listeners.pop(old.fileno(), None)
            old.close()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            if len(self._ports) >= _HEARD_PORTS:
                drop_everything(sock)  # a reply goes to the node's port 6081
            set_buffer(sock, send_bytes=_BUFFER_BYTES)
            never_fragment(sock)
            sock.bind(place)
            undo.pop_all()
        if len(self._ports) < _HEARD_PORTS:
            self._listeners[sock.fileno()] = place, sock
        self._ports[place] = sock
        return sock
