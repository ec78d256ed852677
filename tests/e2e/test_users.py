"""As root, tasks run as the user they name. Nothing of an agent's is open to them but their sandbox."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root can start tasks as somebody else")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster whose sandboxes others can reach: pytest's own folders are closed to them."""
    home = Path(tempfile.mkdtemp(prefix="meseta-users-"))
    home.chmod(0o755)
    started = Cluster(home, agents=1, only="master,agent")
    try:
        started.up()
        yield started
    finally:
        started.down()
        shutil.rmtree(home)


def test_a_task_runs_as_its_user_in_a_sandbox_of_its_own(cluster: Cluster) -> None:
    script = 'id -un; id -gn; pwd; stat -c %U . stdout; touch mine; cat /proc/self/status | grep CapEff; echo "$HOME $USER"'
    done = cluster.meseta("run", "--user", "nobody", "--", "sh", "-c", script)
    user, group, sandbox, owner, owner_of_output, capabilities, _ = done.stdout.splitlines()
    assert (user, group) == ("nobody", "nogroup")
    assert sandbox.startswith(str(cluster.work_dir))
    assert (owner, owner_of_output) == ("nobody", "nobody")
    assert int(capabilities.split()[1], 16) == 0
    assert (Path(sandbox) / "mine").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_without_a_user_it_is_the_agents(cluster: Cluster) -> None:
    assert cluster.meseta("run", "--", "id", "-un").stdout == "root\n"


def test_the_agents_files_are_closed_to_tasks(cluster: Cluster) -> None:
    """Its records, the launcher's socket, other sandboxes, the master's registry."""
    other = cluster.meseta("run", "--", "sh", "-c", "echo secret; pwd").stdout.splitlines()[1]
    paths = [
        *cluster.work_dir.glob("agent-1/*.db"),
        *cluster.work_dir.glob("agent-1/launcher/*"),
        *cluster.work_dir.glob("master/*.db"),
        Path(other) / "stdout",
    ]
    assert len(paths) >= 4
    listed = " ".join(map(str, paths))
    script = f"for f in {listed}; do cat $f && echo read $f; echo x >> $f && echo wrote $f; done; rm -rf {cluster.work_dir}; true"
    assert cluster.meseta("run", "--user", "nobody", "--", "sh", "-c", script).stdout == ""
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("user", ["no-such-user", "-1", "root\n", "4294967295"])
def test_an_unknown_user_fails_the_task_and_says_so(cluster: Cluster, user: str) -> None:
    done = cluster.meseta("run", "--json", "--user", user, "--", "id", check=False)
    assert done.returncode == 125
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (ended,) = [line for line in lines if line["type"] == "ended"]
    assert ended["state"] == "TASK_FAILED"
    assert ended["message"] == f"Failed to launch container: no user is called '{user}' on this agent"
    assert f"no user is called '{user}' on this agent" in cluster.meseta("run", "--user", user, "--", "id", check=False).stderr
