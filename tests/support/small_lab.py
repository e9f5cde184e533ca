"""A benchmark that takes a second, and whether one can be had here."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance_sdk.bench.lab import Pace
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.namespaces import Namespace

TINY = Pace(
    seconds=0.05,
    repeats=2,
    steady_s=0.05,
    steady_repeats=2,
    steps=1,
    flood_s=0.3,
    many_flows=2000,
    judged=640,
    packets=200,
    hours=0.01,
    days=2,
    thorough=False,
)
WRONG = Path(__file__).with_name("wrong_appliance.py")


def why_no_namespaces() -> str:
    """Empty where the benchmark of the data path can run."""
    if shutil.which("ip") is None:
        return "needs ip (iproute2)"
    try:
        Namespace().close()
    except HarnessError as error:
        return f"needs root: {error}"
    return ""
