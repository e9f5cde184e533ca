"""Records `office.pcap`: real programs talk across a router, where the appliance would stand.

Run it as root, with an output path: it makes three network namespaces (office, router, data
centre) joined by veth pairs, runs servers and clients in them, captures on the router and takes
everything down again. Nothing leaves the namespaces. Needs tcpdump, ethtool, nginx, dnsmasq, dig,
curl, sshd, ssh, nc, ping, traceroute and openssl.

    sudo python tests/support/record_office.py reference_appliances/firewall/examples/office.pcap
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

TOOLS = (
    *("ip", "ss", "sysctl", "tcpdump", "ethtool", "nginx", "dnsmasq", "dig", "curl", "sshd", "ssh"),
    *("ssh-keygen", "nc", "ping", "traceroute", "openssl"),
)
TAG = f"rec{os.getpid()}"
OFFICE, ROUTER, CENTRE = f"{TAG}-office", f"{TAG}-router", f"{TAG}-centre"
OFFICE_ADDRESSES = ("10.20.0.10/24", "10.20.0.66/24", "fd00:20::10/64")
CENTRE_ADDRESSES = (
    "10.30.0.10/24",
    "10.30.0.22/24",
    "10.30.0.53/24",
    "10.30.0.80/24",
    "10.30.0.99/24",
    "fd00:30::80/64",
    "fd00:30::99/64",
)
FAR_MTU = 1400  # below the office's 1500, so that routers must say "packet too big"
DOWNLOAD = 96_000  # bytes: some 70 segments, and the file stays small enough to ship

NGINX = """
daemon off; master_process off; pid {home}/nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  access_log off; server_tokens off; root {home}/www;
  client_body_temp_path {home}/t; proxy_temp_path {home}/t; fastcgi_temp_path {home}/t;
  uwsgi_temp_path {home}/t; scgi_temp_path {home}/t;
  ssl_certificate {home}/tls.crt; ssl_certificate_key {home}/tls.key;
  server {{ listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl; }}
}}
"""
SSHD = """
Port 22
ListenAddress 10.30.0.22
HostKey {home}/host_key
PidFile none
AuthorizedKeysFile {home}/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
"""
TIME_SERVER = """
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.30.0.10", 123))
while True:
    query, peer = s.recvfrom(512)
    now = struct.pack("!II", int(time.time()) + 2208988800, 0)
    answer = b"\\x24\\x02\\x06\\xe8" + bytes(12) + now + query[40:48] + now + now
    s.sendto(answer, peer)
"""
TIME_CLIENT = """
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
for _ in range(3):
    now = struct.pack("!II", int(time.time()) + 2208988800, 0)
    s.sendto(b"\\x23" + bytes(39) + now, ("10.30.0.10", 123)); s.recv(512); time.sleep(0.2)
"""
BIG_DATAGRAMS = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 3)  # IP_MTU_DISCOVER = IP_PMTUDISC_PROBE: don't fragment
for size in (1000, 1450, 1200):
    try:
        s.sendto(b"q" * size, ("10.30.0.10", 4433))
    except OSError:
        pass
    time.sleep(0.2)
"""
EARLY_CONNECTION = """
import pathlib, socket, sys, time
s = socket.create_connection(("10.30.0.10", 25), source_address=("10.20.0.10", 0))
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
s.sendall(b"NOOP\\r\\n"); time.sleep(0.5)
"""


def run(*command: str, ok: tuple[int, ...] = (0,), where: str = "") -> str:
    """Run a program, in namespace `where` if given; an exit status not in `ok` ends the script."""
    full = ("ip", "netns", "exec", where, *command) if where else command
    done = subprocess.run(full, check=False, capture_output=True, text=True, timeout=60)
    if ok and done.returncode not in ok:
        sys.exit(f"{' '.join(full)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def serve(stack: ExitStack, where: str, *command: str) -> None:
    """Start a program in a namespace; it is stopped when the stack closes."""
    process = subprocess.Popen(
        ("ip", "netns", "exec", where, *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def build_network(stack: ExitStack) -> None:
    """Office - router - data centre, IPv4 and IPv6, without any offload that hides segments."""
    for name in (OFFICE, ROUTER, CENTRE):
        run("ip", "netns", "add", name)
        stack.callback(run, "ip", "netns", "del", name, ok=())
        run("ip", "link", "set", "lo", "up", where=name)
    for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
        run("sysctl", "-qw", setting, where=ROUTER)
    for end, near, far, mtu, addresses, gateways in (
        (OFFICE, "office", "wan0", 1500, OFFICE_ADDRESSES, ("10.20.0.1", "fd00:20::1")),
        (CENTRE, "centre", "wan1", FAR_MTU, CENTRE_ADDRESSES, ("10.30.0.1", "fd00:30::1")),
    ):
        run(
            *("ip", "link", "add", near, "netns", end, "mtu", str(mtu)),
            *("type", "veth", "peer", "name", far, "netns", ROUTER, "mtu", str(mtu)),
        )
        for where, device in ((end, near), (ROUTER, far)):
            run("sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0", where=where)
            for feature in ("tso", "gso", "gro", "tx"):
                run("ethtool", "-K", device, feature, "off", where=where)
            run("ip", "link", "set", device, "up", where=where)
        for address in addresses:
            run("ip", "address", "add", address, "dev", near, where=end)
        for gateway, bits in zip(gateways, ("24", "64"), strict=True):
            run("ip", "address", "add", f"{gateway}/{bits}", "dev", far, where=ROUTER)
            run("ip", "route", "add", "default", "via", gateway, where=end)


def start_servers(stack: ExitStack, home: Path) -> None:
    """nginx, dnsmasq, sshd, a time server, and a listener on each side."""
    www = home / "www"
    www.mkdir()
    (home / "t").mkdir()
    (www / "index.html").write_text("<h1>Office intranet</h1>\n")
    (www / "report.txt").write_text("quarterly figures, nothing to see\n" * (DOWNLOAD // 34))
    (www / "logo.txt").write_text("logo " * 2000)
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "3650", "-subj", "/CN=www.office.example"),
        *("-keyout", f"{home}/tls.key", "-out", f"{home}/tls.crt"),
    )
    for key in ("host_key", "user_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(home / key))
    (home / "nginx.conf").write_text(f"user root;{NGINX.format(home=home)}")
    (home / "sshd.conf").write_text(SSHD.format(home=home))
    Path("/run/sshd").mkdir(exist_ok=True)
    serve(stack, CENTRE, "nginx", "-c", str(home / "nginx.conf"), "-e", "stderr")
    serve(stack, CENTRE, shutil.which("sshd") or "sshd", "-D", "-e", "-f", f"{home}/sshd.conf")
    serve(
        *(stack, CENTRE, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv"),
        *("--no-hosts", "--bind-interfaces", "--listen-address=10.30.0.53", "--user=root"),
        *("--address=/www.office.example/10.30.0.80", "--pid-file="),
        *("--address=/www.office.example/fd00:30::80",),
    )
    serve(stack, CENTRE, sys.executable, "-c", TIME_SERVER)
    serve(stack, CENTRE, "nc", "-lk", "10.30.0.10", "25")
    serve(stack, OFFICE, "nc", "-lk", "10.20.0.10", "8080")
    for where, address, port in (
        (CENTRE, "10.30.0.80", 80),
        (CENTRE, "10.30.0.22", 22),
        (CENTRE, "10.30.0.53", 53),
        (CENTRE, "10.30.0.10", 25),
        (OFFICE, "10.20.0.10", 8080),
    ):
        wait_for(where, address, port)


def wait_for(where: str, address: str, port: int) -> None:
    """Wait until something listens there."""
    for _ in range(100):
        wanted = f"{address}:{port}"
        if wanted in (out := run("ss", "-Hltn", where=where)) or f"0.0.0.0:{port}" in out:
            return
        time.sleep(0.1)
    sys.exit(f"nothing listens on {address}:{port}")


def talk(home: Path) -> None:
    """What people in an office do, and what they should not."""
    anything = tuple(range(256))
    curl = ("curl", "-sS", "--max-time", "5", "-o", "/dev/null")
    ssh = (
        *("ssh", "-F", "/dev/null", "-i", f"{home}/user_key", "-o", "BatchMode=yes"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    )
    dig = ("dig", "@10.30.0.53", "+tries=1", "+time=2", "+short")
    run(*dig, "www.office.example", "A", where=OFFICE)
    run(*dig, "www.office.example", "AAAA", where=OFFICE)
    run(*dig, "+tcp", "www.office.example", "A", where=OFFICE)
    run(*curl, "http://10.30.0.80/", "http://10.30.0.80/logo.txt", where=OFFICE)
    run(*curl, "http://10.30.0.80/report.txt", where=OFFICE)
    run(*curl, "http://[fd00:30::80]/logo.txt", where=OFFICE)
    run(*curl, "-k", "--tls-max", "1.2", "https://10.30.0.80/", where=OFFICE)
    run(*curl, "-k", "https://[fd00:30::80]/", where=OFFICE)
    run(*ssh, "root@10.30.0.22", "true", where=OFFICE)
    run(*ssh, "-b", "10.20.0.66", "root@10.30.0.22", "true", where=OFFICE)
    run(sys.executable, "-c", TIME_CLIENT, where=OFFICE)
    run("ping", "-c", "3", "-i", "0.2", "10.30.0.80", where=OFFICE)
    run("ping", "-6", "-c", "2", "-i", "0.2", "fd00:30::80", where=OFFICE)
    run("ping", "-c", "1", "-s", "3000", "10.30.0.80", where=OFFICE)
    run("ping", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1450", "10.30.0.80",
        ok=anything, where=OFFICE)  # fmt: skip
    run("ping", "-6", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1420", "fd00:30::80",
        ok=anything, where=OFFICE)  # fmt: skip
    run(sys.executable, "-c", BIG_DATAGRAMS, where=OFFICE)  # 4433/udp is closed: port unreachable
    run("traceroute", "-n", "-q", "1", "-m", "3", "-w", "1", "10.30.0.80", where=OFFICE)
    run("traceroute", "-6", "-n", "-q", "1", "-m", "3", "-w", "1", "fd00:30::80", where=OFFICE)
    run("nc", "-w", "1", "10.30.0.10", "23", ok=anything, where=OFFICE)  # telnet: refused
    for mailer in ("10.20.0.10", "10.20.0.66"):
        run("sh", "-c", f"printf 'EHLO bulk\\r\\nQUIT\\r\\n' | nc -w 1 -s {mailer} 10.30.0.10 25",
            ok=anything, where=OFFICE)  # fmt: skip
    # From the other side: what an outsider tries.
    run("sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 -s 10.30.0.99 10.20.0.10 8080",
        ok=anything, where=CENTRE)  # fmt: skip
    run("nc", "-w", "1", "-z", "-s", "10.30.0.99", "10.20.0.10", "22", ok=anything, where=CENTRE)
    run("nc", "-w", "1", "-z", "-s", "fd00:30::99", "fd00:20::10", "445", ok=anything, where=CENTRE)
    run("ping", "-c", "2", "-i", "0.2", "-I", "10.30.0.99", "10.20.0.10", where=CENTRE)
    # A datagram from port 53 that answers no question: the classic way round stateless filters.
    run("sh", "-c", "printf spoofed | nc -u -w 1 -s 10.30.0.99 -p 53 10.20.0.10 5353",
        ok=anything, where=CENTRE)  # fmt: skip


def main(output: Path) -> None:
    """Record into `output`."""
    if os.geteuid() != 0:
        sys.exit("making network namespaces needs root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        sys.exit(f"missing: {', '.join(missing)}")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="record-office-")))
        build_network(stack)
        start_servers(stack, home)
        raw, go = home / "office.pcap", home / "go"
        # Opened before the capture begins, used after: a midstream flow for whoever replays it.
        serve(stack, OFFICE, sys.executable, "-c", EARLY_CONNECTION, str(go))
        time.sleep(1)
        with ExitStack() as capture:
            serve(
                *(capture, ROUTER, "tcpdump", "-i", "wan0", "-w", str(raw), "-U", "-Z", "root"),
                *("-s", "0", "(ip or ip6) and not multicast and not net fe80::/10"),
                # A load balancer's endpoint is no neighbour: it hands over no neighbour discovery.
                "and not (ip6[6] = 58 and ip6[40] >= 133 and ip6[40] <= 137)",
            )
            while not raw.exists():
                time.sleep(0.1)
            time.sleep(0.5)
            talk(home)
            go.touch()
            time.sleep(1)
        shutil.copyfile(raw, output)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} OUTPUT.pcap")
    main(Path(sys.argv[1]))
