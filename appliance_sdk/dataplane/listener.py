"""A socket that datagrams are taken from, and what the kernel dropped at it."""

from __future__ import annotations

import socket
import struct

from appliance_sdk.errors import ConfigError

_SO_MEMINFO = 55
_MEMINFO = struct.Struct("@9I")
_DROPS = 8  # SK_MEMINFO_DROPS


class Listener:
    """One of a data plane's sockets, which stays its caller's."""

    def __init__(self, sock: socket.socket) -> None:
        """Raises ConfigError if it is bound to 0.0.0.0: the address that was hit is the one that
        answers."""
        address, self.port = sock.getsockname()
        self.local = socket.inet_aton(address)
        """The address that it is bound to."""
        if not any(self.local):
            hint = "bind each address on its own, as open_listeners does"
            raise ConfigError("a listener on 0.0.0.0 cannot tell which address was hit", hint=hint)
        self.drops = 0
        """Datagrams that the kernel dropped at a full receive buffer, as far as it has said."""
        self.sock = sock
        self._told = self._ask()  # what was dropped before now an earlier worker has counted

    def ask(self) -> None:
        """Bring `drops` up to date: else the kernel tells with the next datagram only."""
        self.told(self._ask())

    def told(self, count: int) -> None:
        """The kernel's 32-bit count, which wraps; a datagram that waited tells an older one."""
        more = (count - self._told) & 0xFFFFFFFF
        if more < 1 << 31:
            self.drops += more
            self._told = count

    def _ask(self) -> int:
        try:
            told = self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:  # before Linux 4.12
            return 0
        return int(_MEMINFO.unpack(told)[_DROPS]) if len(told) == _MEMINFO.size else 0
