"""Files over HTTP: what is shown, and that nothing else ever is."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from kernel.errors import CallError, NotFound
from kernel.net.errors import HttpError
from kernel.net.files import READ_BYTES_MAX, FileApi, Files
from kernel.net.server import Routes
from tests.kernel.net.test_server import ask


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A sandbox with files, and secrets beside it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "sandbox-of-another").mkdir()
    (tmp_path / "sandbox-of-another" / "stdout").write_text("secret")
    folder = tmp_path / "sandbox"
    (folder / "sub").mkdir(parents=True)
    (folder / "stdout").write_bytes(b"0123456789")
    (folder / "sub" / "data").write_bytes(b"\xff" * 10)
    (folder / "inside").symlink_to("sub/data")
    (folder / "outside").symlink_to("../secret")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def files(sandbox: Path) -> Files:
    files = Files()
    files.attach("/sandboxes/one", str(sandbox))
    files.attach("/log", str(sandbox / "stdout"))
    return files


@pytest.mark.parametrize(
    ("path", "data"), [("/sandboxes/one/stdout", b"0123456789"), ("/sandboxes/one/inside", b"\xff" * 10), ("/log", b"0123456789")]
)
def test_what_is_attached_is_read(files: Files, path: str, data: bytes) -> None:
    assert files.read(path, 0, 100) == (10, data)
    assert files.read(path + "/", 8, 100) == (10, data[8:])
    assert files.read(path, 10, 100) == (10, b"")
    assert files.read(path, 2**60, 100) == (10, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/sandboxes/one/../secret",
        "/sandboxes/one/sub/../../secret",
        "/sandboxes/one/outside",
        "/sandboxes/one/absolute",
        "/sandboxes/one/up/secret",
        "/sandboxes/one/up/sandbox-of-another/stdout",
        "/sandboxes/one/../sandbox-of-another/stdout",
        "/sandboxes/one/pipe",
        "/sandboxes/one/sub",
        "/sandboxes/one/loop",
        "/sandboxes/one/a\0b",
        "/sandboxes/one/" + "a/" * 3000,
    ],
)
def test_what_leads_out_or_is_no_file_is_refused(files: Files, path: str) -> None:
    with pytest.raises(CallError):
        files.read(path, 0, 100)


@pytest.mark.parametrize(
    "path", ["/", "", "/etc/passwd", "/sandboxes", "/sandboxes/two/x", "/sandboxes/one/x", "/sandboxes/one/dangling", "/log/x"]
)
def test_what_is_not_there_is_not_found(files: Files, path: str) -> None:
    with pytest.raises(NotFound):
        files.read(path, 0, 100)


def test_a_folder_swapped_for_a_symlink_after_the_look_up_leads_nowhere(
    files: Files, sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race a task can run against whoever checks a path first and opens it then."""
    opening = os.open

    def swap_then_open(path: str, *arguments: int) -> int:
        if path.endswith("sub/data"):
            (sandbox / "sub").rename(sandbox / "gone")
            (sandbox / "sub").symlink_to("../sandbox-of-another")
            (sandbox.parent / "sandbox-of-another" / "data").write_text("secret")
        return opening(path, *arguments)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(CallError, match="leads out"):
        files.read("/sandboxes/one/sub/data", 0, 100)


def test_a_task_that_keeps_swapping_shows_only_its_own(files: Files, sandbox: Path) -> None:
    """The same race, run for real: whatever the moment, it is the sandbox's file or a refusal."""
    (sandbox.parent / "sandbox-of-another" / "data").write_text("secret")
    (sandbox / "other").symlink_to("../sandbox-of-another")
    stop, seen = threading.Event(), set()

    def swap() -> None:
        while not stop.is_set():
            for one, two in (("sub", "kept"), ("other", "sub"), ("sub", "other"), ("kept", "sub")):
                (sandbox / one).rename(sandbox / two)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(3000):
            try:
                seen.add(files.read("/sandboxes/one/sub/data", 0, 100)[1])
            except CallError:
                continue
    finally:
        stop.set()
        swapping.join()
    assert seen <= {b"\xff" * 10}


@pytest.mark.parametrize("name", ["outside", "absolute", "pipe", "device"])
def test_what_is_refused_is_not_even_opened(files: Files, sandbox: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Opening a device does something, such as starting a watchdog, and a task's symlink may lead to any."""
    (sandbox / "device").symlink_to("/dev/null")
    opening, modes = os.open, []

    def note(path: str, flags: int) -> int:
        modes.append(flags & os.O_PATH)
        return opening(path, flags)

    monkeypatch.setattr(os, "open", note)
    with pytest.raises(CallError):
        files.read(f"/sandboxes/one/{name}", 0, 100)
    assert modes == [os.O_PATH]


@pytest.mark.parametrize("path", ["/sandboxes/one/\ud800", "/\udcff", "/sandboxes/one/" + "é" * 300, "/sandboxes/one/" + "x" * 4097])
def test_no_text_is_too_odd_for_a_path(files: Files, path: str) -> None:
    with pytest.raises(CallError):
        files.read(path, 0, 100)
    with pytest.raises(CallError):
        files.browse(path)


def test_a_task_may_name_its_files_as_it_likes(routes: Routes, sandbox: Path) -> None:
    for name in (b"\xff\xfe", b"a\nb", b'"', b"<script>", "日本".encode()):
        (sandbox / "sub" / os.fsdecode(name)).write_bytes(b"x")
    status, headers, body = ask(routes, "GET", "/files/browse?path=/sandboxes/one/sub")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    names = [entry["path"].removeprefix("/sandboxes/one/sub/") for entry in json.loads(body)]
    assert names == ['"', "<script>", "a\nb", "data", "日本", "\ufffd\ufffd"]


def test_a_chain_of_links_that_comes_back_in_is_followed(files: Files, sandbox: Path) -> None:
    """What counts is where it ends, not where it passes."""
    (sandbox / "back").symlink_to("../sandbox/stdout")
    (sandbox / "chain").symlink_to("up/sandbox/inside")
    assert files.read("/sandboxes/one/back", 0, 100)[1] == b"0123456789"
    assert files.read("/sandboxes/one/chain", 0, 100)[1] == b"\xff" * 10


def test_a_listing_is_sorted_and_shows_links_as_links(files: Files) -> None:
    entries = files.browse("/sandboxes/one/")
    assert [entry.path.removeprefix("/sandboxes/one/") for entry in entries] == sorted(
        ["absolute", "dangling", "inside", "loop", "outside", "pipe", "stdout", "sub", "up"]
    )
    assert {entry.path[-6:]: entry.legacy()["mode"] for entry in entries}["inside"] == "lrwxrwxrwx"
    assert files.browse("/log") == []


def test_at_most_64_kib_are_read_at_once(files: Files, sandbox: Path) -> None:
    (sandbox / "large").write_bytes(bytes(200_000))
    assert files.read("/sandboxes/one/large", 0, 2**60) == (200_000, bytes(READ_BYTES_MAX))


def test_what_is_detached_is_shown_no_longer(files: Files) -> None:
    files.detach("/sandboxes/one")
    with pytest.raises(NotFound):
        files.browse("/sandboxes/one")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_forbidden(files: Files, sandbox: Path) -> None:
    (sandbox / "stdout").chmod(0)
    with pytest.raises(HttpError) as refused:
        files.read("/sandboxes/one/stdout", 0, 1)
    assert refused.value.status == 403


# ---- Over HTTP ------------------------------------------------------------------------------------------


@pytest.fixture
def routes(files: Files) -> Routes:
    api, routes = FileApi(files), Routes()
    for name in ("browse", "read", "download", "debug"):
        routes.add(f"/files/{name}", getattr(api, name), realm=None)
    return routes


@pytest.mark.parametrize(
    ("query", "data", "offset"),
    [
        ("", "", 10),
        ("&offset=-1", "", 10),
        ("&offset=0", "0123456789", 0),
        ("&offset=0&length=-1", "0123456789", 0),
        ("&offset=3&length=4", "3456", 3),
        ("&offset=3&length=4&follow=true", "3456", 3),
        ("&offset=-1&follow=true", "", 10),
        ("&offset=50", "", 50),
        ("&offset=0&length=0", "", 0),
    ],
)
def test_tails_are_read_as_clients_of_old_do(routes: Routes, query: str, data: str, offset: int) -> None:
    status, _, body = ask(routes, "GET", "/files/read?path=/log" + query)
    assert (status, json.loads(body)) == (200, {"data": data, "offset": offset})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("read", 400),
        ("read?path=/log&offset=-2", 400),
        ("read?path=/log&length=x", 400),
        ("read?path=/log&length=-2", 400),
        ("read?path=/log&offset=1e3", 400),
        ("read?path=/log&offset=" + "9" * 5000, 400),
        ("read?path=/log&offset=" + "9" * 4000, 200),
        ("read?path=/log&offset=0&length=" + "9" * 4000, 200),
        ("read?path=/sandboxes/one/%2e%2e/secret", 400),
        ("read?path=%2Fsandboxes%2Fone%2F..%2Fsecret", 400),
        ("read?path=/sandboxes/one/%252e%252e/secret", 404),
        ("read?path=/sandboxes/one/..%00", 400),
        ("read?path=/sandboxes/one/%ff%fe", 404),
        ("read?path=/sandboxes/one/%00", 400),
        ("read?path=//etc/passwd", 404),
        ("read?path=../../etc/passwd", 404),
        ("browse?path=/sandboxes/one/up", 400),
        ("browse?path=/sandboxes/one/..", 400),
        ("browse?path=/sandboxes/one/../sandbox-of-another", 400),
        ("download?path=/sandboxes/one/pipe", 400),
        ("download?path=/sandboxes/one/absolute", 400),
        ("download?path=/sandboxes/one/../secret", 400),
        ("read?path=/sandboxes/one/sub", 400),
        ("read?path=/nothing", 404),
        ("browse", 400),
        ("browse?path=/nothing", 404),
        ("browse?path=/sandboxes/one", 200),
        ("download", 400),
        ("download?path=/sandboxes/one", 400),
        ("download?path=/sandboxes/one/outside", 400),
        ("download?path=/nothing", 404),
        ("debug", 200),
    ],
)
def test_requests_are_answered_by_their_status(routes: Routes, path: str, status: int) -> None:
    assert ask(routes, "GET", "/files/" + path)[0] == status


def test_a_download_is_the_file_under_its_name(routes: Routes, sandbox: Path) -> None:
    name = 'rep"ort\r\nü.csv'
    (sandbox / name).write_bytes(bytes(1_000_000))
    status, headers, body = ask(routes, "GET", "/files/download?path=" + quote(f"/sandboxes/one/{name}"))
    assert (status, body) == (200, bytes(1_000_000))
    assert headers["Content-Disposition"] == 'attachment; filename="rep?ort???.csv"'
    assert headers["Content-Type"] == "text/csv"
