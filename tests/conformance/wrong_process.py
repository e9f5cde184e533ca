"""An appliance of two processes without the SDK: right in all that concerns health and operations.

    python wrong_process.py FAULT 127.20.0.2 8080

One process answers health checks and starts the other, which forwards packets, again when it dies.
With a FAULT other than "none" it is wrong in one way; `test_wrong_processes.py` lists them.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

FAULT, ADDRESS, HEALTH_PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
FOLDER = Path(os.environ.get("CONFORMANCE_EVENTS", "/tmp/nowhere/events.json")).parent
STALE_S = 0.5
QUIET_S = 0.5
SHARED = mmap.mmap(-1, 16)
"""When the data path was last seen, and whether the appliance is told to end."""


def wrong(*faults: str) -> bool:
    return FAULT in faults


def draining() -> bool:
    return bool(SHARED[8])


# The data path.


class DataPath:
    """Gives every packet back from the port that it came from."""

    def __init__(self) -> None:
        self.ports: dict[int, socket.socket] = {}
        self.kept: list[object] = []
        self.flows: set[bytes] = set()
        self.geneve = self.opened(6081)

    def opened(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if wrong("two-share-the-port"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((ADDRESS, port))
        return sock

    def run(self) -> None:
        """Until it is told to end and there was no packet for a while."""
        last, told, parent = time.monotonic(), 0.0, os.getppid()
        while True:
            now = time.monotonic()
            SHARED[:8] = struct.pack("d", now)
            if os.getppid() != parent:
                return
            if draining():
                if not told and wrong("forgets-what-waits"):
                    self.geneve.close()
                    self.geneve = self.opened(6081)
                told = told or now
                if wrong("ends-at-once") or now - max(last, told) > QUIET_S or now - told > 5:
                    return
            if select.select([self.geneve], [], [], 0.02)[0]:
                last = now
                packet, (node, port) = self.geneve.recvfrom(65535)
                if wrong("forgets-what-waits"):
                    time.sleep(0.005)  # so that something waits
                if self.forwards(packet):
                    if port not in self.ports:
                        self.ports[port] = self.opened(port)
                    self.ports[port].sendto(packet, (node, 6081))

    def forwards(self, packet: bytes) -> bool:
        """Whether a packet is given back; most of the faults are here."""
        inner = packet[40:]
        key = bytes(sorted(inner[12:20])) + bytes(sorted(inner[20:24]))
        opens = inner[9:10] == b"\6" and inner[33:34] == b"\2"
        if wrong("wants-the-syn") and inner[9:10] == b"\6" and not opens and key not in self.flows:
            return False
        if wrong("no-new-flows-at-the-end") and draining() and opens:
            return False
        if opens:
            self.flows.add(key)
            report("flow")
        if wrong("a-file-for-each-flow") and opens:
            self.kept.append(open(os.devnull, "rb"))  # noqa: SIM115
        if wrong("keeps-every-packet"):
            self.kept.append(bytes(packet) + bytes(200))
        if wrong("prints-every-packet"):
            print(packet.hex(), flush=True)
        return True


# Health checks.


class Health:
    """Answers each connection in a thread of its own."""

    def __init__(self) -> None:
        self.server = socket.socket()
        if not wrong("keeps-the-port-busy"):
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if wrong("two-share-the-port"):
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.server.bind((ADDRESS, HEALTH_PORT + wrong("another-port")))
        self.server.listen(100)
        self.open = 0
        self.asked = 0
        self.silent = 0
        self.sulks = 0
        self.kept: list[object] = []

    def run(self) -> None:
        while True:
            connection, _ = self.server.accept()
            connection.settimeout(5)
            if wrong("one-at-a-time", "waits-for-the-close", "spins-at-the-end"):
                connection.settimeout(None)
                self.serve(connection)
            else:
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """One connection, from the request to the end."""
        self.open += 1
        try:
            with connection:
                request = self.read(connection)
                self.silent = 0 if request else self.silent + 1
                if wrong("counts-silence-as-failure") and self.silent == 150:
                    self.sulks = 2  # checks: as many as are asked before a target goes
                if request and not (wrong("few-at-once") and self.open > 16):
                    self.answer(connection, request)
        except OSError:
            if wrong("ends-with-a-reset"):
                os._exit(1)
        finally:
            self.open -= 1

    def read(self, connection: socket.socket) -> bytes:
        if wrong("answers-unasked"):
            return b"GET / HTTP/1.1\r\n\r\n"
        request = b""
        while b"\r\n\r\n" not in request:
            data = connection.recv(4096)
            request += data
            if not data and (not request or not wrong("spins-at-the-end")):
                if wrong("keeps-what-hung-up") and not request:
                    self.kept.append(os.dup(connection.fileno()))
                return b""
            if wrong("wants-one-segment") and b"\r\n\r\n" not in request:
                return b""
            if len(request) > 65536:
                if wrong("dies-of-long-requests"):
                    os._exit(1)
                return b""
        return request

    def healthy(self) -> bool:
        if wrong("always-well"):
            return True
        if draining() and not wrong("well-to-the-end"):
            return False
        (seen,) = struct.unpack("d", SHARED[:8])
        return bool(time.monotonic() - seen < STALE_S)

    def answer(self, connection: socket.socket, request: bytes) -> None:
        self.asked += 1
        method, _, rest = request.partition(b" ")
        if wrong("dies-of-nonsense") and b" HTTP/1" not in rest:
            os._exit(1)
        if wrong("knows-get-and-head") and method not in (b"GET", b"HEAD", b"POST"):
            os._exit(1)
        if wrong("few-at-once", "ends-with-a-reset"):  # the reset is to be there before the answer
            time.sleep(0.05)
        status = "200 OK" if self.healthy() else "503 Service Unavailable"
        if wrong("every-150th-fails") and self.asked % 150 == 0:
            status = "500 Internal Server Error"
        if wrong("asks-who-it-is") and b"ELB-HealthChecker" not in request:
            status = "403 Forbidden"
        if self.sulks or wrong("never-well"):
            self.sulks = max(0, self.sulks - 1)
            status = "503 Service Unavailable"
        close = b"onnection: close" in request
        headers = [f"HTTP/1.1 {status}", "Content-Type: text/plain"]
        if not (wrong("no-length") and not close):
            headers.append(f"Content-Length: {3 + wrong('long-length')}")
        ends = "\n" if wrong("lf-lines") else "\r\n"
        body = b"" if method == b"HEAD" and not wrong("head-with-a-body") else b"ok\n"
        connection.sendall((ends.join(headers) + ends * 2).encode() + body)
        if wrong("never-closes") or (wrong("no-length") and not close):
            time.sleep(8)
        if wrong("waits-for-the-close"):
            connection.recv(1)


# The two together.


def report(event_type: str) -> None:
    """A line of EVE JSON."""
    event = {"timestamp": "2026-11-23T17:24:08.939061+0000", "event_type": event_type}
    if wrong("reports-no-time"):
        del event["timestamp"]
    with open(FOLDER / "events.json", "a") as events:
        events.write((event_type if wrong("reports-text") else json.dumps(event)) + "\n")


def fork_data_path(health: Health | None = None) -> int:
    if pid := os.fork():
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if health is not None:
        health.server.close()
    try:
        DataPath().run()
    except OSError as error:
        print(f"UDP {ADDRESS}:6081: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(9)
    except BaseException:
        os._exit(1)
    os._exit(0)


def told_to_end(signum: int, frame: object) -> None:
    if wrong("dies-of-sigterm"):
        os._exit(1)
    if not wrong("ignores-sigterm"):
        SHARED[8] = 1


def main() -> None:
    lock = FOLDER / "lock"
    if wrong("lock-stays"):
        if lock.exists():
            sys.exit("another one runs")
        lock.touch()
    signal.signal(signal.SIGTERM, told_to_end)
    if not wrong("ends-on-hang-up"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    pid = fork_data_path()
    health = Health()
    threading.Thread(target=health.run, daemon=True).start()
    while True:
        time.sleep(0.02)
        ended, status = os.waitpid(pid, os.WNOHANG) if pid else (0, 0)
        if not ended:
            continue
        code = os.waitstatus_to_exitcode(status)
        if draining() or code == 9:
            os._exit(code)
        pid = 0 if wrong("always-well") else fork_data_path(health)


main()
