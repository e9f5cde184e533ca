"""Wrong appliances that are processes: what is wrong with their health, their end, their sums.

`wrong_process.py` has the faults of health and operations, `raw_server.py` that of the checksum.
"""

from __future__ import annotations

from typing import NamedTuple


class Process(NamedTuple):
    """One process that is wrong."""

    wrong: str
    """In which way, in one sentence."""
    catches: tuple[str, ...]
    """The ids of the cases that must fail."""
    origin: str = ""
    """The implementation that does or did this, "" if it was made up."""


HEALTH = {
    "another-port": Process("Answers checks on another port than it was told.", ("health/tcp",)),
    "never-well": Process("Answers every check with 503.", ("health/http",)),
    "lf-lines": Process("Ends the lines of its answer with LF alone.", ("health/well-formed",)),
    "long-length": Process(
        "Announces one byte more than it sends.",
        ("health/well-formed", "health/closed", "health/kept-open"),
    ),
    "never-closes": Process("Leaves the connection open for seconds.", ("health/closed",)),
    "no-length": Process(
        "Gives no length to whoever did not ask to close, and does not close.",
        ("health/kept-open",),
    ),
    "ends-with-a-reset": Process(
        "Dies when a connection is reset.",
        ("health/reset", "health/nonsense", "health/other-requests"),
    ),
    "asks-who-it-is": Process(
        "Answers 403 to whoever does not call itself ELB-HealthChecker.",
        ("health/any-headers", "health/http-1-0"),
    ),
    "wants-one-segment": Process(
        "Takes the first segment for the whole request.", ("health/in-pieces",)
    ),
    "answers-unasked": Process(
        "Answers without reading the request, so that its close is a RST.",
        ("health/closed-in-order",),
    ),
    "head-with-a-body": Process("Answers HEAD with a body.", ("health/head",)),
    "every-150th-fails": Process("Answers one check of 150 with 500.", ("health/steady",)),
    "few-at-once": Process(
        "Answers sixteen connections at a time, and hangs up on others.",
        ("health/at-once", "health/at-once-in-2-s", "health/silent-connections"),
    ),
    "counts-silence-as-failure": Process(
        "Takes connections that say nothing for an attack.", ("health/opened-and-closed",)
    ),
    "one-at-a-time": Process(
        "Serves one connection after the other: a silent one starves the rest.",
        ("health/one-silent-connection", "health/unfinished-requests"),
    ),
    "waits-for-the-close": Process(
        "Serves the next connection when the last one was closed by the other end.",
        ("health/slow-readers",),
    ),
    "spins-at-the-end": Process(
        "Reads on when the other end is gone, for ever.", ("health/half-a-request",)
    ),
    "dies-of-nonsense": Process("Dies of a request that is none.", ("health/nonsense",)),
    "knows-get-and-head": Process(
        "Dies of a method that it does not know.", ("health/other-requests", "health/nonsense")
    ),
    "dies-of-long-requests": Process("Dies of a long request.", ("health/huge-request",)),
    "always-well": Process(
        "Says that it is well while its data path is dead.",
        ("health/data-path-hangs", "health/data-path-dies"),
        "fck-nat",
    ),
}

OPERATIONS = {
    "ignores-sigterm": Process(
        "Ignores SIGTERM.", ("operations/terminate", "operations/drain-fails-checks")
    ),
    "dies-of-sigterm": Process(
        "Ends at SIGTERM at once, with status 1.",
        (
            "operations/terminate",
            "operations/drain-serves-flows",
            "operations/drain-takes-flows",
        ),
    ),
    "well-to-the-end": Process(
        "Says that it is well while it drains.", ("operations/drain-fails-checks",)
    ),
    "ends-at-once": Process(
        "Ends at SIGTERM without serving the flows that it has.",
        ("operations/drain-serves-flows", "operations/drain-takes-flows"),
    ),
    "no-new-flows-at-the-end": Process(
        "Takes no new flow after SIGTERM.", ("operations/drain-takes-flows",)
    ),
    "forgets-what-waits": Process(
        "Loses the packets that wait in its socket at SIGTERM.",
        ("operations/drain-loses-nothing",),
    ),
    "lock-stays": Process(
        "Leaves a lock file behind when it crashes, and does not start beside one.",
        ("operations/crash", "operations/starts-again", "operations/flows-after-crash"),
    ),
    "keeps-the-port-busy": Process(
        "Opens its health port without SO_REUSEADDR.", ("operations/crash",)
    ),
    "wants-the-syn": Process(
        "Drops flows that it forgot in a crash.", ("operations/flows-after-crash",)
    ),
    "two-share-the-port": Process(
        "Lets a second one share its ports.", ("operations/second-instance",)
    ),
    "prints-every-packet": Process(
        "Waits for whoever reads what it prints.",
        ("operations/unread-output", "operations/closed-output"),
    ),
    "ends-on-hang-up": Process("Ends at SIGHUP.", ("operations/hang-up",)),
    "a-file-for-each-flow": Process(
        "Opens a file for each flow, and closes none.", ("operations/descriptors",)
    ),
    "keeps-what-hung-up": Process(
        "Keeps the descriptors of connections that said nothing.",
        ("operations/descriptors-of-checks",),
    ),
    "keeps-every-packet": Process("Keeps every packet in memory.", ("operations/memory",)),
    "reports-text": Process("Reports in plain text.", ("operations/events",)),
    "reports-no-time": Process("Reports without saying when.", ("operations/events",)),
}

SUMS = {
    "garbage-checksum": Process(
        "Never sets the UDP checksum of a reply: where there was one, there is garbage.",
        ("reply/outer-checksum",),
        "gwlbtun",
    )
}
"""They need a raw socket, and so root."""
