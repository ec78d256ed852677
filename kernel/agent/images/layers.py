"""Unpacking the layers of images, for overlayfs.

A layer is a tar archive from anybody, unpacked as root: nothing in it may reach out of its folder. So each path is looked up by
openat2 with RESOLVE_IN_ROOT, for which the folder is the root, links included. What a layer takes away from those below (`.wh.NAME`) is
written as overlayfs has it. Source: OCI image-spec, layer.md; kernel documentation, overlayfs.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from kernel.errors import KernelError

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
ENTRIES_MAX = 1_000_000
BYTES_MAX = 64 << 30  # Of one layer.

_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_BUFFER = 1 << 20
_XATTR = "SCHILY.xattr."
_libc = ctypes.CDLL(None, use_errno=True)


class LayerError(KernelError):
    """A layer cannot be unpacked; the text names the entry."""


def unpack(stream: IO[bytes], folder: str, bytes_max: int = BYTES_MAX) -> None:
    """Unpack an (uncompressed) tar stream into an empty folder. bytes_max: of what it unpacks to. Raises LayerError."""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    folders: list[tuple[str, tarfile.TarInfo]] = []
    left = bytes_max
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
            for count, member in enumerate(archive):
                left -= member.size if member.isreg() else 0
                if count >= ENTRIES_MAX or left < 0:
                    raise LayerError(f"the layer has more than {ENTRIES_MAX} entries or {bytes_max} bytes")
                try:
                    _add(root, archive, member)
                except OSError as error:
                    raise LayerError(f"{member.name[:200]}: {error.strerror}") from error
                if member.isdir():
                    folders.append((_inside(member.name), member))
            for path, member in reversed(folders):  # Their times change with what is put into them.
                with _open(root, path, os.O_RDONLY | os.O_DIRECTORY) as fd:
                    os.utime(fd, (member.mtime, member.mtime))
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise LayerError(f"the layer is no readable archive: {error}") from error
    except OSError as error:
        raise LayerError(f"the layer cannot be unpacked: {error.strerror}") from error
    finally:
        os.close(root)


def _inside(name: str) -> str:
    """A path without leading slashes and dots. `..` stays: it cannot leave the root."""
    return "/".join(part for part in name.split("/") if part not in ("", ".")) or "."


@contextmanager
def _open(root: int, path: str, flags: int) -> Iterator[int]:
    """A file below the root, whatever the links on the way are."""
    how = ctypes.create_string_buffer(struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT))
    fd = _libc.syscall(_OPENAT2, root, os.fsencode(path), how, len(how) - 1)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    try:
        yield fd
    finally:
        os.close(fd)


def _make_folders(root: int, path: str) -> None:
    """Make the folders of a path that are not there: layers need not name them."""
    done = ""
    for part in path.split("/"):
        parent, done = done or ".", f"{done}/{part}" if done else part
        with _open(root, parent, os.O_PATH | os.O_DIRECTORY) as fd:
            try:
                os.mkdir(part, 0o755, dir_fd=fd)
            except FileExistsError:
                pass


def _add(root: int, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parent, _, name = _inside(member.name).rpartition("/")
    if name in ("", "..") or "\0" in member.name:
        raise LayerError(f"{member.name[:200]!r} is no path")
    if name == ".":
        if not member.isdir():
            raise LayerError(f"{member.name[:200]!r} is no path")
        _set(root, ".", member)
        return
    if parent:
        _make_folders(root, parent)
    with _open(root, parent or ".", os.O_RDONLY | os.O_DIRECTORY) as fd:
        if name == OPAQUE:
            os.setxattr(fd, "trusted.overlay.opaque", b"y")
            return
        if name.startswith(WHITEOUT):
            _replace(fd, name.removeprefix(WHITEOUT), keep_folder=False)
            os.mknod(name.removeprefix(WHITEOUT), stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)
            return
        _replace(fd, name, keep_folder=member.isdir())
        _make(root, fd, name, archive, member)


def _replace(folder: int, name: str, keep_folder: bool) -> None:
    """Take away what an earlier entry of the same name made."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=folder)
    elif not keep_folder:
        os.rmdir(name, dir_fd=folder)


def _make(root: int, folder: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    if member.isdir():
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            pass
    elif member.isreg():
        _copy(folder, name, archive, member)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=folder)
    elif member.islnk():
        with _open(root, _inside(member.linkname), os.O_PATH | os.O_NOFOLLOW) as target:
            os.link(f"/proc/self/fd/{target}", name, dst_dir_fd=folder, follow_symlinks=True)
        return  # It has its owner and mode.
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(name, kind, os.makedev(member.devmajor, member.devminor), dir_fd=folder)
    elif member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=folder)
    else:
        raise LayerError(f"{member.name[:200]}: entries of type {member.type!r} are not known")
    _set(folder, name, member)


def _copy(folder: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    source = archive.extractfile(member)
    assert source is not None, "a regular file has a content"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with open(fd, "wb") as target:
        while part := source.read(_BUFFER):
            target.write(part)
        for key, value in member.pax_headers.items():
            if key.startswith(_XATTR) and not key.startswith(f"{_XATTR}trusted."):
                os.setxattr(fd, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))


def _set(folder: int, name: str, member: tarfile.TarInfo) -> None:
    os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
    if not member.issym():
        os.chmod(name, stat.S_IMODE(member.mode), dir_fd=folder)  # After chown, which takes set-id bits away.
    os.utime(name, (member.mtime, member.mtime), dir_fd=folder, follow_symlinks=False)
