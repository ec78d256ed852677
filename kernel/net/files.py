"""Files shown over HTTP: logs and sandboxes under virtual paths (spec: mesos-v1, section 5.5).

Nothing outside of the attached folders is ever shown: the real path decides, symlinks resolved. It is asked of
what was opened, not before, as a task may change its sandbox at any moment.
"""

from __future__ import annotations

import asyncio
import grp
import mimetypes
import os
import pwd
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from kernel.errors import CallError, KernelError, NotFound
from kernel.net import response
from kernel.net.errors import HttpError
from kernel.net.request import Request
from kernel.wire.common import TimeInfo
from kernel.wire.operator_common import FileInfo, ListFiles, ListFilesCall, ReadFile, ReadFileCall

READ_BYTES_MAX = 64 * 1024
ABOUT_FILES = {
    "browse": "a folder; ?path=",
    "read": "a piece of a file; ?path= ?offset= ?length= ?follow=",
    "download": "a whole file; ?path=",
    "debug": "which folders are shown",
}
PATH_BYTES_MAX = 4096
_NOT_IN_HEADERS = re.compile(r'[^ -~]|["\\]')

T = TypeVar("T")


class Entry(Struct, frozen=True):
    """One file as a listing shows it. path: virtual; mtime_s: seconds since the epoch."""

    path: str
    nlink: int
    size: int
    mtime_s: float
    mode: int
    uid: int
    gid: int

    def legacy(self) -> dict[str, object]:
        """As /files/browse writes it."""
        return {
            "path": self.path,
            "nlink": self.nlink,
            "size": self.size,
            "mtime": self.mtime_s,
            "mode": stat.filemode(self.mode),
            "uid": user_name(self.uid),
            "gid": group_name(self.gid),
        }


class Files:
    """Virtual paths to real files and folders."""

    def __init__(self) -> None:
        self._attached: dict[str, str] = {}

    def attach(self, virtual: str, real: str) -> None:
        """Show the file or folder `real` as `virtual` (absolute, without trailing slash)."""
        self._attached[virtual] = real

    def detach(self, virtual: str) -> None:
        """Show it no longer."""
        self._attached.pop(virtual, None)

    def real(self, virtual: str) -> str | None:
        """What is attached at exactly this path."""
        return self._attached.get(virtual)

    @property
    def attached(self) -> Mapping[str, str]:
        return self._attached

    def open(self, virtual: str) -> Opened:
        """Open what a virtual path names. Raises NotFound; CallError when it leads out or is neither file nor folder."""
        if "\0" in virtual or len(virtual) > PATH_BYTES_MAX:
            raise CallError("path: not a path")
        path = PurePosixPath("/" + virtual.strip("/"))
        for root in (path, *path.parents):
            real = self.real(str(root))
            if real is not None:
                base = os.path.realpath(real)
                return _open_below(base, base if path == root else os.path.join(base, path.relative_to(root)), virtual)
        raise NotFound(f"path: '{virtual}' is not shown here")

    def browse(self, virtual: str) -> list[Entry]:
        """List a folder, sorted by name; a file gives an empty list. Raises NotFound, CallError."""
        with self.open(virtual) as opened:
            if not opened.folder:
                return []
            entries = []
            with os.scandir(opened.descriptor) as listing:
                for item in listing:
                    try:
                        name = os.fsencode(item.name).decode(errors="replace")  # A task may use any bytes.
                        entries.append(_entry(f"{virtual.rstrip('/')}/{name}", item.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue  # Removed meanwhile.
        return sorted(entries, key=lambda entry: entry.path)

    def read(self, virtual: str, offset: int, length: int) -> tuple[int, bytes]:
        """Return the file's size and at most `length` (<= 64 KiB) of its bytes. Raises NotFound, CallError."""
        with self.open(virtual) as opened:
            if opened.folder:
                raise CallError(f"path: '{virtual}' is a folder")
            if offset >= opened.size:
                return opened.size, b""
            return opened.size, os.pread(opened.descriptor, min(length, READ_BYTES_MAX), offset)

    def follow(self, virtual: str, offset: int, length: int) -> tuple[int, int, bytes]:
        """The same for one who reads on as a file grows, also where its beginning is moved away from time to time: offsets are counted
        from the first byte ever written. Return the size so counted, where the data begins, and the data."""
        size, data = self.read(virtual, offset, length)
        return size, offset, data


class Opened:
    """A plain file or a folder, open for reading."""

    def __init__(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor
        self.folder = stat.S_ISDIR(found.st_mode)
        self.size = found.st_size

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class FileApi:
    """The legacy endpoints below /files."""

    def __init__(self, files: Files, allowed: Callable[[Request, str], None] | None = None) -> None:
        """allowed: raises when the caller may not see a virtual path."""
        self.files = files
        self._allowed = allowed

    async def browse(self, request: Request) -> web.StreamResponse:
        path = self._path(request)
        entries = await in_thread(self.files.browse, path)
        return await response.json(request, msgspec.json.encode([entry.legacy() for entry in entries]))

    async def read(self, request: Request) -> web.StreamResponse:
        path = self._path(request)
        offset, length = _number(request, "offset"), _number(request, "length")
        if length == -1:
            length = READ_BYTES_MAX
        asked = path, max(offset, 0), 0 if offset == -1 else length
        if request.query.get("follow") == "true":
            size, begin, data = await in_thread(self.files.follow, *asked)
        else:
            begin = offset
            size, data = await in_thread(self.files.read, *asked)
        told = size if offset == -1 else begin
        return await response.json(request, msgspec.json.encode({"data": data.decode(errors="replace"), "offset": told}))

    async def download(self, request: Request) -> web.StreamResponse:
        path = self._path(request)
        with await in_thread(self.files.open, path) as opened:
            if opened.folder:
                raise CallError(f"path: '{path}' is a folder")
            name = _NOT_IN_HEADERS.sub("?", os.path.basename(path.rstrip("/")))
            media = mimetypes.guess_type(name)[0] or "application/octet-stream"
            headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": media, "X-Content-Type-Options": "nosniff"}
            stream = web.StreamResponse(headers=headers)
            left = opened.size
            stream.content_length = left  # What is appended meanwhile is not part of it.
            await stream.prepare(request)
            while left > 0 and (piece := await in_thread(os.read, opened.descriptor, min(left, 256 * 1024))):
                await stream.write(piece)
                left -= len(piece)
            if left > 0:  # It was truncated meanwhile: the client must see that something is missing.
                raise ConnectionResetError("the file became shorter")
        return stream

    async def debug(self, request: Request) -> web.StreamResponse:
        return await response.json(request, msgspec.json.encode(dict(self.files.attached)))

    def _path(self, request: Request) -> str:
        path = request.query.get("path")
        if not path:
            raise CallError("Expecting 'path=value' in query.")
        if self._allowed is not None:
            self._allowed(request, path)
        return path


def own_log() -> str | None:
    """The file that this process's log goes to, if it is one: what stderr is."""
    try:
        return os.readlink("/proc/self/fd/2") if stat.S_ISREG(os.fstat(2).st_mode) else None
    except OSError:
        return None


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run what may wait for a disk beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def user_name(uid: int) -> str:
    """Return a user's name, its number as text when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _number(request: Request, name: str) -> int:
    """A query parameter that is a number or absent (-1)."""
    text = request.query.get(name, "-1")
    try:
        number = int(text)
    except ValueError:
        raise CallError(f"Failed to parse {name}: '{text}' is no number") from None
    if number < -1:
        raise CallError(f"Negative {name} provided: {number}.")
    return number


def _entry(path: str, found: os.stat_result) -> Entry:
    return Entry(path, found.st_nlink, found.st_size, found.st_mtime, found.st_mode, found.st_uid, found.st_gid)


def _open_below(base: str, real: str, virtual: str) -> Opened:
    """Open a path and make sure that what was opened lies below `base`.

    First only located (O_PATH): a symlink to a device or pipe must not have us open it, as that alone may do something.
    """
    located = -1
    try:
        located = os.open(real, os.O_PATH | os.O_CLOEXEC)
        name = f"/proc/self/fd/{located}"
        found = os.readlink(name)
        if found != base and not found.startswith(base.rstrip("/") + "/"):
            raise CallError(f"path: '{virtual}' leads out of what is shown")
        mode = os.fstat(located).st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise CallError(f"path: '{virtual}' is neither file nor folder")
        return Opened(os.open(name, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        raise _told(error, virtual) from error
    except UnicodeEncodeError:
        raise CallError("path: not a path") from None
    finally:
        if located >= 0:
            os.close(located)


def _told(error: OSError, virtual: str) -> KernelError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"path: there is no '{virtual}'")
    if isinstance(error, PermissionError):
        return HttpError(403, f"path: '{virtual}' may not be read")
    return CallError(f"path: '{virtual}' cannot be read: {error.strerror}")


def list_files(files: Files, call: ListFilesCall) -> ListFiles:
    """Answer LIST_FILES; waits for the disk."""
    return ListFiles(
        tuple(
            FileInfo(
                path=entry.path,
                nlink=entry.nlink,
                size=entry.size,
                mtime=TimeInfo(int(entry.mtime_s * 1e9)),
                mode=entry.mode,
                uid=user_name(entry.uid),
                gid=group_name(entry.gid),
            )
            for entry in files.browse(call.path)
        )
    )


def read_file(files: Files, call: ReadFileCall) -> ReadFile:
    """Answer READ_FILE; waits for the disk."""
    length = READ_BYTES_MAX if call.length is None else call.length
    if call.follow:
        size, begin, data = files.follow(call.path, call.offset, length)
        return ReadFile(size, data, begin)
    return ReadFile(*files.read(call.path, call.offset, length))
