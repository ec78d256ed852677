"""Layers are unpacked as overlayfs wants them, and reach nothing outside their folder; as root, who alone may."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from kernel.agent.images.layers import LayerError, unpack
from tests.images import entry, layer, link

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may unpack layers")


def unpacked(tmp_path: Path, *entries: tuple[tarfile.TarInfo, bytes], **bounds: int) -> Path:
    folder = tmp_path / "layer"
    folder.mkdir(exist_ok=True)
    unpack(io.BytesIO(layer(entries)), str(folder), **bounds)
    return folder


def test_files_have_their_owners_modes_and_times(tmp_path: Path) -> None:
    folder = unpacked(
        tmp_path,
        entry("a", mode=0o1777, mtime=100),
        entry("a/f", b"text", mode=0o4755, uid=12, gid=34, mtime=200),
        link("a/s", "/etc/passwd"),
        link("a/h", "a/f", hard=True),
        entry("a/null", None, type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("b/c/d", b"parents need not be named"),
    )
    found = (folder / "a" / "f").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime, found.st_nlink) == (0o4755, 12, 34, 200, 2)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o1777
    assert (folder / "a").stat().st_mtime == 100
    assert os.readlink(folder / "a" / "s") == "/etc/passwd"
    assert stat.S_ISCHR((folder / "a" / "null").stat().st_mode)
    assert (folder / "b" / "c" / "d").read_text() == "parents need not be named"


def test_what_a_layer_takes_away_is_written_as_overlayfs_has_it(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, entry("a/.wh.gone", b""), entry("b/.wh..wh..opq", b""))
    gone = (folder / "a" / "gone").stat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(folder / "b", "trusted.overlay.opaque") == b"y"


def test_a_later_entry_stands_in_the_place_of_an_earlier(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, entry("f", b"old"), link("s", "f"), entry("f", b"new"), entry("s", b"a file now"), entry("d"), entry("d"))
    assert ((folder / "f").read_text(), (folder / "s").read_text()) == ("new", "a file now")
    assert not (folder / "s").is_symlink()


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../../outside", b"x")],
        [entry("/outside", b"x")],
        [link("door", "../.."), entry("door/outside", b"x")],
        [link("door", "/"), entry("door/outside", b"x")],
        [link("door", "{outside}"), entry("door/outside", b"x")],
        [link("outside", "../../outside"), entry("outside", b"x")],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Links on the way are followed as in the container: its root is the folder."""
    secret = tmp_path / "outside"
    for info, _ in entries:
        info.linkname = info.linkname.format(outside=tmp_path)
    try:
        unpacked(tmp_path, *entries)
    except LayerError:
        pass
    assert not secret.exists()
    assert not Path("/outside").exists()


def test_a_hard_link_to_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(LayerError, match="thief"):
        unpacked(tmp_path, link("thief", "../secret", hard=True))


@pytest.mark.parametrize("name", ["", ".", "a/..", ".."])
def test_what_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LayerError, match="no path"):
        unpacked(tmp_path, entry(name, b"x"))


def test_more_than_it_may_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"more than .* 10 bytes"):
        unpacked(tmp_path, entry("f", b"x" * 11), bytes_max=10)


@pytest.mark.parametrize("data", [b"", b"garbage" * 1000, layer([entry("f", b"x" * 5000)])[:2000]])
def test_what_is_no_archive_is_refused_or_empty(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "layer"
    folder.mkdir()
    if data:
        with pytest.raises(LayerError):
            unpack(io.BytesIO(data), str(folder))
    else:
        unpack(io.BytesIO(layer([])), str(folder))
    assert not (folder / "g").exists()
