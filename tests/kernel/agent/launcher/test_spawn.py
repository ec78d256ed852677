"""How a task's process is started: what it gets, what it does not get, and why it could not be."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import shutil
import stat
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.agent.launcher.host import Host, open_to_others

pytestmark = pytest.mark.e2e
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as another user")
LIBC_SIGNALS = 1 << 31 | 1 << 32  # 32 and 33 belong to the C library; no program can set them.
OTHER_USER = "nobody"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 3", 3 << 8),
        ("exit 255", 255 << 8),
        ("kill -9 $$", 9),
        ("kill -TERM $$", 15),
        ("ulimit -c 0; kill -SEGV $$", 11),
    ],
)
def test_the_exit_status_is_the_wait_status(tmp_path: Path, script: str, status: int) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            assert (await host.run("/bin/sh", "-c", script))[0] == status

    run(test())


def test_what_a_process_gets(tmp_path: Path) -> None:
    """Its directory, environment, session and files, and nothing of ours: no descriptor, no signal blocked or ignored."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)  # As some starters of agents do.
    script = """
        pwd; echo; env | sort; echo
        cut -d' ' -f1,5,6 /proc/$$/stat; umask; ulimit -n; readlink /proc/$$/fd/0; ls /proc/$$/fd; echo
        grep -E '^Sig(Blk|Ign)' /proc/self/status; echo to-stderr >&2
    """

    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/bin/sh", "-c", script, env={"PATH": os.defpath, "B": "ä $A"})
            pid = await host.started("c")
            assert await host.exited("c") == 0
            directory, env, process, signals = (host.sandbox / "c.out").read_text().split("\n\n")
            assert directory == str(host.sandbox)
            assert set(env.split("\n")) == {f"PATH={os.defpath}", "B=ä $A", "MESETA_CONTAINER_ID=c", f"PWD={host.sandbox}"}
            assert process.split("\n") == [f"{pid} {pid} {pid}", "0022", str(soft), "/dev/null", "0", "1", "2"]
            assert [int(line.split()[1], 16) & ~LIBC_SIGNALS for line in signals.splitlines()] == [0, 0]
            assert (host.sandbox / "c.err").read_text() == "to-stderr\n"

    run(test())
    os.close(leaked)


def test_output_is_appended_to_files_that_others_cannot_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            (host.sandbox / "first.out").write_text("before\n")
            await host.run("/bin/echo", "one", name="first")
            assert (host.sandbox / "first.out").read_text() == "before\none\n"
            assert stat.S_IMODE((host.sandbox / "first.err").stat().st_mode) == 0o640
            host.launch("both", "/bin/sh", "-c", "echo 1; echo 2 >&2; echo 3", stderr="both.out")
            await host.exited("both")
            assert (host.sandbox / "both.out").read_text() == "1\n2\n3\n"

    run(test())


@pytest.mark.parametrize("link", ["sandbox/c.out", "inside"])
def test_output_goes_through_no_symlink(tmp_path: Path, link: str) -> None:
    """Others may have put it there: into a sandbox in theirs, for one."""

    async def test() -> None:
        async with Host(tmp_path) as host:
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir()
            (tmp_path / link).symlink_to(elsewhere / "file" if link.endswith(".out") else elsewhere)
            stdout = str(tmp_path / link) if link.endswith(".out") else str(tmp_path / link / "file")
            host.launch("c", "/bin/echo", "x", stdout=stdout)
            assert (await host.failed("c")).reason == "output"
            assert list(elsewhere.iterdir()) == []

    run(test())


def test_how_a_program_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            script = host.sandbox / "script"
            script.write_text('echo "$0 $1"\n')  # No first line: /bin/sh runs it, as execvp does.
            script.chmod(0o755)
            assert (await host.run("echo", "x", name="by PATH"))[1] == "x\n"
            assert (await host.run("script", "x", name="own PATH", env={"PATH": f"/missing:{host.sandbox}"}))[1] == f"{script} x\n"
            assert (await host.run("./script", "x", name="relative"))[1] == "./script x\n"
            shown = await host.run("other name", "-c", "echo $0", executable="/bin/sh", name="executable")
            assert shown == (0, "other name\n")

    run(test())


@pytest.mark.parametrize(
    ("argv", "options", "reason"),
    [
        (["/no/such/program"], {}, "not found"),
        (["no-such-program"], {}, "not found"),
        (["no-such-program"], {"env": {}}, "not found"),
        ([""], {}, "not found"),
        (["/bin/true/x"], {}, "not found"),
        (["/" + "x" * 5000], {}, "not found"),
        (["/etc/passwd"], {}, "not executable"),
        (["passwd"], {"env": {"PATH": "/etc"}}, "not executable"),
        (["/"], {}, "not executable"),
        (["/bin/true"], {"cwd": "/no/such/dir"}, "no such directory"),
        (["/bin/true"], {"cwd": "/etc/passwd"}, "no such directory"),
        (["/bin/true"], {"stdout": "no/such/dir/out"}, "output"),
        (["/bin/true"], {"stderr": "/"}, "output"),
        (["/bin/true"], {"stdout": "pipe"}, "output"),
        (["/bin/true"], {"user": "no-such-user"}, "no such user"),
        (["/bin/true"], {"user": "\0"}, "no such user"),
        (["/bin/true", "a\0b"], {}, "invalid"),
        (["/bin/true"], {"cwd": "a\0b"}, "invalid"),
        (["/bin/true"], {"env": {"A=B": "c"}}, "invalid"),
        (["/bin/true"], {"groups": (-1,)}, "invalid"),
        ([], {}, "invalid"),
        (["/bin/true"], {"rlimits": {"RLIMIT_NONE": (1, 1)}}, "invalid"),
        (["/bin/true"], {"rlimits": {"RLIMIT_CORE": (2, 1)}}, "not permitted"),
        (["/bin/true", "x" * 200_000], {}, "too long"),
        (["/bin/true", "x" * 2_000_000], {}, "too long"),
    ],
)
def test_what_cannot_be_started_says_why(tmp_path: Path, argv: list[str], options: dict[str, Any], reason: str) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.fifo("pipe")
            host.launch("c", *argv, **options)
            failure = await host.failed("c")
            assert failure.reason == reason
            assert 10 < len(failure.message) <= 1000
            assert (await host.run("/bin/echo", "fine", name="next")) == (0, "fine\n")

    run(test())


def test_resource_limits(tmp_path: Path) -> None:
    script = 'while [ "$(ulimit -n) $(ulimit -Hn) $(ulimit -c)" != "77 88 0" ]; do :; done'  # Set just after the start.

    async def test() -> None:
        async with Host(tmp_path) as host:
            limits = {"RLIMIT_NOFILE": (77, 88), "RLIMIT_CORE": (0, None)}
            if os.geteuid() != 0:
                limits["RLIMIT_CORE"] = (0, 0)
            assert (await host.run("/bin/sh", "-c", script, rlimits=limits))[0] == 0

    run(test())


def test_only_root_can_start_as_another_user(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("runs as root")

    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/bin/true", user="root")
            assert (await host.failed("c")).reason == "not permitted"

    run(test())


def test_ones_own_name_needs_no_rights(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            assert (await host.run("/usr/bin/id", "-u", user=pwd.getpwuid(os.geteuid()).pw_name))[1] == f"{os.geteuid()}\n"

    run(test())


@as_root
def test_for_want_of_memory_the_launcher_is_not_ended_but_what_it_starts_is(tmp_path: Path) -> None:
    if subprocess.run(["sh", "-c", "echo -1000 > /proc/self/oom_score_adj"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("this root may not spare anybody: it has no CAP_SYS_RESOURCE")
    own = int(Path("/proc/self/oom_score_adj").read_text())

    async def test() -> None:
        async with Host(tmp_path) as host:
            assert (await host.run("/bin/cat", f"/proc/{host.client.pid}/oom_score_adj", name="launcher"))[1] == "-1000\n"
            waits = "until [ $(cat /proc/$$/oom_score_adj) != -1000 ]; do :; done; cat /proc/$$/oom_score_adj"
            assert (await host.run("/bin/sh", "-c", waits))[1] == f"{own}\n"

    run(test())


@as_root
def test_a_process_runs_as_its_user_and_no_more(tmp_path: Path) -> None:
    """All its ids and groups, no capabilities, its output is its own; and the next one runs as root again."""
    entry = pwd.getpwnam(OTHER_USER)
    own = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(("Uid", "Groups"))]
    script = "grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapAmb)' /proc/$$/status; kill -9 %d 2>/dev/null || echo spared"

    async def test() -> None:
        async with Host(open_to_others(tmp_path)) as host:
            shutil.chown(host.sandbox, OTHER_USER)
            status, shown = await host.run("/bin/sh", "-c", script % host.client.pid, user=OTHER_USER)
            fields = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
            assert status == 0
            assert fields["Uid"].split() == [str(entry.pw_uid)] * 4
            assert fields["Gid"].split() == [str(entry.pw_gid)] * 4
            assert {int(g) for g in fields["Groups"].split()} == set(os.getgrouplist(OTHER_USER, entry.pw_gid))
            assert [int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]
            assert shown.endswith("spared\n")
            assert (host.sandbox / "c.out").stat().st_uid == entry.pw_uid

            _, groups = await host.run("/usr/bin/id", "-G", user=OTHER_USER, groups=(7, 8), name="groups")
            assert set(groups.split()) == {str(entry.pw_gid), "7", "8"}
            _, root = await host.run("/bin/sh", "-c", "grep -E '^(Uid|Groups)' /proc/self/status", name="root")
            assert root.splitlines() == own

    run(test())


@as_root
def test_a_user_may_only_use_what_is_open_to_him(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(open_to_others(tmp_path)) as host:
            closed = tmp_path / "closed"
            closed.mkdir(mode=0o700)
            host.launch("cwd", "/bin/true", user=OTHER_USER, cwd=str(closed))
            assert (await host.failed("cwd")).reason == "no such directory"
            host.launch("out", "/bin/true", user=OTHER_USER)  # The sandbox is root's.
            assert (await host.failed("out")).reason == "output"
            shutil.chown(host.sandbox, OTHER_USER)
            program = host.sandbox / "program"
            shutil.copy("/bin/true", program)
            program.chmod(0o700)
            host.launch("program", "./program", user=OTHER_USER)
            assert (await host.failed("program")).reason == "not executable"
            assert (await host.run("/usr/bin/id", "-u"))[1] == "0\n"

    run(test())


@as_root
def test_a_user_who_kills_all_he_can_does_not_hit_the_launcher(tmp_path: Path) -> None:
    """`kill -9 -1` again and again while more processes of the same user are started."""

    async def test() -> None:
        async with Host(open_to_others(tmp_path)) as host:
            shutil.chown(host.sandbox, "games")
            launcher = host.client.pid
            names = [f"c{n}" for n in range(100)]
            for name in names:
                host.launch(name, "/bin/sh", "-c", "kill -9 -1", user="games")
            for name in names:
                await host.until(lambda name=name: bool(host.of(object, name)[1:]))  # type: ignore[misc]
            assert host.client.pid == launcher

    run(test())
