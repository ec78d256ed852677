"""The images of one agent: their layers unpacked once each, shared by all images and containers that have them.

Below its folder: `layers/DIGEST`, `images/HASH.json` (which image has which layers), `new/` for what is being unpacked. A layer is moved
to its place when it is whole, so a crash leaves nothing that is taken for one. Where images come from: a folder of archives
(`--docker_registry=/PATH`, files `NAME:TAG.tar`, or folders in the layout of OCI), else whatever skopeo reaches. All of this waits for
disks and networks: it is for a thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec
from msgspec import Struct

from kernel.agent.images import archive, layers
from kernel.agent.images.collection import Image, unneeded, unused
from kernel.agent.images.config import ImageError, RunConfig
from kernel.agent.images.names import ImageName, parse_name

log = logging.getLogger(__name__)

PULL_S = 1800.0
FRESH_S = 10.0
SUFFIXES = (".tar", ".tar.gz", "")


class Held(Struct, frozen=True):
    """What containers have: names of images in full, and digests of layers."""

    images: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()


class Store:
    """All images of an agent."""

    def __init__(self, folder: str, registry: str) -> None:
        """registry: a folder of archives, or where skopeo pulls from."""
        self.folder, self._registry = folder, registry
        self._lock = threading.Lock()  # Of records, and of what no record has yet.
        self._unpacking: Counter[str] = Counter()  # Layers of images that are being got.
        self._busy: dict[str, threading.Lock] = {}

    def layer(self, digest: str) -> str:
        """Where a layer is."""
        return f"{self.folder}/layers/{digest.removeprefix('sha256:')}"

    def known(self, name: ImageName) -> Image | None:
        """An image that is here, None when it is not."""
        image = _read(self._record(name))
        return image if image is not None and all(os.path.isdir(self.layer(digest)) for digest in image.layers) else None

    def provide(self, text: str, fresh: bool) -> Image:
        """Have an image here. fresh: also where it is here already, get it anew. Raises ImageError, CallError for its name.

        Of several who want the same one gets it, the others wait.
        """
        name = parse_name(text)
        with self._lock:
            busy = self._busy.setdefault(str(name), threading.Lock())
        with busy:
            image = None if fresh else self._use(name)
            return image if image is not None else self._fetch(name)

    def _use(self, name: ImageName) -> Image | None:
        """An image that is here, and is to stay for now."""
        with self._lock:
            image = self.known(name)
            if image is not None:
                self._write(name, image)
            return image

    def images(self) -> list[Image]:
        """All that are here."""
        return [image for image in map(_read, _entries(f"{self.folder}/images")) if image is not None]

    def prune(self, keep: Collection[str], held: Held, older_s: float = 0.0) -> int:
        """Forget the images, by text, that are not to be kept and were not used for so long, and the layers that neither an image nor a
        container has; return how many images went. Raises CallError for what is no name."""
        kept = {str(parse_name(text)) for text in keep} | held.images
        gone = unneeded(self.images(), kept, time.time(), older_s)
        self.forget(gone, held.layers)
        return len(gone)

    def forget(self, images: Sequence[Image], held: Collection[str]) -> None:
        """Forget images, and remove the layers that neither another image has nor anybody holds."""
        with self._lock:
            for image in images:
                record = self._record(parse_name(image.name))
                now = _read(record)
                if now is not None and now.used_s == image.used_s:  # Else somebody has just taken it.
                    os.unlink(record)
            here = {f"sha256:{os.path.basename(path)}" for path in _entries(f"{self.folder}/layers")}
            for digest in unused(here, self.images(), {*held, *self._unpacking}):
                shutil.rmtree(self.layer(digest), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what an agent that was killed had not unpacked to its end."""
        for path in _entries(f"{self.folder}/new"):
            if _is_left(path):
                shutil.rmtree(path, ignore_errors=True)

    # ---- Getting one ------------------------------------------------------------------------------------

    def _fetch(self, name: ImageName) -> Image:
        if self._registry.startswith("/"):
            path = self._archive(name)
            if path is None:
                raise ImageError(f"image {name.short} is not there: {self._registry} has no {name.short}.tar")
            return self._unpack(name, path)
        skopeo = shutil.which("skopeo")
        if skopeo is None:
            raise ImageError(f"image {name} cannot be pulled: skopeo is not installed; install it, or put archives of images into a folder")
        with _Scratch(self.folder) as scratch:
            command = [skopeo, "copy", "--quiet", f"docker://{name}", f"oci:{scratch}/image:{name.tag or 'latest'}"]
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PULL_S, check=False)
            except subprocess.TimeoutExpired:
                raise ImageError(f"image {name} cannot be pulled: it takes more than {PULL_S:g} s") from None
            if done.returncode:
                raise ImageError(f"image {name} cannot be pulled: {done.stderr.decode(errors='replace').strip()[-500:]}")
            return self._unpack(name, f"{scratch}/image")

    def _archive(self, name: ImageName) -> str | None:
        for prefix in (f"{name.registry}/", ""):
            for suffix in SUFFIXES:
                path = f"{self._registry}/{prefix}{name.short}{suffix}"
                if os.path.exists(path):
                    return path
        return None

    def _unpack(self, name: ImageName, path: str) -> Image:
        with archive.opened(path, name.tag) as packed:
            digests = packed.config.rootfs.diff_ids
            with self._lock:
                self._unpacking.update(digests)
            try:
                for index, digest in enumerate(digests):
                    if not os.path.isdir(self.layer(digest)):
                        self._unpack_layer(packed, index, self.layer(digest))
                log.info("image %s has %d layers", name, len(digests))
                image = Image(str(name), tuple(digests), packed.config.config or RunConfig())
                self._write(name, image)
                return image
            finally:
                with self._lock:
                    self._unpacking -= Counter(digests)

    def _unpack_layer(self, packed: archive.Packed, index: int, target: str) -> None:
        with _Scratch(self.folder) as scratch:
            folder = f"{scratch}/layer"
            os.mkdir(folder, 0o755)
            try:
                with archive.layer(packed, index) as stream:
                    layers.unpack(stream, folder)
            except layers.LayerError as error:
                raise ImageError(f"layer {index + 1} of {len(packed.layers)}: {error}") from error
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.rename(folder, target)
            except OSError:
                if not os.path.isdir(target):  # Else another image brought it meanwhile.
                    raise

    # ---- Records ----------------------------------------------------------------------------------------

    def _record(self, name: ImageName) -> str:
        return f"{self.folder}/images/{hashlib.sha256(str(name).encode()).hexdigest()}.json"

    def _write(self, name: ImageName, image: Image) -> None:
        image.used_s = time.time()
        path = self._record(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.new", "wb") as file:
            file.write(msgspec.json.encode(image))
        os.replace(f"{path}.new", path)


class _Scratch:
    """A folder beside the layers that is gone afterwards, and locked meanwhile. A context manager."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/new/{uuid.uuid4().hex}"
        self._lock = -1

    def __enter__(self) -> str:
        os.makedirs(self._path)
        self._lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._path

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)


def _is_left(path: str) -> bool:
    """Whether nobody works in a folder for what is new."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # It has just gone.
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return time.time() - os.stat(path).st_mtime > FRESH_S  # One that was just made is not locked yet.


def _read(record: str) -> Image | None:
    try:
        with open(record, "rb") as file:
            return msgspec.json.decode(file.read(), type=Image)
    except (OSError, msgspec.MsgspecError):
        return None


def _entries(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder) if not entry.name.endswith(".new")]
    except FileNotFoundError:
        return []
