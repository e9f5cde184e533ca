"""Loads in a process of their own, and what happens when that one does not live to the end."""

from __future__ import annotations

import os
import signal

import pytest

from appliance_sdk import Plugin, PluginError
from appliance_sdk.plugin.manager import Enabled
from appliance_sdk.server.config import ApplianceConfig
from appliance_sdk.server.loads import LoadProcess, load_jobs


class Much(Plugin):
    """Loads more than a pipe holds."""

    @classmethod
    def load(cls, config: object) -> object:
        return b"x" * 10_000_000


def test_a_load_that_is_killed_in_the_middle_of_its_answer_has_failed() -> None:
    process = LoadProcess(load_jobs(ApplianceConfig(), [Enabled("much", Much)]))
    assert not process.read()
    os.kill(process.pid, signal.SIGKILL)
    while not process.read():
        continue
    with pytest.raises(PluginError, match="ended its process with status -9"):
        process.result()
