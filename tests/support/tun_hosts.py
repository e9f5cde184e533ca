"""Run in a network namespace of its own: a simulated host and this kernel talk over a TUN device.

The argument is the share of packets lost each way. Prints what came out as JSON.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from appliance_sdk.harness.hosts import Echo, Host, HttpServer, Response, TcpSettings

DATA = random.Random(9).randbytes(300_000)
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001
_START = time.monotonic()


def now() -> float:
    return time.monotonic() - _START


def pump(device: int, host: Host, loss: float, done: Callable[[], bool], at_most_s: float) -> None:
    """Carry packets between the host and the kernel."""
    chance, end = random.Random(1), now() + at_most_s
    while now() < end and not done():
        host.advance(now())
        for packet in host.outbox:
            if chance.random() >= loss:
                os.write(device, packet)
        host.outbox.clear()
        select.select([device], [], [], max(0.0, min(host.next_deadline() - now(), 0.02)))
        try:
            while packet := os.read(device, 65536):
                if chance.random() >= loss:
                    host.receive(packet, now())
        except BlockingIOError:
            continue


def echo_of_kernel(family: socket.AddressFamily, address: str) -> None:
    """A TCP echo server of this kernel, for one connection."""
    listener = socket.socket(family)
    listener.bind((address, 7))
    listener.listen()

    def serve() -> None:
        conn, _ = listener.accept()
        while data := conn.recv(65536):
            conn.sendall(data)
        conn.close()

    threading.Thread(target=serve, daemon=True).start()


def ask_echo(address: str) -> bool:
    with socket.create_connection((address, 7), timeout=60) as conn:
        conn.settimeout(60)

        def write() -> None:
            conn.sendall(DATA)
            conn.shutdown(socket.SHUT_WR)

        threading.Thread(target=write, daemon=True).start()
        got = bytearray()
        while data := conn.recv(65536):
            got += data
    return got == DATA


def ask_closed(address: str) -> bool:
    try:
        socket.create_connection((address, 81), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def ask_udp(address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.connect((address, port))
        for _ in range(50):
            try:
                sock.send(DATA[:5000])
                return "whole" if sock.recv(65536) == DATA[:5000] else "damaged"
            except ConnectionRefusedError:
                return "refused"
            except TimeoutError:
                continue
    return "lost"


def ask_http() -> bool:
    command = ["curl", "-sS", "-m", "60", "--data-binary", "@-", "http://10.7.0.2/"]
    return subprocess.run(command, input=DATA, capture_output=True, check=False).stdout == DATA


def main() -> None:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"t0", _IFF_TUN_NO_PI))
    for step in (
        "addr add 10.7.0.1/24 dev t0",
        "link set t0 up",
        "-6 addr add fd07::1/64 dev t0 nodad",
    ):
        subprocess.run(["ip", *step.split()], check=True)
    host = Host("host", ["10.7.0.2", "fd07::2"], seed=1, tcp=TcpSettings(rto_s=0.3))
    host.listen(7, Echo)
    host.listen(80, HttpServer(lambda request: Response(body=request.body, chunked=True)))
    host.udp(7, lambda sock, datagram: sock.reply(datagram, datagram.data))
    out: dict[str, object] = {}
    asks: dict[str, Callable[[], object]] = {
        "echo4": lambda: ask_echo("10.7.0.2"),
        "echo6": lambda: ask_echo("fd07::2"),
        "refused4": lambda: ask_closed("10.7.0.2"),
        "refused6": lambda: ask_closed("fd07::2"),
        "udp4": lambda: ask_udp("10.7.0.2", 7),
        "udp6": lambda: ask_udp("fd07::2", 7),
        "closed4": lambda: ask_udp("10.7.0.2", 8),
        "closed6": lambda: ask_udp("fd07::2", 8),
        "curl": ask_http,
    }
    threads = [
        threading.Thread(target=lambda n=name, a=ask: out.update({n: a()}), daemon=True)
        for name, ask in asks.items()
    ]
    for thread in threads:
        thread.start()
    loss = float(sys.argv[1])
    pump(device, host, loss, lambda: not any(thread.is_alive() for thread in threads), 60)
    echo_of_kernel(socket.AF_INET, "10.7.0.1")
    echo_of_kernel(socket.AF_INET6, "fd07::1")
    for name, address in (("to4", "10.7.0.1"), ("to6", "fd07::1")):
        conn = host.connect(address, 7, now())
        conn.send(DATA)
        conn.close()
        closed = host.connect(address, 81, now())
        pump(device, host, loss, lambda c=conn, d=closed: bool(c.ended and d.ended), 30)  # type: ignore[misc]
        out[name] = conn.received == DATA and conn.ended == "closed" and closed.refused
    out["dropped"] = sum(n for why, n in host.dropped.items() if why != "not_addressed")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
