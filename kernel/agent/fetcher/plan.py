"""What a URI of a task asks for: where it comes from, under which name it ends, what is done with it. Pure.

What is wrong with a URI itself is found out here, before anything is fetched.
"""

from __future__ import annotations

import posixpath
import re

from msgspec import Struct

from kernel.errors import KernelError
from kernel.wire.command import URI

LOCAL = "file"
WEB = ("http", "https")
PROGRESS_EVERY_S = 10.0  # How often a long download is heard of in the log.
SHOWN_MAX = 500  # Characters of a name or URI in a message.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".gz")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHECKSUM = re.compile(r"#sha256=([^#]*)\Z")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")


class FetchError(KernelError):
    """Something cannot be fetched; the text says what and why, for the task's user."""


class Wanted(Struct, frozen=True):
    """One file to fetch.

    uri: without the checksum. shown: without what may be secret. scheme: `file` for local paths, of which path is one. output: where
    it goes, relative to the sandbox. archive: it is extracted, as what its suffix says. cache: what it is kept under, None for not at
    all. sha256: lower case.
    """

    uri: str
    shown: str
    scheme: str
    path: str
    output: str
    archive: str | None
    executable: bool
    cache: str | None
    sha256: str | None


def plan(uri: URI, frameworks_home: str = "") -> Wanted:
    """Read one URI. frameworks_home: where relative paths begin. Raises FetchError."""
    visible = shown(uri.value)
    try:
        return _plan(uri, visible, frameworks_home)
    except FetchError as error:
        raise failed(visible, str(error)) from None


def failed(shown: str, why: str) -> FetchError:
    """The error as its user reads it."""
    return FetchError(f"Failed to fetch {_cut(shown)}: {why}")


def quoted(name: str) -> str:
    """A name that somebody made up, as it may be part of a message."""
    return repr(_cut(name))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


def _plan(uri: URI, visible: str, frameworks_home: str) -> Wanted:
    value, sha256 = _split_checksum(uri.value)
    if not value or "\0" in value:
        raise FetchError("a URI must have characters, and none of them zero")
    found = _SCHEME.match(value)
    scheme = found[1].lower() if found is not None else LOCAL
    path = _local_path(value, frameworks_home) if scheme == LOCAL else ""
    output = uri.output_file or _name(value, scheme)
    _check_output(output)
    executable = uri.executable or False
    archive = None if executable or not uri.extract else archive_suffix(output)
    return Wanted(value, visible, scheme, path, output, archive, executable, uri.value if uri.cache else None, sha256)


def shown(value: str) -> str:
    """A URI without its user's name and password, and without its query, which may be a signature."""
    found = _SCHEME.match(value)
    if found is None or found[1].lower() == LOCAL:
        return value
    authority, slash, rest = value[found.end() :].partition("/")
    rest = re.sub(r"\?[^#]*", "?...", rest, count=1)
    return found[0] + authority.rpartition("@")[2].partition("?")[0] + slash + rest


def archive_suffix(name: str) -> str | None:
    """The suffix by which a file is extracted, None when it is not an archive."""
    return max((suffix for suffix in ARCHIVES if name.endswith(suffix)), key=len, default=None)


def _split_checksum(value: str) -> tuple[str, str | None]:
    found = _CHECKSUM.search(value)
    if found is None:
        return value, None
    if _SHA256.fullmatch(found[1]) is None:
        raise FetchError("the checksum after #sha256= must be 64 hexadecimal digits")
    return value[: found.start()], found[1].lower()


def _local_path(value: str, frameworks_home: str) -> str:
    path = value
    if (found := _SCHEME.match(value)) is not None:
        host, slash, rest = value[found.end() :].partition("/")
        if host not in ("", "localhost") or not slash:
            raise FetchError("file:// is followed by an absolute path on the agent's machine")
        path = slash + rest
    if path.startswith("/"):
        return path
    if not frameworks_home:
        raise FetchError("a relative path needs an agent with --frameworks-home")
    return posixpath.join(frameworks_home, path)


def _name(value: str, scheme: str) -> str:
    """The last part of the path, as it is written. Of what the Web has without the query, which Mesos keeps."""
    rest = value.partition("://")[2] if "://" in value else "/" + value
    if scheme in WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    path = rest.partition("/")[2]
    name = path.rpartition("/")[2]
    if name in ("", ".", ".."):
        raise FetchError("it does not end in the name of a file; give it an output_file")
    return name


def _check_output(output: str) -> None:
    if output.startswith("/") or output.endswith("/") or "\0" in output or ".." in output.split("/"):
        raise FetchError(f"the output_file {quoted(output)} must be a path inside the sandbox, without '..'")
    if posixpath.normpath(output) == ".":
        raise FetchError(f"the output_file {quoted(output)} names no file")
