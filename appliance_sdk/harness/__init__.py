"""A local Gateway Load Balancer, and the VPC around it, to try any appliance on one machine.

`Harness` runs a `Topology` over a fleet of appliances: `MemoryFleet` in this process with virtual
time, `UdpFleet` over real GENEVE. `GatewayLoadBalancer` is the load balancer alone.
"""

from appliance_sdk.harness.balancer import GatewayLoadBalancer
from appliance_sdk.harness.faults import Fault, Faults
from appliance_sdk.harness.findings import MISTAKES, Finding
from appliance_sdk.harness.forked import Forked
from appliance_sdk.harness.harness import Harness
from appliance_sdk.harness.in_process import InProcess, MemoryFleet
from appliance_sdk.harness.loopback import free_loopback
from appliance_sdk.harness.outcomes import Dropped, ToEndpoint, ToTarget
from appliance_sdk.harness.reasons import REASONS, ROUTE_REASONS
from appliance_sdk.harness.running import Running
from appliance_sdk.harness.settings import (
    GatewaySettings,
    HealthCheck,
    ListenerAttributes,
    LoadBalancerAttributes,
    TargetGroupAttributes,
    Undocumented,
)
from appliance_sdk.harness.states import Change, State, Target
from appliance_sdk.harness.subprocesses import Subprocess
from appliance_sdk.harness.topology import (
    AlbService,
    AttachmentPart,
    BannerService,
    EchoService,
    EndpointPart,
    EndpointServicePart,
    GatewayPart,
    HostPart,
    HttpService,
    SubnetPart,
    TargetPart,
    Topology,
    TransitGatewayPart,
    VpcPart,
    shipped_topology,
)
from appliance_sdk.harness.trace import Hop, Trace, Transit
from appliance_sdk.harness.udp_fleet import UdpFleet

__all__ = [
    "MISTAKES",
    "REASONS",
    "ROUTE_REASONS",
    "AlbService",
    "AttachmentPart",
    "BannerService",
    "Change",
    "Dropped",
    "EchoService",
    "EndpointPart",
    "EndpointServicePart",
    "Fault",
    "Faults",
    "Finding",
    "Forked",
    "GatewayLoadBalancer",
    "GatewayPart",
    "GatewaySettings",
    "Harness",
    "HealthCheck",
    "Hop",
    "HostPart",
    "HttpService",
    "InProcess",
    "ListenerAttributes",
    "LoadBalancerAttributes",
    "MemoryFleet",
    "Running",
    "State",
    "SubnetPart",
    "Subprocess",
    "Target",
    "TargetGroupAttributes",
    "TargetPart",
    "ToEndpoint",
    "ToTarget",
    "Topology",
    "Trace",
    "Transit",
    "TransitGatewayPart",
    "UdpFleet",
    "Undocumented",
    "VpcPart",
    "free_loopback",
    "shipped_topology",
]
