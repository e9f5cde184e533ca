"""Network namespaces without a name: gone when nobody is in them, whatever happened before."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.guard import GUARD

_OWN = "/proc/thread-self/ns/net"
_NEWNET = 0x40000000  # CLONE_NEWNET, linux/sched.h
_ETHTOOL, _SET_TX_CHECKSUMS = 0x8946, 0x17  # SIOCETHTOOL and ETHTOOL_STXCSUM, linux/ethtool.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace of this process's own, with nothing in it but `lo`, which is up.

    It lives as long as this object is open or a process runs in it: the kernel takes it, and what
    stands in it, away with the last of them. Raises HarnessError if it may not be made.
    """

    def __init__(self) -> None:
        GUARD.ready()  # what waits for this process's end must not keep a namespace alive
        before = os.open(_OWN, os.O_RDONLY)
        try:
            _call("unshare", _NEWNET)
            try:
                self._descriptor = os.open(_OWN, os.O_RDONLY)
            finally:
                _call("setns", before, _NEWNET)
        finally:
            os.close(before)
        try:
            self.ip("link set lo up")
        except HarnessError:
            os.close(self._descriptor)
            raise

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in it, with the sockets, threads and processes that it makes."""
        before = os.open(_OWN, os.O_RDONLY)
        try:
            _call("setns", self._descriptor, _NEWNET)
            try:
                yield
            finally:
                _call("setns", before, _NEWNET)
        finally:
            os.close(before)

    def ip(self, *commands: str) -> None:
        """Run commands of ip(8) in it: "link set eth0 up". Raises HarnessError."""
        with self.entered():
            _ip(commands)

    def join(self, device: str, other: Namespace, other_device: str, *, mtu_bytes: int) -> None:
        """A cable to another namespace, a device at each end. Raises HarnessError."""
        far = other._descriptor
        near_end = f"link add {device} mtu {mtu_bytes} type veth"
        far_end = f"peer name {other_device} mtu {mtu_bytes} netns /proc/self/fd/{far}"
        with self.entered():
            _ip([f"{near_end} {far_end}"], far)

    def complete_checksums(self, device: str) -> None:
        """Have packets leave a device with their checksums, as from a network card.

        A virtual cable leaves them to the other end's kernel, which does not ask for them; a
        program that reads the device itself would find wrong ones.
        """
        with self.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            off = ctypes.create_string_buffer(struct.pack("=II", _SET_TX_CHECKSUMS, 0))
            request = struct.pack("16sP16x", device.encode(), ctypes.addressof(off))
            try:
                fcntl.ioctl(sock, _ETHTOOL, request)
            except OSError as error:
                raise HarnessError(f"{device}: no checksums: {error.strerror}") from None

    def close(self) -> None:
        """End the processes that are left in it, and let go of it."""
        own = os.fstat(self._descriptor)
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if not entry.name.isdigit() or int(entry.name) == os.getpid():
                    continue
                found = os.stat(f"/proc/{entry.name}/ns/net")
                if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                    os.kill(int(entry.name), signal.SIGKILL)
        os.close(self._descriptor)


def _call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EPERM:
        raise HarnessError(
            "a network namespace needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN): try "
            "`unshare --map-root-user --net` in front of the command"
        )
    raise HarnessError(f"no network namespace: {name}: {os.strerror(number)}")


def _ip(commands: tuple[str, ...] | list[str], *descriptors: int) -> None:
    try:
        done = subprocess.run(
            ["ip", "-batch", "-"],
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            pass_fds=descriptors,
            check=False,
        )
    except OSError as error:
        hint = "install iproute2" if error.errno == errno.ENOENT else error.strerror
        raise HarnessError(f"a network namespace is made with the program `ip`: {hint}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise HarnessError(f"no network namespace: ip: {said[0]}")
