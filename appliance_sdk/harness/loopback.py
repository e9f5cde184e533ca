"""Loopback addresses that no other harness on this machine uses."""

from __future__ import annotations

import os
import socket

from appliance_sdk.errors import HarnessError
from appliance_sdk.wire.geneve import PORT

_FIRST, _COUNT = 100, 128


def free_loopback() -> str:
    """The first two numbers of a range whose first node's address is free: "127.117".

    Raises HarnessError if every range is in use, which takes 128 harnesses.
    """
    for attempt in range(_COUNT):
        prefix = f"127.{_FIRST + (os.getpid() + attempt) % _COUNT}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((f"{prefix}.0.11", PORT))
            except OSError:
                continue
        return prefix
    raise HarnessError("UDP port 6081 is taken on every loopback range that is tried")
