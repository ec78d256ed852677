"""Network namespaces: made without a process of their own, and entered for as long as it takes to open a socket there.

A thread alone can be in another namespace than its process, and a socket stays where it was made, whoever uses it. So nothing has to
run in a network to connect to what is in it: `open_socket` takes some 10 us and comes back. All it has to know is the pid of a process
there, which every containerizer tells (`ContainerStarted.pid`: what the launcher started, or an engine's `State.Pid`).
Source: setns(2), network_namespaces(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MNT_DETACH = 0x1000, 2
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)


def of_process(pid: int) -> str:
    """The file of a process's network."""
    return f"/proc/{pid}/ns/net"


def is_ours(pid: int) -> bool:
    """Whether a process is in the network that we are in. Raises OSError: FileNotFoundError for no process, PermissionError for one into
    which we may not look."""
    return os.path.samestat(os.stat(of_process(pid)), os.stat(_OWN))


def open_socket(pid: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in the network of a process. Raises OSError."""
    fd = os.open(of_process(pid), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _back_again():
            _check(_libc.setns(fd, _CLONE_NEWNET))
            return socket.socket(family, kind, protocol)
    finally:
        os.close(fd)


def make(path: str) -> None:
    """Make a network with nothing but a loopback, which stays as long as this file, that is not there yet. Raises OSError."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        with _back_again():
            _check(_libc.unshare(_CLONE_NEWNET))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                flags = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", struct.unpack_from("h", flags, 16)[0] | _IFF_UP))
            _check(_libc.mount(_OWN.encode(), os.fsencode(path), None, _MS_BIND, None))
    except BaseException:
        os.unlink(path)
        raise


def remove(path: str) -> None:
    """Let go of what `make` made; what runs in it keeps it. One that is gone is fine."""
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


@contextmanager
def _back_again() -> Iterator[None]:
    """What is done here to the network of this thread is undone."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        if _libc.setns(own, _CLONE_NEWNET) != 0:
            log.critical("cannot come back to the network of this machine: %s", os.strerror(ctypes.get_errno()))
            os._exit(1)  # Nothing may be done in a container's network that is meant for ours.
        os.close(own)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
