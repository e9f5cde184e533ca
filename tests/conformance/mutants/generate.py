"""Writes docs/conformance-mutants.md from a run: `python tests/conformance/mutants/generate.py`."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import starmap
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "conformance-mutants.md"
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

from appliance_sdk.conformance.case import MUST, all_cases  # noqa: E402
from mutants.ask import ask, caught_by  # noqa: E402
from mutants.known import KNOWN  # noqa: E402
from mutants.mutant import BRACKET, MUTANTS, UNCAUGHT, Mutant  # noqa: E402
from mutants.processes import HEALTH, OPERATIONS, SUMS, Process  # noqa: E402

TREE = "../tests/conformance/mutants"
ABOUT = {
    "wrong_altogether": (
        "No packet comes back as it must",
        "The suite sends a plain packet before it asks anything. These do not return it as they "
        "must; the report says why, and nothing else is asked.",
    ),
    "wrong_headers": ("GENEVE and its options", "What is read of the encapsulation, and believed."),
    "wrong_replies": (
        "Replies",
        "Read well and answered wrong: another header, port or node, twice, or too late.",
    ),
    "wrong_packets": ("The packet inside", "Misread, or not given back as it came."),
    "wrong_sizes": ("Sizes and fragments", ""),
    "wrong_flows": ("Flows", "Too strict about TCP, or with too small or too good a memory."),
    "wrong_rules": (
        "Firewalls: packets and rules",
        "Made from [a right firewall]({tree}/right_firewall.py) that has the suite's policy.",
    ),
    "wrong_states": ("Firewalls: flows", "What passes because of what passed before."),
    "wrong_refusals": ("Firewalls: saying no", "Resets and ICMP errors."),
    "wrong_alerts": (
        "Intrusion detection: what is looked at, and reported",
        "Made from [a right IDS]({tree}/right_ids.py) that has the suite's signatures.",
    ),
    "wrong_streams": (
        "Intrusion detection: streams, and what is stopped",
        "Content that comes in pieces, and flows that must not go on.",
    ),
}
PROCESSES = (
    (
        "Health checks",
        "Processes, asked over UDP and TCP by `tests/conformance/test_wrong_processes.py`: the "
        "cases that are listed, and some that each must pass.",
        HEALTH,
    ),
    ("Operations", "Processes likewise.", OPERATIONS),
    ("Checksums", "A process with raw sockets, asked where the tests run as root.", SUMS),
)
"""Title, text and mutants; this script does not ask them."""


def page() -> str:
    """The page, if every mutant fails what is listed for it."""
    processes = [*HEALTH.values(), *OPERATIONS.values(), *SUMS.values()]
    origins = [one.origin for one in MUTANTS.values()] + [one.origin for one in processes]
    head = (HERE / "page.template.md").read_text(encoding="utf-8")
    parts = [head.format(count=len(origins), known=sum(map(bool, origins)), tree=TREE)]
    for module, (title, text) in ABOUT.items():
        parts += [f"## {title}\n", f"{text.format(tree=TREE)}\n"] if text else [f"## {title}\n"]
        parts.append(_table(map(_row, _of(module))))
    for title, text, wrong in PROCESSES:
        parts += [f"## {title}\n", f"{text}\n", _table(starmap(_process_row, wrong.items()))]
    parts += ["## Known faults\n", _known(), "## The other way round\n", _cases()]
    return "\n".join(parts)


def _of(module: str) -> Iterator[Mutant]:
    return (one for one in MUTANTS.values() if one.make.__module__ == f"mutants.{module}")


def _table(rows: Iterable[str]) -> str:
    head = "| mutant | what is wrong | known from | caught by |\n|---|---|---|---|\n"
    return head + "".join(rows)


def _row(mutant: Mutant) -> str:
    return _process_row(mutant.name, Process(mutant.wrong, mutant.catches, mutant.origin))


def _process_row(name: str, one: Process) -> str:
    caught = ", ".join("the plain packet" if id == BRACKET else f"`{id}`" for id in one.catches)
    return f"| {name} | {one.wrong} | {one.origin} | {caught} |\n"


def _known() -> str:
    rows = "".join(
        f"| {one.implementation} | {one.fault} | {', '.join(one.mutants) or one.unseen} |\n"
        for one in KNOWN
    )
    text = "What real implementations do, or did, and the mutant that does it here.\n\n"
    return f"{text}| implementation | fault | mutant |\n|---|---|---|\n{rows}"


def _cases() -> str:
    catches = defaultdict(list)
    named = {name: one.catches for name, one in MUTANTS.items()}
    named |= {name: one.catches for name, one in (HEALTH | OPERATIONS | SUMS).items()}
    for name, ids in named.items():
        for id in ids:
            catches[id].append(name)
    musts = [case for case in all_cases().values() if case.level is MUST]
    text = f"Each of the {len(musts)} cases that are a MUST, and the mutants that it catches.\n\n"
    rows = "".join(
        f"| `{case.id}` | {', '.join(catches[case.id]) or UNCAUGHT.get(case.id, '')} |\n"
        for case in musts
    )
    return f"{text}| case | catches |\n|---|---|\n{rows}"


def main() -> None:
    """Ask every mutant everything, and write the page if all of it is as listed."""
    for number, mutant in enumerate(MUTANTS.values(), 1):
        caught = caught_by(ask(mutant.make))
        if caught != set(mutant.catches):
            differing = ", ".join(sorted(caught ^ set(mutant.catches)))
            sys.exit(f"{mutant.name}: not as listed: {differing}")
        print(f"{number}/{len(MUTANTS)} {mutant.name}", flush=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(MUTANTS)} mutants, each failed what is listed for it")


if __name__ == "__main__":
    main()
