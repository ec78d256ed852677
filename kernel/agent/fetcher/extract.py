"""Extracts archives that nobody vouches for, within a budget of bytes, files and memory; `kernel.agent.fetcher.tree` sees where to.

Members that are neither file, folder nor link are refused by name. Works in a thread: it waits for the disk.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from kernel.agent.fetcher.budget import Budget
from kernel.agent.fetcher.plan import FetchError, quoted
from kernel.agent.fetcher.tree import PIECE_BYTES, Readable, Tree

HEADER_BYTES_MAX = 1 << 20  # Tar's headers are read at once, whatever size they claim.
XZ_MEMORY_BYTES_MAX = 256 << 20  # `xz -9` needs 65 MiB.
ZIP_DIRECTORY_BYTES_MAX = 32 << 20  # It is held in memory, some tenfold.
FILE_MODE = 0o644
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ZIP_END = struct.Struct("<4s4H2LH")
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, gzip.BadGzipFile),
    *(EOFError, ValueError, LookupError, OverflowError, struct.error, NotImplementedError),  # What libraries make of hostile numbers.
)


def extract(archive: str, suffix: str, name: str, folder: str, budget: Budget) -> None:
    """Extract an archive into a folder. suffix: what it is, one of plan.ARCHIVES; name: its own, with the suffix.

    Raises FetchError, Cancelled, OSError. What was made so far is left to the caller.
    """
    into = Tree(folder, budget)
    try:
        with open(archive, "rb") as file, into:
            if suffix == ".zip":
                _extract_zip(file, into)
                return
            with _decompressed(file, suffix) as plain:
                if suffix == ".gz":
                    into.add_file(name.removesuffix(suffix), FILE_MODE, plain)
                else:
                    _extract_tar(_Forward(plain, budget), into)
    except _BROKEN as error:
        raise FetchError(f"the archive is damaged, or not what its name says ({str(error) or type(error).__name__})") from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # How bz2 says that it cannot read it, and the kernel that there is no such place.
            raise FetchError(f"the archive is damaged, or not what its name says ({error})") from error
        raise


# ---- Tar ------------------------------------------------------------------------------------------------


class _Forward:
    """What tarfile reads from: goes forward only. A header with all that belongs to it must be small, however large it claims to be."""

    def __init__(self, source: Readable, budget: Budget) -> None:
        self._source, self._budget = source, budget
        self._position = 0
        self._header_left: int | None = None
        self.last = b""  # Read of the last header.

    @contextmanager
    def header(self) -> Iterator[None]:
        """What is read meanwhile is one."""
        self._header_left, self.last = HEADER_BYTES_MAX, b""
        yield
        self._header_left = None

    def read(self, size: int = -1) -> bytes:
        if self._header_left is not None:
            self._header_left -= max(size, 0)
            if size < 0 or self._header_left < 0:
                raise FetchError("the archive's headers are too large")
        data = self._read(size)
        self.last = data
        return data

    def _read(self, size: int) -> bytes:
        pieces = []
        while size > 0 and (piece := self._source.read(min(size, PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
            self._position += len(piece)
            self._budget.pass_over(self._position)
        return b"".join(pieces)

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        while whence == os.SEEK_SET and self._position < position and self._read(min(PIECE_BYTES, position - self._position)):
            pass
        if whence != os.SEEK_SET or position != self._position:
            raise tarfile.ReadError("unexpected end of data")
        return position


def _extract_tar(source: _Forward, into: Tree) -> None:
    with source.header():
        tar = tarfile.TarFile(fileobj=source, mode="r")  # type: ignore[arg-type]
    with tar:
        while (member := _next(tar, source)) is not None:
            _extract_member(tar, member, into)


def _next(tar: tarfile.TarFile, source: _Forward) -> tarfile.TarInfo | None:
    with source.header():
        member = tar.next()
        if member is None and source.last.strip(b"\0"):  # Tarfile takes what it cannot read for the end.
            raise tarfile.ReadError("a header is damaged")
    tar.members = []  # type: ignore[attr-defined]  # Else it remembers all of them.
    return member


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Tree) -> None:
    if member.isdir():
        into.add_folder(member.name)
    elif member.issym():
        into.add_link(member.name, member.linkname)
    elif member.islnk():
        into.add_hard_link(member.name, member.linkname)
    elif member.isreg():
        content = tar.extractfile(member)
        assert content is not None, "a regular file has content"
        into.add_file(member.name, member.mode, content, member.mtime)
    else:
        raise FetchError(f"the archive has {quoted(member.name)}, which is neither file, folder nor link")


# ---- Zip ------------------------------------------------------------------------------------------------


def _extract_zip(file: IO[bytes], into: Tree) -> None:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            _extract_entry(archive, member, into)


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a directory that would fill our memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZIP_END.size - 0xFFFF))
    tail = file.read()
    start = tail.rfind(b"PK\x05\x06")
    if 0 <= start <= len(tail) - _ZIP_END.size and _ZIP_END.unpack_from(tail, start)[5] > ZIP_DIRECTORY_BYTES_MAX:
        raise FetchError("the archive has too many files")
    file.seek(0)


def _extract_entry(archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Tree) -> None:
    mode = member.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if member.is_dir():
        into.add_folder(member.filename)
        return
    if member.flag_bits & 1:
        raise FetchError(f"the archive has {quoted(member.filename)}, which needs a password")
    if member.compress_type not in _ZIP_METHODS:
        raise FetchError(f"the archive has {quoted(member.filename)}, which is compressed in a way we do not know")
    if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise FetchError(f"the archive has {quoted(member.filename)}, which is neither file, folder nor link")
    with archive.open(member) as content:
        if kind == stat.S_IFLNK:
            into.add_link(member.filename, os.fsdecode(content.read(4096)))
        else:
            into.add_file(member.filename, mode or FILE_MODE, content, time.mktime((*member.date_time, 0, 0, -1)))


# ---- Compression ----------------------------------------------------------------------------------------


class _Xz:
    """As lzma's own file, but with a bound for its memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = self._new()
        self._begun = False

    def __enter__(self) -> _Xz:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, size: int, /) -> bytes:
        while True:
            fed = b""
            if self._stream.eof:  # Another stream may follow.
                fed = self._stream.unused_data.lstrip(b"\0") or self._file.read(PIECE_BYTES).lstrip(b"\0")
                if not fed:
                    return b""
                self._stream = self._new()
            elif self._stream.needs_input:
                fed = self._file.read(PIECE_BYTES)
                if not fed:
                    raise EOFError("it ends too early")
            data = self._stream.decompress(fed, size)
            if data:
                return data

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES_MAX)


_PLAIN: dict[str, Callable[[IO[bytes]], Any]] = {
    **dict.fromkeys((".tar.gz", ".tgz", ".gz"), lambda file: gzip.GzipFile(fileobj=file)),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.BZ2File),
    **dict.fromkeys((".tar.xz", ".txz"), _Xz),
}


@contextmanager
def _decompressed(file: IO[bytes], suffix: str) -> Iterator[Readable]:
    if suffix == ".tar":
        yield file
    else:
        with _PLAIN[suffix](file) as plain:
            yield plain
