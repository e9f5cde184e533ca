"""A bench for rules: text in, the sids that alerted out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_tcp
from appliance_sdk.wire.packet import ACK, PSH, SYN
from reference_appliances.ids import Ids
from reference_appliances.ids.classification import BUILT_IN
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.option import Subject
from reference_appliances.ids.parser import parse_rule
from reference_appliances.ids.rule import Rule
from reference_appliances.ids.settings import VARIABLES

CLIENT, SERVER = "10.0.0.1", "192.0.2.1"
MakeBench = Callable[..., Bench]


def parse(text: str) -> Rule:
    """One rule, with the usual variables."""
    return parse_rule(text, Groups(VARIABLES), BUILT_IN, path="test.rules", line=7)


def options(text: str) -> Any:
    """The options of a TCP rule whose body is `text`."""
    return parse(f"alert tcp any any -> any any ({text} sid:1;)").options


def subject(data: bytes = b"", *, flags: int = 0x10, base: int = 0) -> Subject:
    """A packet of an established connection to look at."""
    return Subject(data, to_server=True, established=True, flags=flags, base=base)


def sids(bench: Bench) -> list[int]:
    """The rules that alerted, in order."""
    return [int(alert.rule) for alert in bench.alerts]


@pytest.fixture
def ids_bench(tmp_path: Path) -> MakeBench:
    """Makes a bench with an IDS and these rules."""

    def make(*rules: str, segment: int = 0, **config: Any) -> Bench:
        path = tmp_path / "test.rules"
        path.write_text("\n".join(rules) + "\n", encoding="utf-8")
        return Bench(Ids, segment=segment, rules=[str(path)], **config)

    return make


def numbered(*bodies: str, head: str = "alert tcp any any -> any any") -> Sequence[str]:
    """Rules with sids from 1."""
    return [f"{head} ({body} sid:{n};)" for n, body in enumerate(bodies, 1)]


def tcp_packet(flags: int, payload: bytes = b"", *, seq: int, ack: int, answer: bool) -> bytes:
    """A packet of one connection between the two."""
    client, server = ip_address(CLIENT).packed, ip_address(SERVER).packed
    ends = (server, client, 80, 40000) if answer else (client, server, 40000, 80)
    return build_tcp(*ends, seq=seq, ack=ack, flags=flags, payload=payload)


def handshake() -> tuple[bytes, bytes, bytes]:
    """SYN, SYN+ACK, ACK."""
    return (
        tcp_packet(SYN, seq=99, ack=0, answer=False),
        tcp_packet(SYN | ACK, seq=199, ack=100, answer=True),
        tcp_packet(ACK, seq=100, ack=200, answer=False),
    )


def to_server(payload: bytes, at: int = 0) -> bytes:
    """Stream bytes behind that handshake."""
    return tcp_packet(PSH | ACK, payload, seq=100 + at, ack=200, answer=False)
