"""`meseta up` and `down` over daemons that only answer: restarts, adoption, and what is said when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kernel import supervisor
from kernel.daemons import share
from tests.cluster import MESETA, Cluster, eventually

Make = Callable[..., Cluster]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes clusters, not yet started, whose master and agents are `fake_daemon.py`."""
    (tmp_path / "fake-1.dist-info").mkdir()
    (tmp_path / "fake-1.dist-info/entry_points.txt").write_text(
        "[meseta.daemons]\nmaster = fake_daemon:MASTER\nagent = fake_daemon:AGENT\n"
    )
    shutil.copy(Path(__file__).with_name("fake_daemon.py"), tmp_path)
    made: list[Cluster] = []

    def make_one(agents: int = 2, only: str = "master,agent") -> Cluster:
        cluster = Cluster(tmp_path / f"home{len(made)}", agents, only)
        cluster.environ["PYTHONPATH"] = str(tmp_path)
        made.append(cluster)
        return cluster

    yield make_one
    for cluster in made:
        cluster.down()
        assert not left_running(cluster)


def left_running(cluster: Cluster) -> list[str]:
    """The command lines that name this cluster's work dir."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{cluster.work_dir}" in line and "meseta down" not in line:
            found.append(line)
    return found


def pids(state: dict[str, Any]) -> dict[str, int]:
    return {daemon["name"]: daemon["pid"] for daemon in state["daemons"]}


def told(cluster: Cluster, name: str) -> str:
    """The signal that ended a daemon, by its own record."""
    return (cluster.work_dir / name / "told").read_text()


def test_up_starts_all_and_says_where(make: Make) -> None:
    cluster = make()
    state = cluster.up()
    base = cluster.port_offset
    urls = {"master": base + 5050, "agent-1": base + 5051, "agent-2": base + 15052}
    assert {daemon["name"]: daemon["url"] for daemon in state["daemons"]} == {
        name: f"http://127.0.0.1:{port}" for name, port in urls.items()
    }
    assert json.loads((cluster.work_dir / "endpoints.json").read_text()) == cluster.urls
    assert (cluster.work_dir.parent / "state/meseta/last").read_text() == f"{cluster.work_dir}\n"
    for daemon in state["daemons"]:
        line = Path(f"/proc/{daemon['pid']}/cmdline").read_text().split("\0")
        assert line[1].endswith("meseta")
        assert line[2:4] == ["serve", daemon["name"].partition("-")[0]]
        assert line[-3:-1] == ["--work-dir", str(cluster.work_dir / daemon["name"])]
        assert "listening" in (cluster.work_dir / f"log/{daemon['name']}.log").read_text()


def test_a_second_up_shows_the_running_cluster(make: Make) -> None:
    cluster = make()
    first = cluster.up()
    assert pids(cluster.up()) == pids(first)
    table = cluster.meseta("up", "--work-dir", str(cluster.work_dir)).stdout
    assert cluster.urls["agent-2"] in table


def test_the_last_up_is_the_last_even_where_all_runs_already(make: Make) -> None:
    first, second = make(only="master"), make(only="master")
    second.environ["XDG_STATE_HOME"] = first.environ["XDG_STATE_HOME"]
    for cluster in (first, second, first):
        cluster.up()
    assert json.loads(second.meseta("down", "--json").stdout) == {"work_dir": str(first.work_dir), "stopped": ["master"]}


def test_where_the_last_up_cannot_be_noted_it_is_said_and_all_runs(make: Make) -> None:
    """A user without a home, as daemons often are."""
    cluster = make(only="master")
    cluster.work_dir.mkdir(parents=True)
    (cluster.work_dir.parent / "no-folder").touch()
    cluster.environ["XDG_STATE_HOME"] = str(cluster.work_dir.parent / "no-folder")
    arguments = ["--work-dir", str(cluster.work_dir), "--port-offset", str(cluster.port_offset), "--only", "master"]
    done = cluster.meseta("up", "--detach", "--json", *arguments)
    assert json.loads(done.stdout)["ready"]
    assert done.stderr.count("commands need --master or MESETA_MASTER") == 1


def test_down_ends_tasks_unless_told_to_keep_them(make: Make) -> None:
    cluster = make()
    cluster.up()
    cluster.down("--keep-tasks")
    assert [told(cluster, name) for name in ("master", "agent-1", "agent-2")] == ["SIGTERM", "SIGTERM", "SIGTERM"]
    assert not (cluster.work_dir / "endpoints.json").exists()
    cluster.up()
    done = cluster.meseta("down")  # The work dir of the last `up`.
    assert done.stdout == "Stopped: master, agent-1, agent-2\n"
    assert [told(cluster, name) for name in ("master", "agent-1", "agent-2")] == ["SIGTERM", "SIGUSR1", "SIGUSR1"]
    assert json.loads(cluster.meseta("down", "--json").stdout) == {"work_dir": str(cluster.work_dir), "stopped": []}


def test_a_killed_daemon_is_restarted_and_its_error_kept(make: Make) -> None:
    cluster = make()
    before = pids(cluster.up())
    cluster.kill("agent-1")
    eventually(lambda: cluster.daemon("agent-1")["restarts"] == 1 and cluster.daemon("agent-1")["state"] == "running")
    assert cluster.daemon("agent-1")["last_error"] == "killed by SIGKILL"
    after = pids(cluster.state())
    assert {name for name in before if before[name] != after[name]} == {"agent-1"}


def test_the_next_up_adopts_what_a_killed_one_left(make: Make) -> None:
    cluster = make()
    before = pids(cluster.up())
    cluster.kill("up")
    assert pids(cluster.up()) == before
    cluster.kill("agent-2")  # The adopted are watched as well.
    eventually(lambda: pids(cluster.state())["agent-2"] not in (None, before["agent-2"]))


def test_a_daemon_that_was_not_written_down_is_found(make: Make) -> None:
    """The supervisor may be killed between starting a daemon and recording it."""
    cluster = make()
    before = pids(cluster.up())
    cluster.kill("up")
    state = cluster.state()
    state["daemons"][1] |= {"pid": None, "started": None, "boot_id": None}
    (cluster.work_dir / "up.json").write_text(json.dumps(state))
    assert pids(cluster.up()) == before


def test_what_the_next_up_does_not_want_is_stopped(make: Make) -> None:
    cluster = make()
    before = pids(cluster.up())
    cluster.kill("up")
    cluster.agents = 1
    assert pids(cluster.up()) == {name: before[name] for name in ("master", "agent-1")}
    assert told(cluster, "agent-2") == "SIGUSR1", "nobody else could end its tasks"


def test_down_finds_what_a_killed_up_left(make: Make) -> None:
    cluster = make()
    cluster.up()
    cluster.kill("up")
    cluster.down()
    assert told(cluster, "agent-1") == "SIGUSR1"
    assert not left_running(cluster)


def test_what_went_wrong_is_remembered_by_the_next_up(make: Make) -> None:
    cluster = make()
    cluster.up()
    cluster.kill("agent-1")
    eventually(lambda: cluster.daemon("agent-1")["state"] == "running" and cluster.daemon("agent-1")["restarts"] == 1)
    cluster.kill("up")
    cluster.up()
    assert (cluster.daemon("agent-1")["restarts"], cluster.daemon("agent-1")["last_error"]) == (1, "killed by SIGKILL")


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_work_dir_that_cannot_be_used_is_named(make: Make, command: str) -> None:
    cluster = make()
    lock = cluster.work_dir / "up.lock"
    lock.mkdir(parents=True)  # As good as one of another user, which would be no obstacle to root.
    (cluster.work_dir / "up.json").write_text('{"daemons": []}')
    done = cluster.meseta(command, "--work-dir", str(cluster.work_dir), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: cannot use the work dir {cluster.work_dir}: ")
    lock.rmdir()


def test_a_pid_that_now_is_someone_elses_is_left_alone(make: Make) -> None:
    cluster = make()
    cluster.up()
    cluster.down()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        state = cluster.state()
        started = supervisor.start_time(stranger.pid)
        assert started is not None
        state["daemons"][0] |= {"pid": stranger.pid, "started": started - 1, "boot_id": supervisor.boot_id()}
        (cluster.work_dir / "up.json").write_text(json.dumps(state))
        assert pids(cluster.up())["master"] != stranger.pid
        cluster.down()
        assert stranger.poll() is None
        stranger.kill()


def test_a_daemon_that_cannot_start_fails_up_with_its_last_words(make: Make) -> None:
    cluster = make()
    (cluster.work_dir / "agent-2").mkdir(parents=True)
    (cluster.work_dir / "agent-2/broken").touch()
    with pytest.raises(AssertionError, match="agent-2 does not start: exit status 1: this daemon is broken"):
        cluster.up()
    assert not left_running(cluster)
    (cluster.work_dir / "agent-2/broken").unlink()
    assert cluster.up()["ready"]


def test_a_port_in_use_is_named_before_anything_starts(make: Make) -> None:
    cluster = make()
    with socket.create_server(("127.0.0.1", cluster.port_offset + 5051)):
        done = cluster.meseta("up", "--work-dir", str(cluster.work_dir), "--port-offset", str(cluster.port_offset), "--json", check=False)
    assert done.returncode == 1
    assert f"port {cluster.port_offset + 5051}, for agent-1, is in use" in json.loads(done.stderr)["error"]
    assert not left_running(cluster)


def test_an_unknown_daemon_is_wrong_usage(make: Make) -> None:
    cluster = make()
    done = cluster.meseta("up", "--work-dir", str(cluster.work_dir), "--only", "master,nonsense", check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_stays_until_told(make: Make, number: int) -> None:
    cluster = make()
    command = [*MESETA, "up", "--work-dir", str(cluster.work_dir), "--port-offset", str(cluster.port_offset), "--only", "master"]
    with subprocess.Popen(command, env=cluster.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("NAME")
        assert f"http://127.0.0.1:{cluster.port_offset + 5050}" in process.stdout.readline()
        assert cluster.state()["supervisor"]["pid"] == process.pid
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not left_running(cluster)


def test_restarts_back_off_up_to_a_bound(tmp_path: Path) -> None:
    plan = {"name": "x", "argv": ["/bin/false"], "url": None, "health": None, "end_signal": 15, "stop_phase": 0}
    made = supervisor.Supervisor(str(tmp_path), [plan])
    made.ready = True
    (child,) = made.children
    pauses = []
    for _ in range(12):
        child.start(time.monotonic())
        pause_from = time.monotonic()
        made._reap(child)
        pauses.append(round(child.due - pause_from, 1))
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == supervisor.BACKOFF_MAX_S
    assert child.last_error == "exit status 1: no output"


def test_a_full_disk_stops_no_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"name": "x", "argv": ["/bin/true"], "url": None, "health": None, "end_signal": 15, "stop_phase": 0}
    made = supervisor.Supervisor(str(tmp_path), [plan])
    (child,) = made.children

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(supervisor, "write_json", refuse)
        patched.setattr(supervisor.os, "open", refuse)
        made._publish()
        made._advance(time.monotonic())
    assert (child.state, child.last_error) == ("waiting", "cannot be started: [Errno 28] No space left on device")
    assert not (tmp_path / "up.json").exists()
    made._publish()
    assert json.loads((tmp_path / "up.json").read_text())["daemons"][0]["state"] == "waiting"


def test_a_large_log_is_rotated_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES_MAX", 10)
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as writer:
        for text in (b"first log\n", b"second log\n", b"third log\n", b"fourth log\n", b"short\n"):
            writer.write(text)
            supervisor._rotate(str(path))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        "a.log": b"short\n",
        "a.log.1": b"fourth log\n",
        "a.log.2": b"third log\n",
        "a.log.3": b"second log\n",
    }


def test_agents_share_the_machine_without_overlap(tmp_path: Path) -> None:
    parts = [dict(part.split(":") for part in share(str(tmp_path), number, 3).split(";")) for number in (1, 2, 3)]
    assert float(parts[0]["cpus"]) == pytest.approx(len(os.sched_getaffinity(0)) / 3, rel=1e-4)
    assert len({part["mem"] for part in parts}) == 1
    ranges = sorted(tuple(map(int, part["ports"].strip("[]").split("-"))) for part in parts)
    assert all(end < begin for (_, end), (begin, _) in pairwise(ranges))
