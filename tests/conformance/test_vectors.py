"""The vectors: they are what the cases ask, and whoever reads them needs nothing of ours."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import appliance_sdk.conformance
import reference_appliances.firewall
from appliance_sdk import Plugin, Verdict
from appliance_sdk.cli.conformance import conformance
from appliance_sdk.conformance import InProcess
from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.conversation import OTHER_ENDPOINT
from appliance_sdk.conformance.policy_files import FOLDER, RULES
from appliance_sdk.conformance.recording import LeftOut
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.conformance.vectors import INDEX, record, vector_files, vectors_schema
from appliance_sdk.dataplane.memory import MemoryPlane
from appliance_sdk.testing import ZoneSettings
from reference_appliances.firewall import Firewall
from reference_appliances.ids import Ids

HERE = Path(__file__).parent
FILES = Path(appliance_sdk.conformance.__file__).parent / "vectors"
TOPICS = [FILES / name for name in json.loads((FILES / INDEX).read_text())["files"]]
VECTORS: list[dict[str, Any]] = [
    vector for path in TOPICS for vector in json.loads(path.read_text())["vectors"]
]
POLICY = Path(reference_appliances.firewall.__file__).parent / "examples" / "conformance.toml"
"""The suite's policy in the reference firewall's own language."""
NOT_MET = {"firewall/ping-identifier"}
"""MAYs that the engine does not do: its flow of pings has no identifier, as GWLB's has none."""


def test_the_files_are_what_the_cases_ask() -> None:
    files = vector_files()
    assert {path.name for path in FILES.iterdir()} == set(files)
    for name, text in files.items():
        assert (FILES / name).read_bytes() == text, f"{name}: run python tests/docs/generate.py"


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES.iterdir()) < 1_000_000


def test_the_schema_is_the_one_in_the_documentation() -> None:
    path = HERE.parents[1] / "docs" / "conformance-vectors.schema.json"
    assert path.read_bytes() == vectors_schema()


def test_a_case_is_a_vector_or_left_out_with_a_reason() -> None:
    left_out = json.loads((FILES / INDEX).read_text())["left_out"]
    for case in all_cases().values():
        if {"sockets", "health", "process", "alerts"} & set(case.needs):
            continue
        assert (case.id in left_out) is (case.id not in {one["id"] for one in VECTORS})
    assert all(len(reason) > 20 for reason in left_out.values())


def test_every_step_of_a_case_that_returns_packets_says_so() -> None:
    case = all_cases()["geneve/reserved-bits"]
    assert [step.expect for step in record(case).steps] == ["returned"]
    assert [s.expect for s in record(all_cases()["inner/ttl"]).steps] == ["returned-with-ttl"]
    waits = [step.wait_s for step in record(all_cases()["flow/idle-udp"]).steps]
    assert waits == [0, 0, 121, 0]
    burst = record(all_cases()["reply/own-cookie"]).steps
    assert {step.expect for step in burst} == {"returned"}


def test_a_case_that_looks_at_what_an_appliance_makes_is_left_out() -> None:
    def ask(rig: Rig) -> None:
        assert rig.answers(rig.udp().to_server(b"x"))
        rig.comes_back(rig.udp().to_server(b"never sent"))

    case = all_cases()["inner/ttl"]._replace(ask=ask)
    with pytest.raises(LeftOut, match="what an appliance makes itself"):
        record(case)


# The SDK's engine, by a reader that uses the documentation alone.


class Forwarder(Plugin):
    """Forwards everything."""

    name = "forwarder"

    def flow_opened(self, flow: object) -> Verdict:
        return Verdict.DONE


def problems(vector: dict[str, Any]) -> list[str]:
    appliance = InProcess(Forwarder)
    if vector["profile"] == Profile.FIREWALL:
        zones = {"other": ZoneSettings(endpoints=(OTHER_ENDPOINT,))}
        appliance = InProcess(Firewall, zones=zones, policy=str(POLICY))
    if vector["profile"] == Profile.IDS:
        appliance = InProcess(Ids, rules=(str(FOLDER / RULES),), mode="ips")
    engine = appliance.start(0.0, lambda _: None, origins=("10.9.0.0/24",))
    plane, now, found = MemoryPlane(engine), 0.0, []
    for number, step in enumerate(vector["steps"]):
        now += step.get("wait_s", 0)
        plane.advance(now)
        payload = bytes.fromhex(step["payload"])
        peer = step["port"].to_bytes(2, "big") + socket.inet_aton(step["node"])
        local = socket.inet_aton(step["address"])
        sent = [tuple(one) for one in plane.deliver(payload, peer, local, now)]
        right = {
            "returned": sent == [(peer, local, payload)],
            "returned-with-ttl": sent == [(peer, local, payload)],
            "not-returned": (peer, local, payload) not in sent,
            "silent": not sent,
            "any": True,
        }[step["expect"]]
        if not right:
            found.append(f"step {number}: {step['expect']}, and came {len(sent)}")
    return found


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["id"]))
def test_the_engine_does_what_a_vector_says(vector: dict[str, Any]) -> None:
    assert bool(problems(vector)) is (vector["id"] in NOT_MET)


# The C program.


def compiled(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here (cc)")
    source = (HERE / "vectors.c").read_text()
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    (tmp_path / "vectors.c").write_text(source)
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", "vectors", "vectors.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path / "vectors"


def run_c(program: Path) -> subprocess.CompletedProcess[str]:
    asked = [path for path in TOPICS if path.name not in ("firewall.json", "ids.json")]
    return subprocess.run(
        [program, *asked], text=True, capture_output=True, timeout=60, check=False
    )


def test_an_appliance_in_c_is_asked_without_python(tmp_path: Path) -> None:
    done = run_c(compiled(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "0 not as they must be" in done.stdout
    assert "SHOULD fragment/tiny-first: not-returned, and was returned" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "caught"),
    [
        ("at[0] >> 6 != 0 || ", "", "geneve/version"),
        ("at[1] & 0x80 || ", "", "geneve/control-packet"),
        (" || type & 0x80", "", "geneve/unknown-critical-option"),
        ("8500", "1500", "size/8500"),
        ("word(at + 4) <= size", "word(at + 4) < size", "inner/ipv6"),
    ],
)
def test_its_mistakes_are_found(tmp_path: Path, old: str, new: str, caught: str) -> None:
    done = run_c(compiled(tmp_path, (old, new)))
    assert done.returncode == 1
    assert f"MUST {caught}: " in done.stdout


def test_they_are_written_to_a_folder(tmp_path: Path) -> None:
    stale = tmp_path / "telepathy.json"
    stale.write_bytes((FILES / "geneve.json").read_bytes())
    (tmp_path / "package.json").write_text("{}")
    for _ in range(2):
        done = CliRunner().invoke(conformance, ["vectors", "--out", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert f"index.json are in {tmp_path}" in done.output
    assert not stale.exists()
    assert (tmp_path / "package.json").exists()
    for path in FILES.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
