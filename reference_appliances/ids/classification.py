"""Classes of rules: what `classtype` means, built in or from a classification.config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from appliance_sdk import ConfigError


class Class(NamedTuple):
    """What a class is called, and how bad it is unless a rule says otherwise: 1 is worst."""

    description: str
    priority: int


Classes: TypeAlias = Mapping[str, Class]

UNCLASSIFIED = Class("", 3)
_LINE = re.compile(r"config\s+classification:\s*([^,\s]+)\s*,\s*([^,]*?)\s*,\s*(\d{1,3})\s*\Z")


def read_classes(path: str | Path) -> Classes:
    """Read a classification.config. Raises ConfigError naming file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line.strip())
        if not match:
            hint = "config classification: name,description,priority"
            raise ConfigError("is no class", path=f"{path}:{number}", hint=hint)
        found[match[1]] = Class(match[2], int(match[3]))
    return found


_BUILT_IN: Mapping[int, str] = {
    1: """
        attempted-user unsuccessful-user successful-user attempted-admin
        successful-admin shellcode-detect trojan-activity web-application-attack
        policy-violation targeted-activity exploit-kit domain-c2 credential-theft
        command-and-control
    """,
    2: """
        bad-unknown attempted-recon successful-recon-limited successful-recon-largescale
        attempted-dos successful-dos rpc-portmap-decode suspicious-filename-detect
        suspicious-login system-call-detect unusual-client-port-connection
        denial-of-service non-standard-protocol web-application-activity misc-attack
        default-login-attempt external-ip-check pup-activity social-engineering
        coin-mining
    """,
    3: """
        not-suspicious unknown string-detect network-scan protocol-command-decode
        misc-activity icmp-event
    """,
    4: """
        tcp-connection
    """,
}
BUILT_IN: Classes = {
    name: Class(name.replace("-", " ").capitalize(), priority)
    for priority, names in _BUILT_IN.items()
    for name in names.split()
}
"""The names that public rule sets use, with their usual priorities. What such a set calls them
stands in the classification.config that comes with it."""
