"""The fetcher as a whole: real files, archives, programs, and an HTTP server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.fetcher.fetcher import Fetcher, Settings
from kernel.agent.fetcher.plan import FetchError
from kernel.agent.launcher import processes
from kernel.wire.command import URI
from tests.cluster import eventually
from tests.kernel.agent.fetcher.test_extract import entry, tar
from tests.kernel.agent.fetcher.web_server import WebServer

PACKED = gzip.compress(tar(entry("bin/run", b"#!/bin/sh\n", mode=0o755), entry("link", kind=b"2", link="bin/run")))
FILES = {"/file": b"content", "/a.tar.gz": PACKED, "/big": os.urandom(3 << 20), "/damaged.zip": b"no zip"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for somebody else")


class Bench:
    """A fetcher with its work dir, a sandbox for each container, and a web server."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = WebServer(dict(FILES))
        self.fetcher: Fetcher

    def start(self, **settings: Any) -> None:
        self.fetcher = Fetcher(Settings(**{"work_dir": str(self.home), "stall_s": 30.0, **settings}))

    def sandbox(self, container: str = "c") -> Path:
        path = self.home / "sandboxes" / container
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def fetch(self, *uris: URI | str, container: str = "c", user: str | None = None) -> dict[str, bytes]:
        """Fetch; return what is in the sandbox then. A str that begins with / is on the server."""
        asked = [URI(self.server.url + uri) if isinstance(uri, str) else uri for uri in uris]
        await self.fetcher.fetch(container, asked, str(self.sandbox(container)), user)
        return self.found(container)

    def found(self, container: str = "c") -> dict[str, bytes]:
        sandbox = self.sandbox(container)
        return {str(path.relative_to(sandbox)): path.read_bytes() for path in sandbox.rglob("*") if path.is_file()}

    async def failure(self, *uris: URI | str, container: str = "c", user: str | None = None) -> str:
        """Why it failed. Nothing is left then, neither in the sandbox nor where it was made ready."""
        with pytest.raises(FetchError) as caught:
            await self.fetch(*uris, container=container, user=user)
        assert self.found(container) == {}
        assert self.half_done() == []
        return str(caught.value)

    async def shared(self, count: int) -> None:
        """Until so many wait for one download, which has begun."""
        await self.server.asked.wait()
        assert self.fetcher._kept is not None
        (entry,) = self.fetcher._kept.ledger.entries.values()
        while entry.holders < count:  # noqa: ASYNC110 - nothing tells it.
            await asyncio.sleep(0.01)

    def half_done(self) -> list[str]:
        return os.listdir(self.home / "fetcher/staging")

    def kept(self) -> list[Path]:
        return list((self.home / "fetcher/cache").rglob("*/*"))


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="meseta-fetcher-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def play(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scene with a bench."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")

    def run(scene: Callable[[Bench], Awaitable[None]], **settings: Any) -> None:
        async def stage() -> None:
            bench = Bench(home)
            async with bench.server:
                bench.start(**settings)
                try:
                    await scene(bench)
                finally:
                    bench.fetcher.close()

        asyncio.run(stage())

    return run


Play = Callable[..., None]


def script(home: Path, name: str, text: str) -> str:
    path = home / name
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return str(path)


# ---- From the Web ---------------------------------------------------------------------------------------


def test_files_come_one_after_another(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.fetch("/file", "/big") == {"file": b"content", "big": FILES["/big"]}
        assert stat.S_IMODE((bench.sandbox() / "file").stat().st_mode) == 0o644
        assert bench.half_done() == []

    play(scene)


def test_an_archive_is_extracted_and_stays(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.fetch("/a.tar.gz") == {"a.tar.gz": PACKED, "bin/run": b"#!/bin/sh\n", "link": b"#!/bin/sh\n"}
        assert os.access(bench.sandbox() / "bin/run", os.X_OK)
        assert os.readlink(bench.sandbox() / "link") == "bin/run"

    play(scene)


def test_what_is_done_with_a_file_is_said_beside_it(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        url = bench.server.url
        uris = (
            URI(f"{url}/a.tar.gz", extract=False),
            URI(f"{url}/file", executable=True),
            URI(f"{url}/file", output_file="deep/down/here"),
            URI(f"{url}/file", output_file="kept/here", cache=True),
        )
        contents = {"a.tar.gz": PACKED, "file": b"content", "deep/down/here": b"content", "kept/here": b"content"}
        assert await bench.fetch(*uris) == contents
        assert stat.S_IMODE((bench.sandbox() / "file").stat().st_mode) == 0o755

    play(scene)


def test_archives_may_share_folders(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.server.files |= {"/1.tar": tar(entry("lib/1", b"1")), "/2.tar": tar(entry("lib/2", b"2"))}
        found = await bench.fetch("/1.tar", "/2.tar", URI(f"{bench.server.url}/file", output_file="lib/3"))
        assert {name for name in found if name.startswith("lib/")} == {"lib/1", "lib/2", "lib/3"}

    play(scene)


def test_a_file_does_not_go_through_the_link_of_an_archive(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.server.files["/l.tar"] = tar(entry("d/x", b"x"), entry("link", kind=b"2", link="d"))
        why = await bench.failure("/l.tar", URI(f"{bench.server.url}/file", output_file="link/evil"))
        assert why.endswith("/file: 'link' is not a folder")

    play(scene)


def test_archives_do_not_lead_outside_together(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.server.files["/1.tar"] = tar(entry("a", kind=b"2", link="b/.."))
        bench.server.files["/2.tar"] = tar(entry("b", kind=b"2", link="."))
        assert await bench.fetch("/2.tar", container="alone")
        why = await bench.failure("/1.tar", "/2.tar")
        assert why == "Failed to fetch: the link 'a' of an archive leads outside, by links of another"

    play(scene)


def test_redirects_are_followed_and_names_are_those_asked_for(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.fetch("/moved?with=query") == {"moved": b"content"}

    play(scene)


def test_bytes_are_kept_as_they_are_sent(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert (await bench.fetch("/encoded.tar.gz"))["encoded.tar.gz"] == PACKED

    play(scene)


def test_a_name_and_password_are_used_and_never_shown(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene(bench: Bench) -> None:
        host = bench.server.url.removeprefix("http://")
        assert await bench.fetch(URI(f"http://me:secret@{host}/closed")) == {"closed": b"for me"}
        why = await bench.failure(URI(f"http://me:wrongsecret@{host}/closed?token=secret"), container="d")
        assert why == f"Failed to fetch http://{host}/closed?...: the server answers 401 Unauthorized"

    play(scene)
    assert "http://" in caplog.text
    assert "secret" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("kernel."))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/missing", "the server answers 404 Not Found"),
        ("/short", "the connection broke off after"),
        ("/loop", "the server redirects more than 10 times"),
        ("/to-file", "it is not a URL, or its server redirects to what is none"),
        ("/endless", "it is too large: fetched and extracted files may have 4000000 bytes together (--fetcher-bytes-max)"),
        ("/damaged.zip", "the archive is damaged, or not what its name says"),
    ],
)
def test_what_goes_wrong_is_said(play: Play, path: str, why: str) -> None:
    async def scene(bench: Bench) -> None:
        assert (await bench.failure("/file", path)).startswith(f"Failed to fetch {bench.server.url}{path}: {why}")

    play(scene, bytes_max=4_000_000)


def test_a_server_that_does_not_answer(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert (await bench.failure(URI("http://127.0.0.1:1/a"))).endswith("cannot connect to 127.0.0.1 port 1: Connection refused")
        assert (await bench.failure(URI("http://no-such-host.invalid/a"))).endswith("the host no-such-host.invalid is not known")

    play(scene)


def test_what_announces_too_much_is_not_begun(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert "it is too large: 3145728 bytes" in await bench.failure("/big")

    play(scene, bytes_max=100)


def test_a_download_that_stalls_is_given_up(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert (await bench.failure("/held")).endswith("/held: nothing came for 0.1 s, after 6 bytes")

    play(scene, stall_s=0.1)


def test_a_slow_one_is_waited_for(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        fetching = asyncio.create_task(bench.fetch("/held"))
        await bench.server.asked.wait()
        bench.server.release.set()
        assert await fetching == {"held": b"begun done"}

    play(scene)


def test_a_cancelled_fetch_leaves_nothing(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        for container in ("c", "c"):  # And may be begun again.
            fetching = asyncio.create_task(bench.fetch("/a.tar.gz", "/held", container=container))
            await bench.server.asked.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            assert (bench.found(), bench.half_done()) == ({}, [])

    play(scene)


def test_what_is_half_done_when_an_agent_is_killed_is_begun_anew(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        half = bench.home / "fetcher/staging/c/tree"
        half.mkdir(parents=True)
        (half / "file").write_text("cont")
        bench.sandbox().joinpath("file").write_text("of the one before")
        bench.sandbox().joinpath("bin").mkdir()
        bench.sandbox().joinpath("bin/other").write_text("of the one before")
        bench.start()
        assert bench.half_done() == []
        assert (await bench.fetch("/file", "/a.tar.gz")).keys() == {"file", "a.tar.gz", "bin/run", "link"}

    play(scene)


# ---- Checksums ------------------------------------------------------------------------------------------


def test_a_checksum_that_is_right(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        digest = hashlib.sha256(PACKED).hexdigest()
        assert "bin/run" in await bench.fetch(f"/a.tar.gz#sha256={digest}")

    play(scene)


@pytest.mark.parametrize("cache", [False, True])
def test_a_checksum_that_is_wrong(play: Play, cache: bool) -> None:
    async def scene(bench: Bench) -> None:
        why = await bench.failure(URI(f"{bench.server.url}/damaged.zip#sha256={'0' * 64}", cache=cache))
        found = hashlib.sha256(FILES["/damaged.zip"]).hexdigest()
        assert why.endswith(f": its checksum is {found}, not {'0' * 64}")  # Not that it is damaged: nobody has looked.

    play(scene)


# ---- Files of the machine -------------------------------------------------------------------------------


def test_local_files(play: Play, home: Path) -> None:
    async def scene(bench: Bench) -> None:
        (home / "a").write_text("absolute")
        (home / "b").write_text("by URL")
        (home / "c").write_text("relative")
        assert await bench.fetch(URI(f"{home}/a"), URI(f"file://{home}/b"), URI("c")) == {
            "a": b"absolute",
            "b": b"by URL",
            "c": b"relative",
        }

    play(scene, frameworks_home=str(home))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/no/such/file", "No such file or directory"),
        ("/tmp", "Is a directory"),
        ("/dev/zero", "it is not a plain file"),
        ("/proc/self/mem", "it is not a plain file"),
        ("/proc/self/environ", "it is not a plain file"),
    ],
)
def test_what_is_no_plain_file_is_not_read(play: Play, path: str, why: str) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.failure(URI(path)) == f"Failed to fetch {path}: {why}"

    play(scene)


def test_a_pipe_is_not_waited_for(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        os.mkfifo(bench.home / "pipe")
        assert (await bench.failure(URI(f"{bench.home}/pipe"))).endswith("it is not a plain file")

    play(scene)


@as_root
def test_what_a_user_may_not_read_is_not_read_for_him(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        secret = bench.home / "secret"
        secret.write_text("of root")
        secret.chmod(0o600)
        closed = bench.home / "closed"
        closed.mkdir(0o700)
        (closed / "file").write_text("of root")
        open_to_group = bench.home / "group"
        open_to_group.write_text("of root's group")
        open_to_group.chmod(0o640)
        for path in (secret, closed / "file", open_to_group, Path("/etc/shadow")):
            for cache in (False, True):
                assert (await bench.failure(URI(str(path), cache=cache), user="nobody")).endswith(": Permission denied")
        assert await bench.fetch(URI(str(secret)), container="of-root") == {"secret": b"of root"}
        assert os.geteuid() == 0
        assert os.access(secret, os.R_OK)

    play(scene)


@as_root
def test_all_of_it_belongs_to_the_user(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        os.chown(bench.sandbox(), pwd.getpwnam("nobody").pw_uid, -1)
        await bench.fetch("/a.tar.gz", URI(f"{bench.server.url}/file", output_file="deep/file"), user="nobody")
        found = list(bench.sandbox().rglob("*"))
        assert len(found) == 6
        assert {path.lstat().st_uid for path in found} == {pwd.getpwnam("nobody").pw_uid}

    play(scene)


@as_root
def test_where_no_user_is_named_it_is_for_the_owner_of_the_sandbox(play: Play) -> None:
    """As with images: who runs in them may have no name on this machine."""

    async def scene(bench: Bench) -> None:
        os.chown(bench.sandbox(), 54321, 54321)
        secret = bench.home / "secret"
        secret.write_text("of root")
        secret.chmod(0o600)
        assert (await bench.failure(URI(str(secret)))).endswith(": Permission denied")
        os.chown(secret, 54321, 0)
        assert await bench.fetch(URI(str(secret))) == {"secret": b"of root"}
        assert (bench.sandbox() / "secret").stat().st_uid == 54321

    play(scene)


@as_root
def test_links_in_a_sandbox_are_not_followed(play: Play) -> None:
    """Another task of the same user may have put them there."""

    async def scene(bench: Bench) -> None:
        target = bench.home / "of-root"
        target.mkdir()
        (target / "run").write_text("mine")
        (bench.sandbox() / "bin").symlink_to(target)
        (bench.sandbox() / "file").symlink_to(target / "run")
        assert await bench.fetch("/a.tar.gz", "/file", user="nobody")
        assert [path.read_text() for path in target.iterdir()] == ["mine"]
        assert (target / "run").stat().st_uid == 0

    play(scene)


def test_an_unknown_user(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.failure("/file", user="no-such-user") == "no user is called 'no-such-user' on this agent"

    play(scene)


# ---- The cache ------------------------------------------------------------------------------------------


def test_a_kept_file_is_downloaded_once(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/file", cache=True)
        for container in "abc":
            assert await bench.fetch(uri, container=container) == {"file": b"content"}
        assert bench.server.counts == {"HEAD /file": 1, "GET /file": 1}

    play(scene)


def test_a_kept_archive_is_not_copied_into_the_sandbox(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert (await bench.fetch(URI(f"{bench.server.url}/a.tar.gz", cache=True))).keys() == {"bin/run", "link"}

    play(scene)


def test_a_task_cannot_change_what_is_kept(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/file", cache=True)
        await bench.fetch(uri, container="a")
        (bench.sandbox("a") / "file").write_bytes(b"changed")
        assert await bench.fetch(uri, container="b") == {"file": b"content"}

    play(scene)


def test_those_who_ask_at_once_wait_for_one_download(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/held", cache=True)
        fetching = [asyncio.create_task(bench.fetch(uri, container=name)) for name in "abc"]
        await bench.shared(3)
        fetching[0].cancel()  # Who asked first is killed; the others do not notice.
        await asyncio.wait(fetching[:1])
        bench.server.release.set()
        assert [await one for one in fetching[1:]] == [{"held": b"begun done"}] * 2
        assert bench.server.counts["GET /held"] == 1

    play(scene)


def test_when_nobody_waits_any_more_it_ends(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/held", cache=True)
        fetching = [asyncio.create_task(bench.fetch(uri, container=name)) for name in "ab"]
        await bench.shared(2)
        for one in fetching:
            one.cancel()
        await asyncio.wait(fetching)
        assert (bench.kept(), bench.half_done()) == ([], [])
        bench.server.release.set()
        assert await bench.fetch(uri) == {"held": b"begun done"}

    play(scene)


def test_a_failed_download_is_not_kept(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/missing", cache=True)
        await bench.failure(uri)
        assert bench.kept() == []
        bench.server.files["/missing"] = b"there now"
        assert await bench.fetch(uri) == {"missing": b"there now"}

    play(scene)


def test_the_least_recently_used_makes_room(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.server.files |= {"/1": b"1" * 40, "/2": b"2" * 40, "/3": b"3" * 40}
        for number, name in enumerate(["1", "2", "1", "3", "1", "2"]):
            await bench.fetch(URI(f"{bench.server.url}/{name}", cache=True), container=str(number))
        assert {name: bench.server.counts[f"GET /{name}"] for name in "123"} == {"1": 1, "2": 2, "3": 1}
        assert sum(path.stat().st_size for path in bench.kept()) == 80

    play(scene, cache_bytes=100)


@pytest.mark.parametrize("path", ["/big", "/held"])
def test_what_does_not_fit_goes_past_the_cache(play: Play, path: str) -> None:
    """Whether it says how large it is beforehand or not."""

    async def scene(bench: Bench) -> None:
        bench.server.release.set()
        assert await bench.fetch(URI(bench.server.url + path, cache=True))
        assert bench.kept() == []

    play(scene, cache_bytes=5)


def test_a_cache_that_cannot_be_used_is_gone_past(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/file", cache=True)
        (folder,) = (bench.home / "fetcher/cache").iterdir()
        folder.rmdir()
        folder.write_text("no folder")
        assert await bench.fetch(uri) == {"file": b"content"}
        bench.start(cache_dir=str(folder / "below"))
        assert await bench.fetch(uri, container="d") == {"file": b"content"}

    play(scene)


def test_a_folder_of_somebody_else_is_no_cache(play: Play, home: Path) -> None:
    shared = home / "shared"
    shared.mkdir()
    elsewhere = home / "precious"
    elsewhere.mkdir()
    (elsewhere / "data").write_text("stays")

    async def scene(bench: Bench) -> None:
        bench.start(cache_dir=str(shared))
        (own,) = shared.iterdir()
        own.rmdir()
        own.symlink_to(elsewhere)
        bench.start(cache_dir=str(shared))
        assert await bench.fetch(URI(f"{bench.server.url}/file", cache=True)) == {"file": b"content"}
        assert [path.name for path in elsewhere.iterdir()] == ["data"]

    play(scene)


def test_what_is_kept_does_not_outlive_the_agent(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        uri = URI(f"{bench.server.url}/file", cache=True)
        await bench.fetch(uri)
        assert bench.kept()
        bench.start()
        assert bench.kept() == []

    play(scene)


# ---- Programs -------------------------------------------------------------------------------------------


def test_hdfs_comes_by_the_hadoop_client(play: Play, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = home / "bin"
    client.mkdir()
    script(client, "hadoop", '[ "$1 $2" = "fs -copyToLocal" ] && echo "$3" > "$4"\n')

    async def scene(bench: Bench) -> None:
        assert await bench.fetch(URI("hdfs://name:9000/dir/file")) == {"file": b"hdfs://name:9000/dir/file\n"}

    play(scene, hadoop_home=str(home))
    monkeypatch.setenv("PATH", f"{client}:{os.environ['PATH']}")
    shutil.rmtree(home / "sandboxes")
    play(scene)


def test_other_schemes_come_by_commands_of_the_operator(play: Play, home: Path) -> None:
    get = script(home, "get", 'echo "got $1" > "$2"\n')

    async def scene(bench: Bench) -> None:
        uri = URI("s3://bucket/$(touch evil);file", cache=True)
        for container in "ab":
            assert await bench.fetch(uri, container=container) == {"$(touch evil);file": b"got s3://bucket/$(touch evil);file\n"}
        assert len(bench.kept()) == 1

    play(scene, commands={"s3": [get, "{uri}", "{path}"]})


def test_a_scheme_for_which_there_is_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    async def scene(bench: Bench) -> None:
        why = await bench.failure(URI("gopher://me:secret@h/file"))
        assert why.startswith("Failed to fetch gopher://h/file: this agent has nothing for the scheme 'gopher': no --fetcher-commands")

    play(scene)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('echo first; echo "no $1 there" >&2; exit 3', "get exited with status 3: no x://h/f there"),
        ("kill -9 $$", "get was ended by signal 9"),
        ("exit 0", "the command succeeded, but has left no file"),
        ("mkdir $2", "what the command left is not a plain file"),
        ("ln -s /etc/passwd $2", "what the command left is not a plain file"),
        ("echo x > there; ln there $2", "what the command left is not a plain file"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done > $2.part", "it is too large"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "it is too large"),
    ],
)
def test_a_command_that_fails(play: Play, home: Path, text: str, why: str) -> None:
    get = script(home, "get", text)

    async def scene(bench: Bench) -> None:
        assert (await bench.failure(URI("x://me:secret@h/f"))).startswith(f"Failed to fetch x://h/f: {why}")

    play(scene, commands={"x": [get, "{uri}", "{path}"]}, bytes_max=10_000)


def test_a_command_that_is_not_there(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.failure(URI("x://h/f")) == "Failed to fetch x://h/f: cannot run /no/such: No such file or directory"

    play(scene, commands={"x": ["/no/such"]})


def test_a_command_that_writes_nothing_is_given_up(play: Play, home: Path) -> None:
    get = script(home, "get", f"sleep 1000 & echo $! > {home}/pid; wait\n")

    async def scene(bench: Bench) -> None:
        assert (await bench.failure(URI("x://h/f"))).endswith("nothing came for 0.1 s, after 0 bytes")
        eventually(lambda: processes.stat(int((home / "pid").read_text())) is None)

    play(scene, commands={"x": [get, "{uri}", "{path}"]}, stall_s=0.1)


async def begun(pipe: Path) -> str:
    """What somebody writes into a named pipe."""
    return await asyncio.to_thread(pipe.read_text)


@pytest.mark.parametrize("cache", [False, True])
def test_nothing_is_left_of_a_cancelled_command(play: Play, home: Path, cache: bool) -> None:
    pipe = home / "pipe"
    os.mkfifo(pipe)
    get = script(home, "get", f"echo half > $2; sleep 1000 & echo $! > {pipe}; wait\n")

    async def scene(bench: Bench) -> None:
        fetching = asyncio.create_task(bench.fetch(URI("x://h/f", cache=cache)))
        pid = int(await begun(pipe))
        fetching.cancel()
        await asyncio.wait([fetching])
        assert fetching.cancelled()
        eventually(lambda: processes.stat(pid) is None)
        assert (bench.found(), bench.half_done(), bench.kept()) == ({}, [], [])

    play(scene, commands={"x": [get, "{uri}", "{path}"]})


def test_the_next_agent_ends_the_commands_of_one_that_was_killed(play: Play) -> None:
    """And nobody else, though he may have their pid by now."""

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "1000"], start_new_session=True)

    async def scene(bench: Bench) -> None:
        for start_is_right in (False, True):
            command = begin()
            found = processes.stat(command.pid)
            assert found is not None
            folder = bench.home / "fetcher/staging/c"
            folder.mkdir()
            (folder / "0.d.running").write_text(f"{command.pid} {found.start + (not start_is_right)}")
            bench.start()
            if not start_is_right:
                assert command.poll() is None
                command.terminate()
            assert command.wait() == (-signal.SIGKILL if start_is_right else -signal.SIGTERM)

    play(scene)


@as_root
def test_a_command_runs_as_the_user_and_sees_nothing_of_the_agents(play: Play, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESETA_SECRET", "s")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    get = script(home, "get", 'id -un > "$2"; id -Gn >> "$2"; env >> "$2"; ls .. >> "$2"; echo x > ../evil; true\n')

    async def scene(bench: Bench) -> None:
        text = (await bench.fetch(URI("x://h/f"), user="nobody"))["f"].decode()
        assert text.splitlines()[:2] == ["nobody", "nogroup"]
        assert "SECRET" not in text
        assert "tree" not in text

    play(scene, commands={"x": [get, "{uri}", "{path}"]})
