from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _quiet_bench(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="appliance_sdk.bench")
