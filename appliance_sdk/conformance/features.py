"""What an appliance declares that it can do: cases that need more are not asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from appliance_sdk.plugin.config import decode_config, read_toml


class Features(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Optional behaviour; the defaults are what every appliance behind GWLB should have.

    `Features(reject=True)` in Python; elsewhere a TOML file with lines such as `reject = true`.
    """

    ipv6: Annotated[
        bool,
        Meta(description="Forwards IPv6 packets inside the encapsulation, which is always IPv4."),
    ] = True
    jumbo: Annotated[
        bool, Meta(description="Takes and returns inner packets of up to 8,500 bytes.")
    ] = True
    fragments: Annotated[
        bool, Meta(description="Forwards fragments of packets that its policy allows.")
    ] = True
    other_protocols: Annotated[
        bool,
        Meta(description="Forwards what is not TCP, UDP or ICMP: ESP, GRE, SCTP and so on."),
    ] = True
    midstream: Annotated[
        bool,
        Meta(description="Forwards TCP of connections whose beginning it did not see."),
    ] = True
    http_health: Annotated[
        bool, Meta(description="Answers health checks over HTTP; without it, over TCP only.")
    ] = True
    every_source_port: Annotated[
        bool,
        Meta(
            description="Answers from any UDP port, as AWS uses: on Linux with a raw socket or a "
            "device. Without it the suite keeps to ports 61000 to 61031."
        ),
    ] = False
    every_address: Annotated[
        bool,
        Meta(
            description="Listens on each address of its host, and answers from the one that was "
            "asked."
        ),
    ] = False
    origins: Annotated[
        bool,
        Meta(
            description="Ignores GENEVE from outside the load balancer's subnets, which it is "
            "told ({origins} in a command line)."
        ),
    ] = False
    reject: Annotated[
        bool,
        Meta(description="Answers what its policy rejects: TCP with resets, UDP with ICMP errors."),
    ] = False
    endpoints: Annotated[
        bool, Meta(description="Has a policy of its own for each GWLB endpoint.")
    ] = False
    drain: Annotated[
        bool,
        Meta(
            description="On SIGTERM it fails its health checks, goes on forwarding, and ends "
            "with status 0."
        ),
    ] = False
    prevention: Annotated[
        bool,
        Meta(description="Drops what matches a rule that says so, instead of only reporting it."),
    ] = False
    streams: Annotated[
        bool,
        Meta(description="Finds what is split over TCP segments, in whatever order they come."),
    ] = False


def feature_texts(features: type[Features] = Features) -> dict[str, str]:
    """What each feature means, by name."""
    properties = msgspec.json.schema(features)["$defs"][features.__name__]["properties"]
    return {name: str(entry["description"]) for name, entry in properties.items()}


def read_features(path: Path) -> Features:
    """The features in a TOML file. Raises ConfigError."""
    return decode_config(read_toml(path), Features, path=path)
