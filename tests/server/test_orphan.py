"""A child that is to end with its parent does, even if that was gone before it asked."""

from __future__ import annotations

import os
import time

from appliance_sdk.server.orphan import die_with_parent


def _grandchild(writer: int, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.001)
    die_with_parent()
    os.write(writer, b"alive")


def test_who_asks_when_its_parent_is_gone_already_ends() -> None:
    reader, writer = os.pipe()
    middle = os.fork()
    if not middle:
        parent = os.getpid()
        if not os.fork():
            try:
                _grandchild(writer, parent)
            finally:
                os._exit(0)
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(writer)
    said = os.read(reader, 100)
    os.close(reader)
    assert said == b""
