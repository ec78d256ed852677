"""Archives, good and hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.agent.fetcher import budget as budgets
from kernel.agent.fetcher.budget import Budget, Cancelled
from kernel.agent.fetcher.extract import extract
from kernel.agent.fetcher.plan import ARCHIVES, FetchError

PACKED: dict[str, Callable[[bytes], bytes]] = {
    **dict.fromkeys((".tar.gz", ".tgz", ".gz"), gzip.compress),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.compress),
    **dict.fromkeys((".tar.xz", ".txz"), lzma.compress),
    ".tar": lambda data: data,
}
TARS = [suffix for suffix in ARCHIVES if suffix not in (".zip", ".gz")]
ENOUGH_BYTES = 1 << 20
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size, info.mtime = kind, link, mode, len(content), 1_000_000_000
    return info, content


def tar(*entries: Entry) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(*entries: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name, (2001, 9, 9, 0, 0, 0))
            info.external_attr, info.compress_type = mode << 16 | 0x20, method
            archive.writestr(info, content)
    return file.getvalue()


class Place:
    """A folder to extract into, and what is around it."""

    def __init__(self, path: Path) -> None:
        self.around = path
        self.folder = path / "into"
        self.folder.mkdir()
        self.archive = path / "archive"
        self.budget = Budget(ENOUGH_BYTES, str(path))

    def extract(self, data: bytes, suffix: str = ".tar") -> None:
        self.archive.write_bytes(data)
        extract(str(self.archive), suffix, f"archive{suffix}", str(self.folder), self.budget)

    def files(self) -> dict[str, str]:
        """What is there: contents, links as `-> target`."""
        found = {}
        for path in self.folder.rglob("*"):
            name = str(path.relative_to(self.folder))
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[name] = path.read_text()
        return found

    def refuse(self, data: bytes, suffix: str, words: str) -> None:
        with pytest.raises(FetchError, match=words):
            self.extract(data, suffix)
        assert {path.name for path in self.around.iterdir()} == {"into", "archive"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---- What archives are for ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", TARS)
def test_a_tar_in_any_packing(place: Place, suffix: str) -> None:
    content = tar(entry("./", kind=tarfile.DIRTYPE), entry("./bin/run", b"#!/bin/sh\n", mode=0o755), entry("./read", b"me" * 100_000))
    place.extract(PACKED[suffix](content), suffix)
    assert place.files() == {"bin/run": "#!/bin/sh\n", "read": "me" * 100_000}
    assert stat.S_IMODE((place.folder / "bin/run").stat().st_mode) == 0o755
    assert (place.folder / "read").stat().st_mtime == 1_000_000_000


def test_a_zip(place: Place) -> None:
    content = zipped(
        ("bin/", b"", 0o40755), ("bin/run", b"#!/bin/sh\n", 0o100755), ("plain", b"x" * 100_000, 0), ("link", b"bin/run", 0o120777)
    )
    place.extract(content, ".zip")
    assert place.files() == {"bin/run": "#!/bin/sh\n", "plain": "x" * 100_000, "link": "-> bin/run"}
    assert stat.S_IMODE((place.folder / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((place.folder / "plain").stat().st_mode) == 0o644


def test_a_single_file(place: Place) -> None:
    place.extract(gzip.compress(b"text"), ".gz")
    assert place.files() == {"archive": "text"}


def test_xz_in_several_streams_with_padding(place: Place) -> None:
    content = tar(entry("a", b"1"), entry("b", b"2"))
    place.extract(lzma.compress(content[:700]) + b"\0" * 8 + lzma.compress(content[700:]), ".tar.xz")
    assert place.files() == {"a": "1", "b": "2"}


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_what_the_tar_of_the_system_writes(place: Place, form: str) -> None:
    source = place.around / "source"
    (source / "sub").mkdir(parents=True)
    name = "n" * (90 if form in ("ustar", "v7") else 200)
    (source / "sub" / name).write_text("long")
    (source / "link").symlink_to(f"sub/{name}")
    os.link(source / "sub" / name, source / "twin")
    done = subprocess.run(["tar", "-C", source, f"--format={form}", "-cf", "-", "."], capture_output=True, check=True)
    place.extract(done.stdout)
    assert place.files() == {f"sub/{name}": "long", "link": f"-> sub/{name}", "twin": "long"}


def test_links_inside(place: Place) -> None:
    place.extract(
        tar(
            entry("lib/current", kind=tarfile.SYMTYPE, link="../lib/v1"),
            entry("lib/v1/x", b"x"),
            entry("twin", kind=tarfile.LNKTYPE, link="lib/v1/x"),
            entry("dangling", kind=tarfile.SYMTYPE, link="nothing"),
        )
    )
    assert place.files() == {"lib/current": "-> ../lib/v1", "lib/v1/x": "x", "twin": "x", "dangling": "-> nothing"}


def test_the_last_of_several_has_the_name(place: Place) -> None:
    place.extract(tar(entry("a", b"old"), entry("a", b"new")))
    assert place.files() == {"a": "new"}


def test_set_id_bits_are_dropped(place: Place) -> None:
    place.extract(tar(entry("a", mode=0o6755)))
    assert stat.S_IMODE((place.folder / "a").stat().st_mode) == 0o755


# ---- What is refused, by name -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a/.."])
def test_paths_that_lead_outside(place: Place, name: str) -> None:
    place.refuse(tar(entry(name, b"x")), ".tar", f"'{name}' would lie outside")
    place.refuse(zipped((name, b"x", 0o100644)), ".zip", f"'{name}' would lie outside")


@pytest.mark.parametrize(("name", "target"), [("a", "/etc/passwd"), ("a", "../evil"), ("d/a", "../../evil"), ("a", "d/../..")])
def test_links_that_lead_outside(place: Place, name: str, target: str) -> None:
    place.refuse(tar(entry(name, kind=tarfile.SYMTYPE, link=target)), ".tar", f"'{name}' leads outside, to '{target}'")
    place.refuse(zipped((name, target.encode(), 0o120777)), ".zip", f"'{name}' leads outside, to '{target}'")


def test_links_that_lead_outside_together(place: Place) -> None:
    place.refuse(
        tar(
            entry("d/", kind=tarfile.DIRTYPE),
            entry("d/up", kind=tarfile.SYMTYPE, link=".."),
            entry("out", kind=tarfile.SYMTYPE, link="d/up/.."),
        ),
        ".tar",
        "'out' leads outside",
    )


def test_nothing_is_written_through_a_link(place: Place) -> None:
    """That of the archive is not made before all files are; that of an archive before it is not followed."""
    (place.folder / "before").symlink_to(place.around)
    place.refuse(tar(entry("before/evil", b"x")), ".tar", "'before' is not a folder")
    place.refuse(tar(entry("before/evil/", kind=tarfile.DIRTYPE)), ".tar", "'before/evil' is not a folder")
    place.refuse(
        tar(entry("link", kind=tarfile.SYMTYPE, link="d"), entry("link/x", b"x")), ".tar", "'link' is there both as a file and as a folder"
    )


def test_a_file_replaces_a_link_and_not_what_it_leads_to(place: Place) -> None:
    outside = place.around / "into2"
    outside.write_text("mine")
    (place.folder / "a").symlink_to(outside)
    place.extract(tar(entry("a", b"theirs")))
    assert (outside.read_text(), place.files()) == ("mine", {"a": "theirs"})


@pytest.mark.parametrize("target", ["/etc/passwd", "../archive", "missing", "d", ""])
def test_hard_links_to_anything_but_a_file_of_the_archive(place: Place, target: str) -> None:
    place.refuse(tar(entry("d/", kind=tarfile.DIRTYPE), entry("a", kind=tarfile.LNKTYPE, link=target)), ".tar", "outside|leads to")


def test_hard_links_do_not_go_through_links(place: Place) -> None:
    (place.folder / "before").symlink_to("/etc")
    place.refuse(tar(entry("a", kind=tarfile.LNKTYPE, link="before/passwd")), ".tar", "not a folder")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(place: Place, kind: bytes) -> None:
    place.refuse(tar(entry("dev/evil", kind=kind)), ".tar", "'dev/evil', which is neither file, folder nor link")


def test_devices_in_a_zip(place: Place) -> None:
    place.refuse(zipped(("evil", b"", stat.S_IFIFO | 0o644)), ".zip", "'evil', which is neither file, folder nor link")


# ---- What would fill the machine --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".zip"])
def test_a_bomb(place: Place, suffix: str) -> None:
    zeros = b"\0" * (ENOUGH_BYTES + 1)
    if suffix == ".zip":
        data = zipped(("zeros", zeros, 0o100644))
    else:
        data = PACKED[suffix](zeros if suffix == ".gz" else tar(entry("zeros", zeros)))
    assert len(data) < 10_000
    place.refuse(data, suffix, "too large")
    assert sum(path.stat().st_size for path in place.folder.iterdir()) <= ENOUGH_BYTES


def test_many_archives_share_one_budget(place: Place) -> None:
    half = tar(entry("half", b"\0" * (ENOUGH_BYTES * 2 // 3)))
    place.extract(half)
    place.refuse(half, ".tar", "too large")


def test_a_bomb_that_is_only_passed_over(place: Place) -> None:
    """A sparse file without any content, and with much of it in the archive: nobody writes it, but all of it is unpacked."""
    info, _ = entry("sparse", kind=tarfile.GNUTYPE_SPARSE)
    info.size = 1 << 30
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:495] = b"\0" * 97 + b"00000000000\0"
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    place.refuse(gzip.compress(bytes(header) + b"\0" * (ENOUGH_BYTES * 3)), ".tar.gz", "too large")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory(place: Place, kind: bytes) -> None:
    info, _ = entry("name", kind=kind)
    info.size = 1 << 30
    place.refuse(info.tobuf(), ".tar", "headers are too large")


def test_too_many_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "ENTRIES_MAX", 5)
    place.refuse(tar(*(entry(f"d{n}/", kind=tarfile.DIRTYPE) for n in range(6))), ".tar", "too many files")


def test_too_deep(place: Place) -> None:
    place.refuse(tar(entry("d/" * 200 + "x")), ".tar", "folders deep")


def test_a_message_does_not_repeat_a_long_name(place: Place) -> None:
    with pytest.raises(FetchError) as caught:
        place.extract(tar(entry("../" + "x" * 100_000)))
    assert len(str(caught.value)) < 1000


def test_a_disk_is_not_filled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "FREE_SHARE_MIN", 1.0)
    monkeypatch.setattr(budgets, "FREE_BYTES_MIN", 1 << 60)
    place.refuse(tar(entry("a", b"x")), ".tar", "disk is full")


def test_a_zip_whose_directory_would_fill_the_memory(place: Place) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 1 << 30, 0, 0)
    place.refuse(end, ".zip", "too many files")


def test_xz_that_wants_too_much_memory(place: Place) -> None:
    packed = subprocess.run(["xz", "--lzma2=preset=0,dict=512MiB", "-c"], input=b"x", capture_output=True, check=True).stdout
    place.refuse(packed, ".tar.xz", "damaged")


# ---- What is broken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*TARS, ".zip", ".gz"])
@pytest.mark.parametrize("data", [b"<html>not found</html>" * 100, b""])
def test_what_is_no_archive(place: Place, suffix: str, data: bytes) -> None:
    if suffix == ".gz" and not data:  # As gzip has it: no file at all in it.
        return
    place.refuse(data, suffix, "damaged, or not what its name says")


@pytest.mark.parametrize("suffix", [*TARS, ".zip"])
def test_half_an_archive(place: Place, suffix: str) -> None:
    noise = os.urandom(100_000)
    data = zipped(("a", noise, 0o100644)) if suffix == ".zip" else PACKED[suffix](tar(entry("a", noise)))
    place.refuse(data[: len(data) // 2], suffix, "damaged, or not what its name says")


def test_a_damaged_header_is_not_the_end(place: Place) -> None:
    data = bytearray(tar(entry("a", b"1"), entry("b", b"2")))
    data[1024 + 10] ^= 0xFF
    place.refuse(bytes(data), ".tar", "damaged")


def test_a_zip_with_a_password(place: Place) -> None:
    data = bytearray(zipped(("a", b"x", 0o100644)))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    place.refuse(bytes(data), ".zip", "needs a password")


def test_a_zip_packed_in_a_way_we_do_not_know(place: Place) -> None:
    place.refuse(zipped(("a", b"x" * 100, 0o100644), method=zipfile.ZIP_LZMA), ".zip", "compressed in a way we do not know")


def test_it_stops_when_nobody_wants_it_any_more(place: Place) -> None:
    place.budget.cancel()
    with pytest.raises(Cancelled):
        place.extract(tar(entry("a", b"x")))
    assert place.files() == {}
