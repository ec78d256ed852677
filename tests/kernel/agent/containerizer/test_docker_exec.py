"""The program that stands for a process in a container; what it does beside an engine is in `tests/e2e/test_docker_exec.py`."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from kernel.agent.containerizer.docker_exec import Frames, command
from tests.cluster import eventually
from tests.e2e.processes import naming

FRAMES = b"\1\0\0\0\0\0\0\3out" + b"\2\0\0\0\0\0\0\3err" + b"\1\0\0\0\0\0\0\0" + b"\1\0\0\0\0\0\1\0" + b"x" * 256


def written(frames: Frames, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What comes to our stdout and stderr."""
    kept, pipes = [os.dup(fd) for fd in (1, 2)], [os.pipe(), os.pipe()]
    try:
        for fd, (_, writes) in zip((1, 2), pipes, strict=True):
            os.dup2(writes, fd)
        for piece in pieces:
            frames.write(piece)
    finally:
        for fd, old in zip((1, 2), kept, strict=True):
            os.dup2(old, fd)
            os.close(old)
    found = []
    for reads, writes in pipes:
        os.close(writes)
        with open(reads, "rb") as file:
            found.append(file.read())
    return found[0], found[1]


@pytest.mark.parametrize("at", range(len(FRAMES)))
def test_frames_go_to_their_streams_wherever_they_are_cut(at: int) -> None:
    assert written(Frames(terminal=False), [FRAMES[:at], FRAMES[at:]]) == (b"out" + b"x" * 256, b"err")


def test_what_a_terminal_shows_has_no_frames() -> None:
    assert written(Frames(terminal=True), [FRAMES]) == (FRAMES, b"")


def test_without_an_engine_nobody_knows_how_it_ended(tmp_path: Path) -> None:
    done = subprocess.run(command(f"{tmp_path}/docker.sock", "exec", "A=B"), capture_output=True, env={}, timeout=60)
    assert done.returncode == -9
    assert b"No such file or directory" in done.stderr
    eventually(lambda: not naming("docker_exec.py", str(tmp_path)), what="nobody waits for one")


def test_an_engine_that_refuses_is_quoted(tmp_path: Path) -> None:
    with socket.create_server(f"{tmp_path}/docker.sock", family=socket.AF_UNIX) as engine:
        process = subprocess.Popen(command(f"{tmp_path}/docker.sock", "exec", "A=B"), stderr=subprocess.PIPE, env={})
        for answer in (b'HTTP/1.1 409 Conflict\r\n\r\n{"message":"is paused"}', b"HTTP/1.0 404 Not Found\r\n\r\n"):
            connection, _ = engine.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
        _, told = process.communicate(timeout=60)
    assert process.returncode == -9
    assert b"is paused" in told
