"""What a flow carries, told from the first bytes of either end, else from the server's port.

Pure functions and two small tables. Bytes come from the wire: whatever they are, the answer is a
name of these tables, or none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from reference_appliances.analytics.host import http_host, tls_server_name

MOST_BYTES = 4096
"""Of each direction: a TLS hello with post-quantum key shares has some 1,800."""
UNKNOWN = "unknown"

_ENOUGH = 24
"""No opening below is longer: with so many bytes, what does not match now never will."""
_TO_SERVER = {
    "http": rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT|TRACE) [!-~]",
    "http2": rb"PRI \* HTTP/2\.0\r\n",
    "tls": rb"\x16\x03[\x00-\x04]..\x01",  # RFC 8446, 5.1 and 4: a record with a ClientHello
    "ssh": rb"SSH-\d\.",  # RFC 4253, 4.2
    "smb": rb"\x00...[\xfe\xff]SMB",  # MS-SMB2, 2.1
    "rdp": rb"\x03\x00..[\x06-\xff]\xe0",  # MS-RDPBCGR, 2.2.1.1: TPKT, connection request
    "bittorrent": rb"\x13BitTorrent protocol",  # BEP 3
}
_TO_CLIENT = {
    "ssh": rb"SSH-\d\.",
    "http": rb"HTTP/1\.\d ",
    "imap": rb"\* OK[ \[]",  # RFC 9051, 7.1
    "pop3": rb"\+OK[ \r]",  # RFC 1939, 4
}
_OPENINGS = {
    to_server: [(name, re.compile(opening, re.S)) for name, opening in table.items()]
    for to_server, table in ((True, _TO_SERVER), (False, _TO_CLIENT))
}
_HOSTS = {"http": http_host, "tls": tls_server_name}
_PORTS = {
    "tcp": {
        "ftp": (21,),
        "ssh": (22,),
        "telnet": (23,),
        "smtp": (25, 465, 587),
        "dns": (53,),
        "http": (80, 8080),
        "pop3": (110, 995),
        "imap": (143, 993),
        "bgp": (179,),
        "ldap": (389, 636),
        "tls": (443, 8443),
        "smb": (445,),
        "mysql": (3306,),
        "rdp": (3389,),
        "postgresql": (5432,),
        "amqp": (5671, 5672),
        "redis": (6379,),
        "kafka": (9092,),
    },
    "udp": {
        "dns": (53,),
        "dhcp": (67, 547),
        "ntp": (123,),
        "snmp": (161, 162),
        "quic": (443,),
        "ipsec": (500, 4500),
        "syslog": (514,),
        "sip": (5060,),
        "mdns": (5353,),
        "geneve": (6081,),
        "vxlan": (4789,),
    },
}
_BY_PORT = {
    (protocol, port): name
    for protocol, names in _PORTS.items()
    for name, ports in names.items()
    for port in ports
}


class Application(NamedTuple):
    """What the bytes say."""

    name: str
    """A name of the tables; "" if no opening matches."""
    host: str = ""
    """HTTP Host or TLS server name, in lower case; "" if there is none to be had."""


def identify(head: bytes, *, to_server: bool, final: bool = False) -> Application | None:
    """The application by the first bytes of one direction; None: more bytes could tell more.

    `final`: there will be no more. `to_server`: they are the client's.
    """
    final = final or len(head) >= MOST_BYTES
    for name, opening in _OPENINGS[to_server]:
        if opening.match(head):
            host = _HOSTS[name](head) if to_server and name in _HOSTS else ""
            if host is None:
                return Application(name) if final else None
            return Application(name, host)
    return Application("") if final or len(head) >= _ENOUGH else None


def by_port(protocol: str, server_port: int) -> str:
    """The name of a server's port; of a protocol without ports its own name; else "unknown"."""
    if protocol not in _PORTS:
        return protocol if protocol.startswith("icmp") else UNKNOWN
    return _BY_PORT.get((protocol, server_port), UNKNOWN)
