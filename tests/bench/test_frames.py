"""What the generators send, and what their checkers let through: both say the same."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest

from appliance_sdk.bench.compiled import build
from appliance_sdk.bench.frames import GENEVE_AT, INNER, Frames
from appliance_sdk.bench.generator import FirstWrong
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.python_load import Checker
from appliance_sdk.errors import HarnessError
from appliance_sdk.wire.checksum import checksum, transport_checksum
from appliance_sdk.wire.geneve import parse_geneve
from appliance_sdk.wire.packet import ACK, PSH, SYN, TCP, UDP, parse_packet

TIME_NS = 77
MAC = bytes((2, 0, 0, 0, 0, 2))
LOADS = [
    Load(flows=10, size=64),
    Load(flows=10, size=101),
    Load(flows=3, size=512, tcp=True),
    Load(flows=1000, size=1400, ipv6=True, epoch=9),
    Load(flows=5, size=8500, tcp=True, ipv6=True, epoch=70),
    Load(flows=0, size=512),
    Load(flows=0, size=64, tcp=True, epoch=3),
]


def ask_of(load: Load) -> list[str]:
    words = (load.flows, load.size, int(load.tcp), int(load.ipv6), load.epoch)
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The helper's headers behind a program that answers questions."""
    folder = tmp_path_factory.mktemp("probe")
    try:
        build(folder, "load")
    except HarnessError as error:
        pytest.skip(str(error))
    source = Path(__file__).with_name("probe.c")
    command = ["cc", "-Wno-unused-function", "-I", str(folder), "-o", str(folder / "probe")]
    subprocess.run([*command, str(source)], check=True)
    return folder / "probe"


@pytest.mark.parametrize("program", ["load", "loop"])
def test_the_helpers_are_compiled_without_a_warning(tmp_path: Path, program: str) -> None:
    try:
        build(tmp_path, program)
    except HarnessError as error:
        pytest.skip(str(error))
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    helper = resources.files("appliance_sdk.bench") / "helper" / f"{program}.c"
    subprocess.run([*command, "-o", str(tmp_path / "strict"), str(helper)], check=True)


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_both_generators_make_the_same_frames(load: Load, probe: Path) -> None:
    numbers = [*range(40), 12_345, 999_999]
    words = [str(probe), "frames", *ask_of(load), *map(str, numbers)]
    made = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    frames = Frames(load)
    assert made == [frames.frame(number, TIME_NS).hex() for number in numbers]


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_frames_are_what_gwlb_sends(load: Load) -> None:
    frames = Frames(load)
    for number in (0, 1, 7, 23, 100, 4321):
        flow, turn = frames.place(number)
        frame = frames.frame(number, TIME_NS)
        assert checksum(frame[14:34]) == 0
        geneve = parse_geneve(frame, GENEVE_AT, len(frame))
        assert geneve.length == INNER - GENEVE_AT
        assert geneve.cookie == (load.epoch << 26 ^ flow) & 0xFFFFFFFF
        inner = parse_packet(frame, INNER, len(frame))
        protocol = TCP if load.tcp else UDP
        assert (inner.protocol, inner.end) == (protocol, len(frame))
        assert inner.destination_port == (1024 + flow * 7 % 60000 if turn & 1 else 8443)
        segment = frame[inner.transport : inner.end]
        assert transport_checksum(inner.source, inner.destination, protocol, segment) == 0
        handshake = load.tcp and turn < 3
        assert inner.end - INNER == (load.size if not handshake else inner.payload - INNER)


def test_a_connection_is_what_its_ends_would_say() -> None:
    frames = Frames(Load(flows=4, tcp=True))
    said = []
    for turn in range(9):
        frame = frames.frame(turn * 4 + 1)
        said.append(parse_packet(frame, INNER, len(frame)))
    assert [h.flags for h in said[:4]] == [SYN, SYN | ACK, ACK, PSH | ACK]
    due = {said[0].source: said[0].seq + 1, said[1].source: said[1].seq + 1}
    for packet in said[2:]:
        assert packet.seq == due[packet.source]
        assert packet.ack == due[packet.destination]
        due[packet.source] += packet.end - packet.payload


def test_a_size_without_room_for_number_and_time_is_refused() -> None:
    Frames(Load(size=44))
    with pytest.raises(HarnessError, match="43 bytes have no room"):
        Frames(Load(size=43))


Judge = Callable[[Load, int, int, list[bytes]], list[str]]
"""Load, whole_every, how many frames were sent, replies: what is said of each."""


def in_python(load: Load, whole_every: int, sent: int, replies: list[bytes]) -> list[str]:
    checker = Checker(Frames(load), whole_every)
    checker.times = dict.fromkeys(range(sent), TIME_NS)
    said = []
    for reply in replies:
        before = checker.counts["other"]
        number = checker.check(reply)
        if number >= 0:
            said.append(f"right {number}")
        elif checker.first_wrong is not None:
            said.append(f"wrong {checker.first_wrong.at}")
        else:
            said.append("other" if checker.counts["other"] > before else "again")
        checker.first_wrong = None
    return said


@pytest.fixture(params=["C", "Python"])
def judge(request: pytest.FixtureRequest) -> Judge:
    if request.param == "Python":
        return in_python
    probe: Path = request.getfixturevalue("probe")

    def in_c(load: Load, whole_every: int, sent: int, replies: list[bytes]) -> list[str]:
        words = [str(probe), "check", *ask_of(load), str(whole_every), str(sent)]
        text = "".join(reply.hex() + "\n" for reply in replies)
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return in_c


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_every_right_reply_is_taken_once(load: Load, judge: Judge) -> None:
    frames = Frames(load)
    replies = [frames.reply(number, TIME_NS, MAC) for number in range(20)]
    assert judge(load, 7, 20, replies) == [f"right {number}" for number in range(20)]
    assert judge(load, 7, 20, [*replies[:2], replies[0]])[2:] == ["again"]


@pytest.mark.parametrize("load", [LOADS[0], LOADS[2], LOADS[3], LOADS[6]], ids=str)
def test_every_byte_that_is_not_free_is_looked_at(load: Load, judge: Judge) -> None:
    frames = Frames(load)
    whole, plain = 14, 15  # 14 is compared byte for byte
    free = {18, 19, 22, 24, 25, 40, 41, *range(14)}  # identification, TTL and the sums of both
    for number, looked_at in (
        (whole, range(14, len(frames.frame(whole)))),
        (plain, range(14, INNER + 20)),
    ):
        places = [at for at in looked_at if at not in free]
        replies = []
        for at in places:
            reply = bytearray(frames.reply(number, TIME_NS, MAC))
            reply[at] ^= 0x10
            replies.append(bytes(reply))
        for at, said in zip(places, judge(load, 7, 20, replies), strict=True):
            assert not said.startswith("right"), at


def judge_one(judge: Judge, load: Load, reply: bytes) -> str:
    return judge(load, 7, 20, [reply])[0]


@pytest.mark.parametrize("number", [14, 15])
def test_freedoms_of_an_appliance(judge: Judge, number: int) -> None:
    """Identification, TTL and the UDP checksum are its own, if the checksums are right."""
    load = LOADS[1]
    reply = bytearray(Frames(load).reply(number, TIME_NS, MAC))
    reply[18:20] = b"\x12\x34"
    reply[22] = 61
    reply[24:26] = b"\0\0"
    reply[24:26] = checksum(bytes(reply[14:34])).to_bytes(2, "big")
    assert judge_one(judge, load, bytes(reply)) == f"right {number}"
    segment = bytes(reply[34:])
    total = transport_checksum(bytes(reply[26:30]), bytes(reply[30:34]), UDP, segment)
    reply[40:42] = total.to_bytes(2, "big")
    assert judge_one(judge, load, bytes(reply)) == f"right {number}"
    reply[40] ^= 1
    assert judge_one(judge, load, bytes(reply)) == "wrong 40"
    reply[40:42] = b"\0\0"
    reply[25] ^= 1
    assert judge_one(judge, load, bytes(reply)) == "wrong 25"


def test_a_payload_is_compared_if_its_turn_has_come(judge: Judge) -> None:
    load = Load(flows=10, size=200)
    for number, said in ((14, "wrong 190"), (15, "right 15")):
        reply = bytearray(Frames(load).reply(number, TIME_NS, MAC))
        reply[190] ^= 1
        assert judge_one(judge, load, bytes(reply)) == said


def test_lengths_strangers_and_what_was_never_sent(judge: Judge) -> None:
    load = Load(flows=10, size=200)
    frames = Frames(load)
    short = frames.reply(1, TIME_NS, MAC)[:-3]
    icmp = bytearray(frames.reply(1, TIME_NS, MAC))
    icmp[23] = 1
    assert judge_one(judge, load, short) == "wrong -1"
    assert judge_one(judge, load, bytes(icmp)) == "other"
    assert judge_one(judge, load, frames.reply(20, TIME_NS, MAC)) == "wrong -2"


def random_replies(load: Load) -> Iterator[bytes]:
    frames, chance = Frames(load), random.Random(5)
    for _ in range(300):
        reply = bytearray(frames.reply(chance.randrange(22), TIME_NS, MAC))
        for _ in range(chance.choice((0, 0, 1, 3))):
            reply[chance.randrange(14, len(reply))] = chance.randrange(256)
        if chance.random() < 0.1:
            reply = reply[: chance.randrange(1, len(reply))]
        yield bytes(reply)


@pytest.mark.parametrize("load", [LOADS[0], LOADS[2], LOADS[6]], ids=str)
def test_both_checkers_say_the_same(load: Load, probe: Path) -> None:
    replies = list(random_replies(load))
    words = [str(probe), "check", *ask_of(load), "7", "20"]
    text = "".join(reply.hex() + "\n" for reply in replies)
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    in_c = [line.split()[0] for line in done.stdout.splitlines()]
    assert in_c == [line.split()[0] for line in in_python(load, 7, 20, replies)]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (FirstWrong(7, 79, 1, 2), "byte 79 of the reply to packet 7 (flow cookie option) is 0x01"),
        (FirstWrong(7, 35, 1, 2), "(outer source port) is 0x01, not 0x02"),
        (FirstWrong(7, -1, 0, 0), "the reply to packet 7 has another length"),
        (FirstWrong(7, -2, 0, 0), "never sent"),
    ],
)
def test_the_first_mistake_is_named(wrong: FirstWrong, text: str) -> None:
    assert text in str(wrong)


def test_percentiles_of_the_helper_are_right_within_two_percent(probe: Path) -> None:
    times = [random.Random(seed).randrange(500, 5_000_000) for seed in range(5000)]
    words = [str(probe), "latency", *ask_of(LOADS[0])]
    text = "\n".join(map(str, times))
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    ordered = sorted(times)
    wanted = [ordered[2499] / 1e3, ordered[4949] / 1e3, ordered[-1] / 1e3]
    for found, right in zip(map(float, done.stdout.split()), wanted, strict=True):
        assert abs(found - right) <= 0.02 * right
