"""An appliance that behaves badly, as its first argument says; a plain echo otherwise."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

mode, address = sys.argv[1], sys.argv[2]

if mode == "exits":
    print("no licence found", flush=True)
    sys.exit(7)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "daemon":  # leaves its session; what was started ends at once
    started = os.getpid()
    if os.fork():
        sys.exit(0)
    os.setsid()
    while os.getppid() == started:
        time.sleep(0.01)
if mode == "silent":
    time.sleep(600)

geneve = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
geneve.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
geneve.bind((address, 6081))
ports: dict[int, socket.socket] = {}
if mode in ("child", "escapes") and os.fork() == 0:
    if mode == "escapes":
        os.setsid()
    time.sleep(600)
if mode == "grandchild" and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
seen = 0
while True:
    packet, (node, port) = geneve.recvfrom(65535)
    seen += 1
    if port not in ports:
        ports[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ports[port].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ports[port].bind((address, port))
    if mode == "dies" and seen > 20:
        print("assertion failed: seen <= 20", flush=True)
        sys.exit(1)
    if mode == "deaf" and seen > 20:
        time.sleep(600)
    if mode == "slow":
        time.sleep(0.15)
    copies = 5000 if mode == "floods" and seen > 20 else 1
    answer = os.urandom(len(packet)) if mode == "garbage" and seen > 20 else packet
    for _ in range(copies):
        if mode == "swaps":
            geneve.sendto(packet, (node, port))
        else:
            ports[port].sendto(answer, (node, 6081))
