"""Proves any appliance right against a local Gateway Load Balancer, case by case.

A vendor's tests subclass `TransportTests`, `FlowTests` and so on, and define a fixture `appliance`
that returns a Plugin class, `InProcess`, `Subprocess` or `Running`. Without pytest, and without
Python, there is `appliance conformance run`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance_sdk.conformance.features import Features
    from appliance_sdk.conformance.suites import (
        FirewallTests,
        FlowTests,
        HealthTests,
        IdsTests,
        OperationsTests,
        TransportTests,
    )
    from appliance_sdk.harness.in_process import InProcess
    from appliance_sdk.harness.running import Running
    from appliance_sdk.harness.subprocesses import Subprocess

__all__ = [
    "Features",
    "FirewallTests",
    "FlowTests",
    "HealthTests",
    "IdsTests",
    "InProcess",
    "OperationsTests",
    "Running",
    "Subprocess",
    "TransportTests",
]

_HOMES = {
    "Features": "conformance.features",
    "FirewallTests": "conformance.suites",
    "FlowTests": "conformance.suites",
    "HealthTests": "conformance.suites",
    "IdsTests": "conformance.suites",
    "InProcess": "harness.in_process",
    "OperationsTests": "conformance.suites",
    "Running": "harness.running",
    "Subprocess": "harness.subprocesses",
    "TransportTests": "conformance.suites",
}


def __getattr__(name: str) -> Any:
    # A case is registered when its module is imported: the modules of this package import each
    # other, so that what is public must not be loaded before it is asked for.
    if name in _HOMES:
        return getattr(importlib.import_module(f"appliance_sdk.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
