"""Much of the end-to-end suite once more, as `nobody`: another user than the one who installed it. Nothing new where nobody is root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="all other tests run as this user already")]

ROOT = Path(__file__).parents[2]
SETPRIV = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
# A checkout or an interpreter below /root is closed to others. This lets a process read what it may not and nothing more.
READING = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
TESTS = [
    "tests/e2e/test_run_command.py",
    "tests/e2e/test_up_down.py::test_down_and_up_lose_no_agent_and_no_framework",
    "tests/e2e/test_up_down.py::test_tasks_that_are_kept_are_found_by_the_next_up",
    "tests/e2e/test_up_down.py::test_the_next_up_finds_what_a_killed_one_left[everything of ours]",
    "tests/e2e/test_chaos.py::test_long_tasks_keep_their_process_through_every_death",
]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of nobody's. Not below tmp_path, which pytest closes to others."""
    folder = Path(tempfile.mkdtemp(prefix="meseta-nobody-"))
    shutil.chown(folder, "nobody", "nogroup")
    yield folder
    shutil.rmtree(folder)


def as_nobody(*command: str | Path) -> list[str]:
    """The command line that runs a command as nobody. Skips when nobody cannot read our code in any way."""
    use = [sys.executable, "-c", "import frameworks, kernel, pytest, sysconfig"]
    for options in ([], READING):
        # By way of a shell: setpriv itself still has all rights when it looks for the program.
        prefix = [*SETPRIV, *options, "sh", "-c", 'exec "$@"', "sh"]
        if subprocess.run([*prefix, *use], cwd=ROOT, capture_output=True).returncode == 0:
            return [*prefix, *map(str, command)]
    pytest.skip("nobody cannot read this checkout or its interpreter, and this root may not let him")


@pytest.mark.timeout(400)
def test_the_suite_passes_without_privileges(home: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MESOS_", "MESETA_", "XDG_"))}
    environ |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1", "USER": "nobody", "LOGNAME": "nobody"}
    command = as_nobody(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", home / "pytest", *TESTS)
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert re.search(r"^\d+ passed", done.stdout.splitlines()[-1]), done.stdout[-2000:]
    print(done.stdout.splitlines()[-1])


def test_tasks_run_as_the_user_who_started_the_cluster(home: Path) -> None:
    """Nobody can become somebody else; a task that asks for it is told so."""
    script = f"""
from pathlib import Path
from tests.cluster import Cluster
cluster = Cluster(Path({str(home)!r}), agents=1, only="master,agent")
try:
    cluster.up()
    done = cluster.meseta("run", "--", "id", "-un")
    assert done.stdout == "nobody\\n", done
    assert cluster.work_dir.stat().st_uid == 65534
finally:
    cluster.down()
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MESOS_", "MESETA_", "XDG_"))}
    command = as_nobody(sys.executable, "-c", script)
    done = subprocess.run(command, cwd=ROOT, env={**environ, "HOME": str(home)}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
