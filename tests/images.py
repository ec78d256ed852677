"""Small images for tests, made of nothing but busybox: as `docker save` writes them and in the layout of OCI."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
APPLETS = (
    "sh", "cat", "cut", "echo", "env", "grep", "hostname", "httpd", "id", "ip", "ls", "mkdir", "mount", "nc", "netstat", "ping", "ps",
    "pwd", "setsid", "sleep", "stat", "test", "touch", "true", "unshare", "wget", "yes",
)  # fmt: skip


def entry(name: str, content: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a layer: a file with content, else a folder unless `type` says what."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = (tarfile.DIRTYPE, 0o755) if content is None else (tarfile.REGTYPE, 0o644)
    info.size = len(content or b"")
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content or b""


def link(name: str, target: str, hard: bool = False) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, None, type=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target)


def layer(entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A layer as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def base() -> bytes:
    """A layer in which a shell runs."""
    folders = [entry(name) for name in ("bin", "etc", "proc", "sys", "dev", "tmp")]
    program = entry("bin/busybox", Path(BUSYBOX).read_bytes(), mode=0o755)
    users = entry("etc/passwd", b"root:x:0:0:root:/:/bin/sh\napp:x:1234:1234::/:/bin/sh\n")
    groups = entry("etc/group", b"root:x:0:\napp:x:1234:\nteam:x:77:app\n")
    return layer([*folders, program, users, groups, *(link(f"bin/{applet}", "busybox") for applet in APPLETS)])


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(layers: Sequence[bytes], **run: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(one) for one in layers]}
    document = {"architecture": "amd64", "os": "linux", "config": run, "rootfs": rootfs}
    return json.dumps(document).encode()


def save(path: Path, layers: Sequence[bytes], name: str = "test:1", **run: Any) -> Path:
    """An archive as `docker save` writes it. run: the image's own settings, as Env or Cmd."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    files = {"config.json": config(layers, **run), **dict(zip(names, layers, strict=True)), "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as archive:
        for file, data in files.items():
            archive.addfile(*_file(file, data))
    return path


def lay_out(path: Path, layers: Sequence[bytes], pack: Callable[[bytes], bytes] = gzip.compress, **run: Any) -> Path:
    """A folder in the layout of OCI, layers packed."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes) -> dict[str, Any]:
        (blobs / digest(data).removeprefix("sha256:")).write_bytes(data)
        return {"digest": digest(data), "size": len(data)}

    manifest = {"schemaVersion": 2, "config": put(config(layers, **run)), "layers": [put(pack(one)) for one in layers]}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode())]}))
    return path


def _file(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, io.BytesIO(data)
