"""Fixtures for pytest: an appliance behind a local Gateway Load Balancer, ready to be sent traffic.

Installed with the SDK. A test module defines `appliance`, the rest is here:

    @pytest.fixture
    def appliance():
        return NoTelnet                       # or InProcess(…), Subprocess("…"), Running(…)

    def test_telnet_is_refused(flow_factory):
        assert flow_factory.tcp(23).reset

`--gwlb-plane=udp` (or `@pytest.mark.parametrize("gwlb_plane", ["memory", "udp"])`) runs the same
test over real UDP.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from appliance_sdk.harness import Harness, Topology
    from appliance_sdk.harness.datagrams import Capture
    from appliance_sdk.testing.traffic import FlowFactory

pytest_plugins = ["appliance_sdk.testing.pytest_conformance"]

_CAPTURE = pytest.StashKey[Any]()
_TOPOLOGY = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest's hook."""
    group = parser.getgroup("gwlb", "appliances behind a local Gateway Load Balancer")
    group.addoption(
        "--gwlb-plane",
        choices=("memory", "udp"),
        default="memory",
        help="how the load balancer reaches the appliance: in this process with virtual time "
        "(memory), or real GENEVE to a process of its own (udp)",
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """pytest's hook: a clock that is not the real one is said."""
    if config.getoption("--gwlb-plane") != "udp":
        return None
    from appliance_sdk.testing.appliances import UDP_FACTOR

    return f"gwlb: over UDP, its clock {UDP_FACTOR:g} times as fast as the real one"


@pytest.fixture
def appliance() -> Any:
    """What is tested; yours to define."""
    pytest.fail(
        "define a fixture `appliance` that returns your appliance: a Plugin class, "
        "InProcess(MyPlugin, setting=…), Subprocess('my-appliance --listen {address}') "
        "or Running(address, health_port=…), all from appliance_sdk.testing",
        pytrace=False,
    )


@pytest.fixture
def gwlb_plane(request: pytest.FixtureRequest) -> str:
    """ "memory" or "udp"."""
    return str(request.config.getoption("--gwlb-plane"))


@pytest.fixture
def gwlb_topology() -> Topology:
    """A client on the internet, a server in a VPC; override it to return another `Topology`."""
    from appliance_sdk.harness import shipped_topology

    return shipped_topology("simple")


@pytest.fixture
def capture(request: pytest.FixtureRequest) -> Capture:
    """Every datagram between load balancer and appliances; of a failed test it becomes a file."""
    from appliance_sdk.harness.datagrams import Capture

    made = Capture()
    request.node.stash[_CAPTURE] = made
    return made


@pytest.fixture
def gwlb(
    request: pytest.FixtureRequest,
    appliance: Any,
    gwlb_plane: str,
    gwlb_topology: Topology,
    capture: Capture,
) -> Iterator[Harness]:
    """The whole picture running, every target healthy."""
    from appliance_sdk.testing.appliances import open_harness

    request.node.stash[_TOPOLOGY] = gwlb_topology
    with open_harness(appliance, gwlb_plane, gwlb_topology, capture) as harness:
        capture.watch(harness)
        harness.wait_healthy()
        yield harness


@pytest.fixture
def flow_factory(gwlb: Harness) -> FlowFactory:
    """Opens flows between the hosts: `flow_factory.tcp(443).client_sends(b"hello")`."""
    from appliance_sdk.testing.traffic import FlowFactory

    return FlowFactory(gwlb)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """pytest's hook: what went over the wire in a failed test stands in a file, and what its
    topology cannot do in its report."""
    report = yield
    topology = item.stash.get(_TOPOLOGY, None)
    warnings = topology.warnings() if report.failed and topology is not None else []
    if warnings:
        report.sections.append(("the topology", "\n".join(map(str, warnings))))
    made = item.stash.get(_CAPTURE, None)
    if report.when == "call" and report.failed and made is not None and made.datagrams:
        factory = item.config._tmp_path_factory  # type: ignore[attr-defined]
        path = factory.mktemp("gwlb", numbered=True) / "gwlb.pcapng"
        made.write(path)
        text = f"every packet at every place is in {path}\n{made.text()}"
        report.sections.append(("between load balancer and appliance", text))
    return report
