"""Where persistent volumes lie and how tasks get to them (spec: mesos-v1, sections 6.2 and 8.4). Pure; touches no disk."""

from __future__ import annotations

import hashlib
import posixpath

from msgspec import Struct

from kernel.agent.containerizer.kinds import Containerizer
from kernel.errors import CallError
from kernel.wire.common import VolumeMode
from kernel.wire.conversion import persistence_id
from kernel.wire.ids import validate_id
from kernel.wire.resources import DiskSourceType, Key, Resources
from kernel.wire.roles import validate_role


class VolumePlace(Struct, frozen=True, omit_defaults=True):
    """A volume on this machine.

    token: of its making, as another one may be made in the same place after it. base: the folder below which it lies, with what
    was removed from there. whole: it is all of a disk (`path` is `base`). shared: tasks of several users may use it.
    marker: the file that says which volume was made there.
    """

    path: str
    base: str
    marker: str
    token: str
    whole: bool = False
    shared: bool = False


class Mount(Struct, frozen=True):
    """A volume of a task. container_path: where that sees it, relative to its sandbox or absolute."""

    place: VolumePlace
    container_path: str
    read_only: bool = False


def place_of(work_dir: str, key: Key, token: str) -> VolumePlace:
    """Where a volume lies. Raises CallError for an id or role that is none, or a disk without a root."""
    path, base, whole = _path(work_dir, key)
    marker = f"{work_dir}/meta/volumes/{hashlib.sha256(path.encode()).hexdigest()}"
    return VolumePlace(path, base, marker, token, whole, key.shared)


def root_of(work_dir: str, key: Key) -> str | None:
    """The root of a disk of type PATH or MOUNT, None for what is in the work dir. Raises CallError for a disk without one."""
    source = key.disk.source if key.disk is not None else None
    if source is None:
        return None
    kind = source.type
    if kind not in (DiskSourceType.PATH, DiskSourceType.MOUNT):
        raise CallError(f"disk.source.type: a {kind.value} disk needs a resource provider; allowed are PATH and MOUNT")
    named = source.path if kind is DiskSourceType.PATH else source.mount
    if named is None or not named.root or ".." in named.root.split("/"):
        raise CallError(f"disk.source: a {kind.value} disk needs a root without '..'")
    return posixpath.normpath(posixpath.join(work_dir, named.root))


def bases(work_dir: str, total: Resources) -> list[str]:
    """The folders below which an agent with these resources may have had volumes."""
    found = [f"{work_dir}/volumes"]
    for key in total.other or ():
        root = root_of(work_dir, key)
        if root is not None:
            found.append(root if _is_whole(key) else f"{root}/volumes")
    return found


def _is_whole(key: Key) -> bool:
    return key.disk is not None and key.disk.source is not None and key.disk.source.type is DiskSourceType.MOUNT


def _path(work_dir: str, key: Key) -> tuple[str, str, bool]:
    validate_id(persistence_id(key), "disk.persistence.id")
    validate_role(key.role, "role")
    root = root_of(work_dir, key)
    if root is not None and _is_whole(key):
        return root, root, True
    base = f"{root or work_dir}/volumes"
    # A role's name may contain slashes and no spaces, a folder's the other way round (as in Mesos).
    return f"{base}/roles/{key.role.replace('/', ' ')}/{persistence_id(key)}", base, False


def unsupported_mounts(volumes: list[Key], kind: Containerizer) -> str | None:
    """What a task asks for of its volumes that it cannot have, in words for its user."""
    for key in volumes:
        volume = key.use.volume if key.use is not None else None
        if volume is None:
            return f"the volume '{persistence_id(key)}' needs disk.volume, to say where it is to be seen"
        parts = [part for part in volume.container_path.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            return f"the volume's container_path {volume.container_path!r} is no path below the sandbox"
        if kind is Containerizer.PROCESS and volume.container_path.startswith("/"):
            return f"the volume's container_path {volume.container_path!r} must be relative where there is no image"
        if kind is Containerizer.PROCESS and volume.mode is VolumeMode.RO:
            return f"the volume at {volume.container_path!r} can be read-only in images only"
    return None


def mounts(places: dict[str, VolumePlace], work_dir: str, keys: list[Key]) -> tuple[Mount, ...]:
    """How these volumes are mounted; places: by path, those that are here."""
    found = []
    for key in keys:
        place = places.get(_path(work_dir, key)[0])
        volume = key.use.volume if key.use is not None else None
        if place is not None and volume is not None:
            found.append(Mount(place, posixpath.normpath(volume.container_path), volume.mode is VolumeMode.RO))
    return tuple(found)
