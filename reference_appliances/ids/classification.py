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


_BUILT_IN: Mapping[int, Mapping[str, str]] = {
    1: {
        "attempted-user": "Attempted User Privilege Gain",
        "unsuccessful-user": "Unsuccessful User Privilege Gain",
        "successful-user": "Successful User Privilege Gain",
        "attempted-admin": "Attempted Administrator Privilege Gain",
        "successful-admin": "Successful Administrator Privilege Gain",
        "shellcode-detect": "Executable code was detected",
        "trojan-activity": "A Network Trojan was detected",
        "web-application-attack": "Web Application Attack",
        "policy-violation": "Potential Corporate Privacy Violation",
        "targeted-activity": "Targeted Malicious Activity was Detected",
        "exploit-kit": "Exploit Kit Activity Detected",
        "domain-c2": "Domain Observed Used for C2 Detected",
        "credential-theft": "Successful Credential Theft Detected",
        "command-and-control": "Malware Command and Control Activity Detected",
    },
    2: {
        "bad-unknown": "Potentially Bad Traffic",
        "attempted-recon": "Attempted Information Leak",
        "successful-recon-limited": "Information Leak",
        "successful-recon-largescale": "Large Scale Information Leak",
        "attempted-dos": "Attempted Denial of Service",
        "successful-dos": "Denial of Service",
        "rpc-portmap-decode": "Decode of an RPC Query",
        "suspicious-filename-detect": "A suspicious filename was detected",
        "suspicious-login": "An attempted login using a suspicious username was detected",
        "system-call-detect": "A system call was detected",
        "unusual-client-port-connection": "A client was using an unusual port",
        "denial-of-service": "Detection of a Denial of Service Attack",
        "non-standard-protocol": "Detection of a non-standard protocol or event",
        "web-application-activity": "access to a potentially vulnerable web application",
        "misc-attack": "Misc Attack",
        "default-login-attempt": "Attempt to login by a default username and password",
        "external-ip-check": "Device Retrieving External IP Address Detected",
        "pup-activity": "Possibly Unwanted Program Detected",
        "social-engineering": "Possible Social Engineering Attempted",
        "coin-mining": "Crypto Currency Mining Activity Detected",
    },
    3: {
        "not-suspicious": "Not Suspicious Traffic",
        "unknown": "Unknown Traffic",
        "string-detect": "A suspicious string was detected",
        "network-scan": "Detection of a Network Scan",
        "protocol-command-decode": "Generic Protocol Command Decode",
        "misc-activity": "Misc activity",
        "icmp-event": "Generic ICMP event",
    },
    4: {
        "tcp-connection": "A TCP connection was detected",
    },
}
BUILT_IN: Classes = {
    name: Class(description, priority)
    for priority, classes in _BUILT_IN.items()
    for name, description in classes.items()
}
"""The names that public rule sets use."""
