"""An appliance in thirty lines, without the SDK: gives every packet back from the right port."""

import contextlib
import select
import socket
import sys

address, health_port = sys.argv[1], int(sys.argv[2])
geneve = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
geneve.bind((address, 6081))
health = socket.create_server((address, health_port))
ports: dict[int, socket.socket] = {6081: geneve}
while True:
    ready, _, _ = select.select([geneve, health], [], [])
    if health in ready:
        probe, _ = health.accept()
        with probe, contextlib.suppress(OSError):  # it may be gone already
            probe.recv(1024)
            probe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    if geneve in ready:
        packet, (node, port) = geneve.recvfrom(65535)
        if port not in ports:
            ports[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ports[port].bind((address, port))
        ports[port].sendto(packet, (node, 6081))
