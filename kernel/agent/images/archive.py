"""Images as files: the archive that `docker save` writes, and the layout of OCI, as a folder or as an archive of it.

Every layer is checked against the digest by which its image names it. Sources: OCI image-spec, image-layout.md and manifest.md; Docker's
image specification v1.2 (manifest.json).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol, cast

import msgspec
from msgspec import Struct, field

from kernel.agent.images import zstd
from kernel.agent.images.config import ImageError, RunConfig

DOCUMENT_BYTES_MAX = 16 << 20
REF_NAME = "org.opencontainers.image.ref.name"
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


class RootFs(Struct):
    """diff_ids: digests of the layers, unpacked, lowest first."""

    diff_ids: list[str] = field(default_factory=list)


class Config(Struct):
    """The configuration of an image."""

    rootfs: RootFs
    config: RunConfig | None = None
    architecture: str = ""


class _Saved(Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class _Descriptor(Struct, rename="camel"):
    digest: str
    media_type: str = ""
    annotations: dict[str, str] = {}


class _Index(Struct):
    manifests: list[_Descriptor]


class _Manifest(Struct):
    config: _Descriptor
    layers: list[_Descriptor]


class Files(Protocol):
    """The files of an image, by their names in it."""

    def open(self, name: str) -> IO[bytes]:
        """Raises ImageError when there is none."""


class Packed(Struct):
    """An image that can be read. layers: names of files, lowest first, beside config.rootfs.diff_ids."""

    files: Any
    config: Config
    layers: list[str]


@contextmanager
def opened(path: str, tag: str) -> Iterator[Packed]:
    """Open an image's archive or folder. tag: which image of it, where it has several. Raises ImageError."""
    try:
        if os.path.isdir(path):
            yield _read(_Folder(path), tag)
            return
        with tarfile.open(path, "r:*") as archive:
            yield _read(_Archive(archive), tag)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def layer(image: Packed, index: int) -> Iterator[IO[bytes]]:
    """The content of a layer, unpacked. To be read to its end; its digest is checked then. Raises ImageError."""
    with image.files.open(image.layers[index]) as packed:
        try:
            with _unpacked(packed) as unpacked:
                stream = _Checked(unpacked)
                yield cast("IO[bytes]", stream)
                while stream.read(1 << 20):  # Tar readers stop at the end mark.
                    pass
        except (OSError, EOFError) as error:
            raise ImageError(f"a layer cannot be unpacked: {error}") from error
        digest = f"sha256:{stream.digest.hexdigest()}"
        if digest != image.config.rootfs.diff_ids[index]:
            raise ImageError(f"a layer has the digest {digest}, its image says {image.config.rootfs.diff_ids[index]}")


@contextmanager
def _unpacked(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """A file by what it is packed with: zstd, gzip or nothing."""
    magic = packed.read(4)
    packed.seek(0)
    if magic == b"\x28\xb5\x2f\xfd":
        with zstd.unpacked(packed) as unpacked:
            yield unpacked
    else:
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=packed)) if magic[:2] == b"\x1f\x8b" else packed


class _Checked:
    """A stream that computes the digest of what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


class _Folder:
    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, name: str) -> IO[bytes]:
        if name.startswith("/") or ".." in name.split("/"):
            raise ImageError(f"{name[:200]!r} is no file of an image")
        try:
            return open(os.path.join(self._path, name), "rb")
        except OSError as error:
            raise ImageError(f"it has no file {name}: {error.strerror}") from error


class _Archive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def open(self, name: str) -> IO[bytes]:
        try:
            found = self._archive.extractfile(name)  # A link (older archives have such) is followed inside the archive.
        except KeyError:
            found = None
        if found is None:
            raise ImageError(f"it has no file {name[:200]}")
        return found


def _document(files: Files, name: str, kind: type[Any]) -> Any:
    with files.open(name) as file:
        data = file.read(DOCUMENT_BYTES_MAX)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ImageError(f"its {name[:100]} is not as it must be: {error}") from error


def _read(files: Files, tag: str) -> Packed:
    try:
        saved: list[_Saved] | None = _document(files, "manifest.json", list[_Saved])
    except ImageError:
        saved = None
    if saved is not None:
        return _read_saved(files, saved, tag)
    index: _Index = _document(files, "index.json", _Index)
    found = [entry for entry in index.manifests if entry.annotations.get(REF_NAME, tag) == tag] or index.manifests[:1]
    if not found:
        raise ImageError("it has no manifest")
    entry = found[0]
    if entry.media_type in _INDEXES:
        entry = _document(files, _blob(entry.digest), _Index).manifests[0]
    manifest: _Manifest = _document(files, _blob(entry.digest), _Manifest)
    return _packed(files, _blob(manifest.config.digest), [_blob(entry.digest) for entry in manifest.layers])


def _read_saved(files: Files, saved: list[_Saved], tag: str) -> Packed:
    if not saved:
        raise ImageError("its manifest.json names no image")
    found = next((entry for entry in saved if any(name.endswith(f":{tag}") for name in entry.repo_tags or ())), saved[0])
    return _packed(files, found.config, found.layers)


def _packed(files: Files, config_name: str, layers: list[str]) -> Packed:
    config: Config = _document(files, config_name, Config)
    if len(config.rootfs.diff_ids) != len(layers):
        raise ImageError(f"it has {len(layers)} layers, its configuration speaks of {len(config.rootfs.diff_ids)}")
    for digest in config.rootfs.diff_ids:
        _blob(digest)
    return Packed(files, config, layers)


def _blob(digest: str) -> str:
    """Where a layout has what has this digest. Raises ImageError: a digest becomes a path."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ImageError(f"{digest[:100]!r} is no sha256 digest")
    return f"blobs/sha256/{value}"
