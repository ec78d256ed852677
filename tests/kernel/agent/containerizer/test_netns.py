"""Network namespaces of the real kernel: made, entered and left without a process."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.agent.containerizer import netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network namespaces")


@contextmanager
def network(path: Path) -> Iterator[int]:
    """A network with a process in it; its pid."""
    netns.make(str(path))
    process = subprocess.Popen(["nsenter", f"--net={path}", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()
        netns.remove(str(path))


def test_sockets_are_made_where_a_process_is_and_we_stay(tmp_path: Path) -> None:
    before = os.stat("/proc/thread-self/ns/net"), len(os.listdir("/proc/self/fd"))
    with network(tmp_path / "net") as pid, socket.create_server(("127.0.0.1", 0)) as ours:
        assert not netns.is_ours(pid)
        assert netns.is_ours(os.getpid())
        with netns.open_socket(pid, socket.AF_INET, socket.SOCK_STREAM) as server, socket.socket() as outside:
            server.bind(("127.0.0.1", 0))
            server.listen()
            assert outside.connect_ex(server.getsockname()) == errno.ECONNREFUSED
            with netns.open_socket(pid, socket.AF_INET, socket.SOCK_STREAM) as inside:
                inside.connect(server.getsockname())
            with netns.open_socket(pid, socket.AF_INET, socket.SOCK_STREAM) as inside:
                assert inside.connect_ex(ours.getsockname()) == errno.ECONNREFUSED
    assert (os.stat("/proc/thread-self/ns/net"), len(os.listdir("/proc/self/fd"))) == before


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with network(tmp_path / "net"), pytest.raises(FileExistsError):
        netns.make(str(tmp_path / "net"))
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    netns.remove(str(tmp_path / "net"))


def test_who_is_gone_is_in_no_network() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(FileNotFoundError):
        netns.is_ours(process.pid)
    with pytest.raises(FileNotFoundError):
        netns.open_socket(process.pid, socket.AF_INET, socket.SOCK_STREAM)
