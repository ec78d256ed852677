"""A master as a process: how it starts, stops, fails, and what it remembers."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kernel.net.client import Client, Refused, Unreachable

pytestmark = pytest.mark.e2e

LIMIT_S = 30


class Process:
    """A master in a process of its own; client: to call it with."""

    def __init__(self, work_dir: Path, arguments: Sequence[str] = (), file_bytes_max: int | None = None) -> None:
        def limit() -> None:
            if file_bytes_max is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

        command = [sys.executable, "-m", "kernel.cli", "serve", "master", "--port", "0", "--work-dir", str(work_dir), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=limit)
        self.log = ""

    def lead(self) -> Client:
        """Wait until it leads."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if "leading with" in line:
                break
        found = re.search(r"listens on \S+ port (\d+)", self.log)
        assert found is not None, self.log
        return Client([f"http://127.0.0.1:{found[1]}"])

    def end(self) -> int:
        """Wait until it has ended; return its exit status, read what it still said."""
        _, rest = self.process.communicate(timeout=LIMIT_S)
        self.log += rest
        return self.process.returncode


@contextmanager
def master(work_dir: Path, arguments: Sequence[str] = (), file_bytes_max: int | None = None) -> Iterator[Process]:
    started = Process(work_dir, arguments, file_bytes_max)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate()


def subscribe(client: Client, **info: Any) -> str:
    """Subscribe a framework and leave; return its id."""
    body = {"framework_info": {"user": "u", "name": "n", "failover_timeout": 600.0, **info}}
    if "id" in info:
        call = {"type": "SUBSCRIBE", "framework_id": info["id"], "subscribe": body}
    else:
        call = {"type": "SUBSCRIBE", "subscribe": body}
    event = next(client.records(call, "/api/v1/scheduler", silence_s=LIMIT_S))
    assert event["type"] == "SUBSCRIBED", event
    framework_id: str = event["subscribed"]["framework_id"]["value"]
    return framework_id


def known(client: Client) -> dict[str, str]:
    """The frameworks the master knows, by id, with their names."""
    frameworks = client.call({"type": "GET_FRAMEWORKS"})["get_frameworks"]["frameworks"]
    return {framework["framework_info"]["id"]["value"]: framework["framework_info"]["name"] for framework in frameworks}


def test_it_ends_well_when_told_to(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        running.lead()
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert "Traceback" not in running.log


def test_a_scheduler_that_is_there_when_it_stops_is_not_forgotten(tmp_path: Path) -> None:
    """Its stream ends because the master stops, which is not the framework's leaving."""
    with master(tmp_path) as running:
        records = running.lead().records(
            {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "u", "name": "n"}}}, "/api/v1/scheduler", silence_s=LIMIT_S
        )
        framework_id = next(records)["subscribed"]["framework_id"]["value"]
        running.process.send_signal(signal.SIGTERM)
        assert [event["type"] for event in records] == ["HEARTBEAT"]
        assert running.end() == 0
    with master(tmp_path) as again:
        assert known(again.lead()) == {framework_id: "n"}


def test_frameworks_survive_its_sudden_death(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        client = running.lead()
        first, second = subscribe(client, name="one"), subscribe(client, name="two")
        client.call({"type": "TEARDOWN", "teardown": {"framework_id": {"value": second}}})
        running.process.kill()
        running.end()
    with master(tmp_path) as again:
        client = again.lead()
        assert known(client) == {first: "one"}
        assert subscribe(client, name="renamed", id={"value": first}) == first
        assert known(client) == {first: "renamed"}
        call = {"type": "SUBSCRIBE", "framework_id": {"value": second}}
        info = {"framework_info": {"user": "u", "name": "two", "id": {"value": second}}}
        (event,) = client.records({**call, "subscribe": info}, "/api/v1/scheduler", silence_s=LIMIT_S)
        assert event["error"]["message"] == "Framework has been removed"


def test_two_masters_do_not_share_a_work_dir(tmp_path: Path) -> None:
    with master(tmp_path) as running:
        client = running.lead()
        with master(tmp_path) as second:
            assert second.end() == 1
            assert second.log.splitlines()[-1] == f"Error: {tmp_path}/registry.db is in use by another process"
        assert known(client) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ip", "0.0.0.0"], "Error: --ip: 0.0.0.0 can be reached by others: give --credentials, or --insecure to let everyone in"),
        (["--agent_ping_timeout", "soon"], "Error: --agent-ping-timeout: 'soon' is not a duration like 15secs, 1.5mins or 2hrs"),
        (["--credentials", "/no/such/file"], "Error: credentials: cannot read /no/such/file: No such file or directory"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    with master(tmp_path, arguments) as refused:
        assert refused.end() == 2
        assert refused.log.splitlines()[-1] == message
        assert "Traceback" not in refused.log


def test_a_full_disk_stops_it_before_anything_unwritten_is_told(tmp_path: Path) -> None:
    """The limit on file sizes plays the full disk. Whatever was answered is there after a restart, nothing else is."""
    told: dict[str, str] = {}

    def fill(client: Client) -> None:
        for number in range(1000):
            told[subscribe(client, name=f"{number}" + "x" * 10_000)] = f"{number}"

    with master(tmp_path, file_bytes_max=300_000) as running:
        client = running.lead()
        with pytest.raises((Unreachable, Refused)):
            fill(client)
        assert running.end() == 1
        assert f"Error: cannot keep state in {tmp_path}/registry.db: " in running.log
        assert "Traceback" not in running.log
    assert told
    with master(tmp_path) as again:
        assert {framework_id: name.rstrip("x") for framework_id, name in known(again.lead()).items()} == told
