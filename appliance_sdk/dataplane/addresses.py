"""The listening sockets: one for each IPv4 address, so that a reply leaves from the one hit."""

from __future__ import annotations

import array
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence

from appliance_sdk.dataplane.cbpf import Instruction
from appliance_sdk.dataplane.mmsg import SO_RXQ_OVFL
from appliance_sdk.dataplane.selector import attach_selector
from appliance_sdk.errors import ConfigError
from appliance_sdk.wire.geneve import PORT

RECEIVE_BUFFER_BYTES = 8 << 20
"""What a listener asks the kernel for: some 40 ms of 1,500-byte packets at 100,000 a second."""

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SIOCGIFCONF = 0x8912
_IFREQ_BYTES = 16 + struct.calcsize("@LLHBBBxxx")  # netdevice(7): a name and a union
_ADDRESS_AT = 16 + 4
_KEY = "listen.addresses"
_DISCARDED = 100_000


def local_addresses() -> list[str]:
    """Every IPv4 address of this machine, loopback included, in the kernel's order."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        size = 32 * _IFREQ_BYTES
        while True:
            found = array.array("B", bytes(size))
            request = struct.pack("@iP", size, found.buffer_info()[0])
            used = struct.unpack_from("@i", fcntl.ioctl(sock, _SIOCGIFCONF, request))[0]
            if used < size:
                break
            size *= 2  # a full buffer may have left some out
    raw = found.tobytes()[:used]
    at = range(_ADDRESS_AT, used, _IFREQ_BYTES)
    return list(dict.fromkeys(socket.inet_ntoa(raw[i : i + 4]) for i in at))


def open_listeners(
    addresses: Sequence[str],
    port: int = PORT,
    *,
    receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES,
) -> list[socket.socket]:
    """Bind a UDP socket to each address; "0.0.0.0" stands for every address of the machine.

    A second appliance on the same address is refused. Addresses that the machine gets later are
    not listened on. Raises ConfigError, with nothing left open.
    """
    return open_groups(addresses, port, 1, (), receive_buffer_bytes=receive_buffer_bytes)[0]


def open_groups(
    addresses: Sequence[str],
    port: int,
    workers: int,
    program: Sequence[Instruction],
    *,
    receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES,
) -> list[list[socket.socket]]:
    """The same for several workers that share each address: the listeners of each worker.

    The selector's `program` says whose a datagram is. The number of a socket in its group is the
    order of binding, and changes when another one is closed: hold them all as long as any is used.
    """
    shared = workers > 1
    opened: list[list[socket.socket]] = [[] for _ in range(workers)]
    try:
        for address, given in expand_addresses(addresses):
            try:
                if shared:  # a group takes in whoever asks: ask once without
                    _listener(address, port).close()
                for listeners in opened:
                    first = shared and listeners is opened[0]
                    listeners.append(
                        _listener(
                            address,
                            port,
                            receive_buffer_bytes,
                            shared=shared,
                            program=program if first else (),
                        )
                    )
            except OSError as error:
                if not given and error.errno == errno.EADDRNOTAVAIL:
                    continue  # gone since we asked for the list, or its interface is down
                raise _explain(error, address, port) from error
        if not opened[0]:
            raise ConfigError("no address to listen on", key=_KEY)
    except BaseException:
        for listeners in opened:
            for listener in listeners:
                listener.close()
        raise
    if shared:  # while a group grows, its members are not yet whose they will be
        for listeners in opened:
            for listener in listeners:
                _discard(listener)
    return opened


def set_buffer(sock: socket.socket, receive_bytes: int = 0, send_bytes: int = 0) -> None:
    """Size the socket's buffers, beyond the system's limit where the process may do that."""
    for wanted, force, plain in (
        (receive_bytes, _SO_RCVBUFFORCE, socket.SO_RCVBUF),
        (send_bytes, _SO_SNDBUFFORCE, socket.SO_SNDBUF),
    ):
        if not wanted:
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, wanted)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, wanted)


def granted_buffer(sock: socket.socket) -> int:
    """Bytes of the receive buffer that was asked for; the kernel doubles them (socket(7))."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def never_fragment(sock: socket.socket) -> None:
    """Let the kernel refuse what is too long (EMSGSIZE): GWLB does not take outer fragments.

    PROBE, not DO: a forged ICMP error must not be able to shrink what may be sent.
    """
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)


def expand_addresses(addresses: Sequence[str]) -> list[tuple[str, bool]]:
    """Each address once, and whether it was named (or came from the wildcard).

    Raises ConfigError for what is no IPv4 address.
    """
    wanted: dict[str, bool] = {}
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ConfigError(f"{text!r} is not an IP address", key=_KEY) from None
        if address.version != 4:
            hint = "GWLB reaches its targets over IPv4, also with IPv6 inside"
            raise ConfigError(f"{text} is not an IPv4 address", key=_KEY, hint=hint)
        if address.is_unspecified:
            for local in local_addresses():
                wanted.setdefault(local, False)
        else:
            wanted[str(address)] = True
    return list(wanted.items())


def _listener(
    address: str,
    port: int,
    buffer_bytes: int = 0,
    *,
    shared: bool = False,
    program: Sequence[Instruction] = (),
) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if program:  # before the bind: it makes the group that the others join
            attach_selector(sock, program)
        set_buffer(sock, receive_bytes=buffer_bytes)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        never_fragment(sock)  # replies to packets from source port 6081 leave from here
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _discard(sock: socket.socket) -> None:
    for _ in range(_DISCARDED):
        try:
            sock.recv(1)
        except BlockingIOError:
            return


def _explain(error: OSError, address: str, port: int) -> ConfigError:
    where = f"UDP {address}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            hint = f"try: ss -lunp 'sport = :{port}'"
            return ConfigError(f"another process has {where}", key=_KEY, hint=hint)
        case errno.EACCES | errno.EPERM:
            hint = "ports below 1024 want CAP_NET_BIND_SERVICE"
            return ConfigError(f"not allowed to bind {where}", key="listen.port", hint=hint)
        case errno.EADDRNOTAVAIL:
            hint = "the machine's addresses: ip -4 -brief address"
            return ConfigError(f"{address} is not an address of this machine", key=_KEY, hint=hint)
    return ConfigError(f"cannot listen on {where}: {error.strerror}", key=_KEY)
