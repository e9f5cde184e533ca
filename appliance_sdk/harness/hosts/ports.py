"""The ports of a host: which numbers there are, which is free, who listens."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from appliance_sdk.harness.hosts.apps import App
from appliance_sdk.harness.hosts.tcp import TcpConnection

_KEPT_CONNECTIONS = 64
_EPHEMERAL = range(32768, 61000)  # Linux's ip_local_port_range


class Listener:
    """A TCP port that takes connections; `Host.listen` makes it."""

    def __init__(
        self, port: int, app_factory: Callable[[], App], close: Callable[[Listener], None]
    ) -> None:
        self._close = close
        self.port = port
        """The port."""
        self.app_factory = app_factory
        """Makes what runs on each connection."""
        self.connections: deque[TcpConnection] = deque(maxlen=_KEPT_CONNECTIONS)
        """The newest 64 connections, ended ones too."""

    def close(self) -> None:
        """Take no more connections: the port answers with RST. Open ones go on."""
        self._close(self)


def check_port(port: int) -> None:
    """Raises ValueError for what is no port."""
    if not 1 <= port <= 65535:
        raise ValueError(f"port is {port}: use 1 to 65,535")


def choose_port(chance: random.Random, taken: Callable[[int], bool]) -> int:
    """An ephemeral port that is not taken. Raises ValueError if all are."""
    first = chance.randrange(len(_EPHEMERAL))
    for i in range(len(_EPHEMERAL)):
        port = _EPHEMERAL[(first + i) % len(_EPHEMERAL)]
        if not taken(port):
            return port
    raise ValueError(f"all {len(_EPHEMERAL):,} ephemeral ports are taken: close some")
