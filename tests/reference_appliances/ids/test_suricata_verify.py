"""Tests of OISF's suricata-verify, used in place: rules, capture, and how many alerts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from appliance_sdk.cli.shipped import replay_with
from reference_appliances.ids import Ids
from reference_appliances.ids.profile import Profile, settings_of

CORPUS = Path(__file__).parents[3].parent / "shared" / "data" / "suricata-verify" / "tests"
HTTP = "eve-metadata-01-alert/80000000-037-PTP_Example_IPv4_HTTP_Session-PUBLIC-tp-01-TEST1.pcap"
DSIZE = {
    "dsize exact size": 1,
    "dsize less than value": 4,
    "dsize less than or equal value": 5,
    "dsize greater than value": 1,
    "dsize greater than or equal value": 1,
    "dsize range value": 1,
    "dsize not equal value": 1,
}

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the tests of suricata-verify are not here"
)


def alerts(name: str, capture: str, tmp_path: Path, *, midstream: bool = False) -> list[object]:
    """What is alerted on with the rules of a test, as EVE objects."""
    rules = sorted((CORPUS / name).glob("*.rules"))
    config = settings_of(Profile(midstream=midstream))
    config["rules"] = [str(path) for path in rules]
    eve = tmp_path / "eve.json"
    replay_with(Ids, config, CORPUS / name / capture, udp=False, eve=eve)
    events = [json.loads(line) for line in eve.read_text().splitlines()]
    return [event["alert"] for event in events if event["event_type"] == "alert"]


@pytest.mark.parametrize(
    ("name", "capture", "midstream", "expected"),
    [
        ("alert-testmyids-not-established", "input.pcap", False, {2: 1}),
        ("bug-1401-01", f"../{HTTP}", False, {1: 1}),
        ("bug-1401-03", HTTP.partition("/")[2].replace("-TEST1", ""), False, {1: 1}),
        (
            "iponly-midstream-01",
            "../uricontent/detect-uricontent-06/input.pcap",
            True,
            {1: 1, 3: 1, 4: 1},
        ),
        ("tcp-5379", "input.pcap", False, {1: 1}),
        ("test-dsize-values", "input.pcap", False, DSIZE),
    ],
    ids=lambda value: value if isinstance(value, str) and "." not in value else "",
)
def test_alerts_are_suricatas(
    name: str, capture: str, midstream: bool, expected: dict[object, int], tmp_path: Path
) -> None:
    found = alerts(name, capture, tmp_path, midstream=midstream)
    key = "signature" if expected is DSIZE else "signature_id"
    assert Counter(alert[key] for alert in found) == expected  # type: ignore[index]
