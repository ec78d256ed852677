"""Containers: real ones on one real agent, from the command to the acknowledged end of all, beside bare loops that start the same.

`meseta run --image ... --instances N -- true` on an embedded cluster with one agent, whose containers are run by the agent (oci) or by a
Docker engine. Beside it, round by round: `runc run` of a bundle on the same files, and `docker run` where an engine answers; four at a
time. Medians of the rounds. The image is busybox alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.cluster import Cluster
from bench.report import BenchError, NotMeasured, Report

IN_FLIGHT = 4
IMAGE = "meseta-bench:1"
SOCKET = "/var/run/docker.sock"
PUBLISHED = {
    "runc run of a bundle, no network (our measurement, 2 cores of a virtual machine)": "23/s to 28/s",
    "docker 20.10, create, start, wait and remove, host network, 4 at a time (same)": "6.5/s",
}


def run(containerizer: str, instances: int, rounds: int, socket: str = SOCKET) -> Report:
    """Measure. containerizer: `oci` or `docker`; socket: of the engine. Raises BenchError; NotMeasured when what is to be measured is not
    here."""
    if os.geteuid() != 0:
        raise NotMeasured("images are run by root only")
    busybox, runc = shutil.which("busybox"), shutil.which("runc")
    if busybox is None or runc is None:
        raise NotMeasured("busybox and runc must be installed")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meseta-bench-")))
        _save(folder / f"{IMAGE}.tar", Path(busybox))
        missing = {}
        ways: dict[str, Callable[[int], float]] = {}
        engine = _engine(socket)
        if engine is None:
            missing["docker run"] = f"NOT MEASURED: no Docker engine answers at {socket}"
        if containerizer == "docker":
            if engine is None:
                raise NotMeasured(f"no Docker engine answers at {socket}")
            cluster = stack.enter_context(Cluster(MESETA_DOCKER_SOCKET=socket))
        else:
            cluster = stack.enter_context(Cluster(MESETA_DOCKER_REGISTRY=str(folder)))
        ways[containerizer] = lambda count: _launch(cluster, containerizer, count)
        bundle = _bundle(folder, runc)
        ways["runc"] = lambda count: _xargs(count, runc, "--root", f"{folder}/state", "run", "--bundle", str(bundle), "bench-{}")
        if engine is not None:
            stack.enter_context(_loaded(engine, folder))
            ways["docker_run"] = lambda count: _xargs(count, *engine, "run", "--rm", "--network", "host", IMAGE, "true")
        times: dict[str, list[float]] = {name: [] for name in ways}
        ways[containerizer](min(instances, IN_FLIGHT))  # The image is unpacked.
        for _ in range(rounds):
            for name, measure in ways.items():
                times[name].append(measure(instances))
    results = {f"{name}_per_s": instances / statistics.median(seconds) for name, seconds in times.items()}
    for name in times.keys() - {containerizer}:
        pairs = zip(times[name], times[containerizer], strict=True)
        results[f"{containerizer}_to_{name}"] = statistics.median(theirs / ours for theirs, ours in pairs)
    params: dict[str, int | float | str] = {"containerizer": containerizer, "instances": instances, "rounds": rounds}
    return Report("launch", params, results, PUBLISHED | missing)


def _launch(cluster: Cluster, containerizer: str, instances: int) -> float:
    """Seconds for so many containers."""
    began_s = time.perf_counter()
    kind = ("--containerizer", containerizer, "--image", IMAGE)
    cluster.meseta("run", "--instances", str(instances), "--cpus", "0.01", "--mem", "32", *kind, "--", "true")
    return time.perf_counter() - began_s


def _xargs(instances: int, *command: str) -> float:
    """Seconds for so many runs of a command, in which {} is the number."""
    began_s = time.perf_counter()
    lines = "\n".join(map(str, range(instances)))
    done = subprocess.run(["xargs", "-P", str(IN_FLIGHT), "-I", "{}", *command], input=lines, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return time.perf_counter() - began_s


def _save(path: Path, busybox: Path) -> None:
    """The image as `docker save` writes it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        archive.add(busybox.resolve(), "bin/busybox")
        for name in ("sh", "true"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["0/layer.tar"]}]
    files = {"config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    with tarfile.open(path, "w") as archive:
        for name, data in {"0/layer.tar": layer.getvalue(), **{name: text.encode() for name, text in files.items()}}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _digest(data: io.BytesIO) -> str:
    return f"sha256:{hashlib.sha256(data.getvalue()).hexdigest()}"


def _bundle(folder: Path, runc: str) -> Path:
    """The image's files, and what runc is to do with them."""
    bundle = folder / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    with tarfile.open(folder / f"{IMAGE}.tar") as image:
        layer = image.extractfile("0/layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=layer) as files:
            files.extractall(bundle / "rootfs", filter="fully_trusted")
    subprocess.run([runc, "spec", "--bundle", str(bundle)], check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["true"], "env": ["PATH=/bin"]}
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] not in ("network", "cgroup")]
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def _engine(socket: str) -> tuple[str, ...] | None:
    """The client of the engine at a socket, None when none answers there."""
    client = shutil.which("docker")
    if client is None or not os.path.exists(socket):
        return None
    command = (client, "--host", f"unix://{socket}")
    return command if subprocess.run([*command, "version"], capture_output=True, timeout=30, check=False).returncode == 0 else None


@contextmanager
def _loaded(engine: tuple[str, ...], folder: Path) -> Iterator[None]:
    """The image is known to the engine."""
    done = subprocess.run([*engine, "load", "--input", str(folder / f"{IMAGE}.tar")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"docker load failed: {done.stderr[-500:]}")
    try:
        yield
    finally:
        subprocess.run([*engine, "image", "rm", "--force", IMAGE], capture_output=True, check=False)
