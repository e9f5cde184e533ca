"""The command line as users meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.capture import CaptureWriter
from appliance_sdk.wire.packet import SYN

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"

PLUGINS = """
import re
from appliance_sdk import Appliance, Plugin, PluginConfig, Sink, Verdict

class Config(PluginConfig, frozen=True):
    port: int = 23
    words: str = ""
    def __post_init__(self):
        re.compile(self.words)

class NoPort(Plugin):
    config: Config
    def flow_opened(self, flow):
        if flow.server_port == self.config.port:
            return Verdict.BLOCK.because("not this port", rule="no-port")

class Fails(Plugin):
    @classmethod
    def load(cls, config):
        return {"a": object()}

class More(Plugin):
    def flow_opened(self, flow, packet):
        pass

class NotOne:
    pass

class Out(Sink):
    config: Config
    def write(self, events):
        pass

class Own(Appliance):
    '''An appliance of its own.'''
    def flow_opened(self, flow):
        return Verdict.REJECT.because("mine")

if __name__ == "__main__":
    Own.main()
"""


def run(folder: Path, *arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
    program = [script] if script else ["-c", "from appliance_sdk.cli import main; main()"]
    command = [sys.executable, *program, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGINS)
    with CaptureWriter(tmp_path / "some.pcap") as capture:
        capture.write(1.0, build_tcp(A, B, 4000, 23, flags=SYN))
        capture.write(1.5, build_tcp(A, B, 4001, 80, flags=SYN))
        capture.write(2.0, build_udp(A, B, 5000, 53, payload=b"x"))
        capture.write(2.5, b"\x45rubbish")
    return tmp_path


def test_replay_shows_each_flow_and_the_balance(folder: Path) -> None:
    result = run(folder, "replay", "some.pcap", "--plugin", "mine.py:NoPort")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert " ".join(lines[1].split()) == (
        "block tcp 10.0.0.1:4000 -> 10.0.0.2:23 no-port 1/0 not this port"
    )
    assert (
        "4 packets read = 2 forwarded + 2 dropped (ip_truncated 1, plugin_block 1)" in result.stdout
    )


def test_replay_over_udp_gives_the_same_flows(folder: Path) -> None:
    memory = run(folder, "replay", "some.pcap", "--plugin", "mine.py:NoPort")
    udp = run(folder, "replay", "some.pcap", "--plugin", "mine.py:NoPort", "--udp")
    assert udp.returncode == 0, udp.stderr
    assert udp.stdout.splitlines()[:5] == memory.stdout.splitlines()[:5]
    assert "over real UDP GENEVE" in udp.stdout


def test_replay_over_udp_loses_no_event_of_many(folder: Path) -> None:
    with CaptureWriter(folder / "many.pcap") as capture:
        for n in range(30_000):
            address = b"\x0a\0" + (n >> 8).to_bytes(1, "big") + b"\1"
            capture.write(1 + n / 1e5, build_udp(address, B, 1000 + (n & 255), 80, payload=b"x"))
    result = run(folder, "replay", "many.pcap", "--udp", "--json")
    *flows, total = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(flows) == total["flows_opened"] == total["flows_closed"] == 30_000


def test_replay_as_json_and_into_an_eve_file(folder: Path) -> None:
    result = run(
        folder, "replay", "some.pcap", "--plugin", "mine.py:NoPort", "--json", "--eve", "eve.json"
    )
    *flows, total = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(flows) == total["flows_opened"] == total["flows_closed"] == 3
    assert total["packets"] == total["forwarded"] + sum(total["dropped"].values())
    written = [json.loads(line) for line in (folder / "eve.json").read_text().splitlines()]
    assert {e["event_type"] for e in written} == {"flow", "drop", "anomaly"}
    assert flows[0]["timestamp"].startswith("1970-01-01T00:")


def test_an_appliance_class_is_the_same_program(folder: Path) -> None:
    result = run(folder, "replay", "some.pcap", script="mine.py")
    assert result.stdout.count("mine") == 3
    help_ = run(folder, "--help", script="mine.py").stdout
    assert "An appliance of its own." in help_
    assert "firewall" not in help_


@pytest.mark.anyone
@pytest.mark.parametrize("command", [["run"], ["check"], ["replay"], ["plugins", "list"]])
def test_every_command_explains_itself(folder: Path, command: list[str]) -> None:
    result = run(folder, *command, "--help")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) > 5


MISTAKES = [
    ("", "a.toml: origins: is missing (list the GWLB's subnets: origins = "),
    ('origins = ["10.0.0.1/8"]', "a.toml: origins[0]: `10.0.0.1/8` is not a network (did you mean"),
    ('origin = ["10.0.0.0/8"]', "a.toml: origin: unknown key `origin` (did you mean `origins`?)"),
    ("origins = 5", "a.toml: origins: expected `array`, got `int`"),
    ("origins = [", "a.toml: is not TOML: "),
    ('origins = ["::/0"]\nworkers = 0', "a.toml: workers: 0 is not in 1 to 64 (as many as"),
    (
        'origins = ["::/0"]\n[health]\nprot = 1',
        "a.toml: health.prot: unknown key `prot` (did you mean `port`?)",
    ),
    (
        'origins = ["::/0"]\n[health]\nport = 6081',
        "a.toml: health.port: is GENEVE's port (health checks need one of their own",
    ),
    ('origins = ["::/0"]\nenable = ["nowhere"]', "a.toml: enable: no plugin `nowhere` is"),
    (
        'origins = ["::/0"]\nenable = ["mine.py:NoPort"]\n[plugins.no-prot]\nport = 1',
        "a.toml: plugins.no-prot: no such plugin is enabled (did you mean `no-port`?)",
    ),
    (
        'origins = ["::/0"]\nenable = ["mine.py:NoPort"]\n[plugins.no-port]\nport = "1"',
        "a.toml: plugins.no-port.port: expected `int`, got `str`",
    ),
    (
        'origins = ["::/0"]\nenable = ["mine.py:NoPort"]\n[zones.a]\nendpoints = ["vpc-1"]',
        "a.toml: zones.a.endpoints[0]: `vpc-1` is not an endpoint id",
    ),
    (
        'origins = ["::/0"]\n[zones.a.plugins.x]\ny = 1',
        "a.toml: zones.a.plugins.x: no such plugin is enabled",
    ),
    (
        'origins = ["::/0"]\n[health]\nkind = "https"',
        "a.toml: health.kind: invalid enum value 'https' (did you mean `http`?)",
    ),
    ('origins = ["::/0"]\nenable = ["mine.py"]', "of a file say the class, too: mine.py:MyPlugin"),
    ('origins = ["::/0"]\nenable = ["mine.py:NoPrt"]', "in mine.py (did you mean `NoPort`?)"),
    (
        'origins = ["::/0"]\nenable = ["mine.py:More"]',
        "more: flow_opened() takes `packet`, which it is not given (it is given: flow)",
    ),
    (
        'origins = ["::/0"]\nenable = ["mine.py:NoPort"]\n[plugins.no-port]\nwords = "("',
        "a.toml: plugins.no-port: error: missing ), unterminated subpattern at position 0",
    ),
    ('origins = ["::/0"]\nenable = ["mine.py:Fails"]', "fails: load() must return plain data"),
    ('origins = ["::/0"]\nenable = ["mine.py:NotOne"]', "is no subclass of"),
    ('origins = ["::/0"]\nenable = ["mine.py:Nothing"]', "a.toml: enable: no `Nothing` in mine.py"),
    ('origins = ["::/0"]\nenable = ["none.py:X"]', "a.toml: enable: none.py: no such file"),
    ("a = " + "[" * 5000, "a.toml: is not TOML: nested too deeply"),
    ("workers = " + "9" * 5000, "a.toml: is not TOML: Exceeds the limit"),
    ('origins = ["::/0"]\n[health]\nstalled_s = nan', "a.toml: health.stalled_s: must not be"),
    ('origins = ["::/0"]\n[drain]\ndeadline_s = -1', "a.toml: drain.deadline_s: must not be neg"),
    ('origins = ["::/0"]\n[events]\nqueue = 0', "a.toml: events.queue: must be at least 1"),
    (
        f'origins = ["::/0"]\n[listen]\nreceive_buffer_bytes = {2**40}',
        "a.toml: listen.receive_buffer_bytes: must be at most 2,147,483,647",
    ),
    (
        'origins = ["::/0"]\n[engine.stream]\npending_bytes = -1',
        "a.toml: engine.stream.pending_bytes: must not be negative",
    ),
    (
        'origins = ["::/0"]\n[listen]\naddresses = ["banana"]',
        "a.toml: listen.addresses: 'banana' is not an IP address",
    ),
    (
        'origins = ["::/0"]\n[health]\naddress = "::"',
        "a.toml: health.address: '::' is not an IPv4 address (such as 0.0.0.0)",
    ),
    (
        'origins = ["::/0"]\nenable = ["mine.py:Out"]\n[plugins.out]\nport = "1"',
        "a.toml: plugins.out.port: expected `int`, got `str`",
    ),
]


@pytest.mark.anyone
@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_file_key_and_hint(
    folder: Path, text: str, message: str
) -> None:
    (folder / "a.toml").write_text(text)
    result = run(folder, "check", "a.toml")
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == ""


@pytest.mark.anyone
def test_a_missing_file_and_something_that_is_no_capture(folder: Path) -> None:
    result = run(folder, "check", "none.toml")
    assert (result.returncode, result.stderr) == (2, "appliance: none.toml: no such file\n")
    result = run(folder, "check", "mine.py/x.toml")
    assert result.stderr == "appliance: mine.py/x.toml: cannot be read: Not a directory\n"
    result = run(folder, "replay", "mine.py")
    assert result.returncode == 2
    assert "mine.py: is not a capture" in result.stderr
    result = run(folder, "replay", "some.pcap", "--eve", "none/eve.json")
    assert result.returncode == 2
    assert (
        result.stderr == "appliance: none/eve.json: cannot be written: No such file or directory\n"
    )
    assert result.stderr.count("\n") == 1


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command line with `appliance` in it."""
    program = f"{sys.executable} -c 'from appliance_sdk.cli import main; main()'"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; appliance() {{ {program} "$@"; }}; {command}'],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_capture_may_come_through_a_pipe(folder: Path) -> None:
    result = shell(folder, "cat some.pcap | appliance replay --summary /dev/stdin")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("4 packets read = ")


@pytest.mark.anyone
def test_a_reader_that_is_gone_and_a_full_disk_are_no_traceback(folder: Path) -> None:
    result = shell(folder, "appliance replay --json some.pcap | true")
    assert (result.returncode, result.stderr) == (141, "")
    result = shell(folder, "appliance replay some.pcap > /dev/full")
    assert result.returncode == 2
    assert result.stderr == ("appliance: the output cannot be written: No space left on device\n")


def test_a_damaged_package_is_named(folder: Path) -> None:
    info = folder / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[appliance_sdk.plugins.v1]\nhalf\n")
    result = run(folder, "plugins", "list")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("(reinstall or remove broken)\n")


def test_check_says_what_would_run(folder: Path) -> None:
    (folder / "a.toml").write_text(
        'origins = ["10.0.0.0/8"]\nenable = ["mine.py:NoPort", "mine.py:Out"]'
    )
    result = run(folder, "check", "a.toml")
    assert result.returncode == 0, result.stderr
    assert "a.toml: fine" in result.stdout
    assert "no-port" in result.stdout
    assert "sink      out" in result.stdout


@pytest.mark.anyone
def test_no_command_imports_what_is_not_enabled(folder: Path) -> None:
    package = folder / "site"
    info = package / "trap-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "trap.py").write_text("open('sprung', 'w')\nraise SystemExit('imported')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[appliance_sdk.plugins.v1]\ntrap = trap:Trap\nno-port = mine:NoPort\n"
    )
    program = "import sys; sys.path[:0] = ['site', '.']; from appliance_sdk.cli import main; main()"

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    (folder / "a.toml").write_text('origins = ["::/0"]\nenable = ["no-port"]')
    listed = call("plugins", "list", "--json", "--config", "a.toml")
    found = {p["name"]: p["enabled"] for p in json.loads(listed.stdout)}
    assert found["trap"] is False
    assert found["no-port"] is True
    assert call("check", "a.toml").returncode == 0
    assert call("replay", "some.pcap", "--config", "a.toml").returncode == 0
    assert not (folder / "sprung").exists()
