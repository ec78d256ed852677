"""Containers in images of their own, without a daemon: bundles for runc, on overlays of the images' layers.

What is run is `runc run --detach`, started by the launcher like any process; the container's first process is then the launcher's child and
lives as others do. Here its bundle is made and taken away. All of this waits for disks: it is for a thread.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from kernel.agent import nvidia
from kernel.agent.containerizer import oci_spec, oci_state
from kernel.agent.containerizer.oci_spec import Bundle, DeviceFile, User
from kernel.agent.containerizer.oci_users import BundleError, user_of
from kernel.agent.containerizer.seccomp_profiles import Profiles
from kernel.agent.effects import Beside, LaunchContainer, LaunchProbe
from kernel.agent.gpus import Gpu
from kernel.agent.images.collection import Image
from kernel.agent.images.config import RunConfig
from kernel.agent.images.store import Held, Store
from kernel.agent.launcher import client, processes
from kernel.agent.launcher.processes import CONTAINER_VARIABLE
from kernel.agent.networks import cni, wishes
from kernel.agent.networks.networks import NAMESPACE, RECORD, Networks
from kernel.agent.networks.wishes import NONE
from kernel.agent.sessions import Entry, Guest
from kernel.agent.volumes import disk
from kernel.errors import KernelError
from kernel.wire.container import NetworkInfo

log = logging.getLogger(__name__)

DELETE_S = 30.0
PASSES_MAX = 100
GPU_HOOK = "nvidia-container-runtime-hook"  # Of NVIDIA's container toolkit.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def image_of(launch: LaunchContainer) -> tuple[str, bool]:
    """Which image a container is to have, and whether it is to be got anew."""
    image = launch.info.mesos.image if launch.info is not None and launch.info.mesos is not None else None
    assert image is not None, "what is run in an image names one"
    assert image.docker is not None, "others were refused before"
    return image.docker.name, not image.cached


class Bundles:
    """The bundles of one agent's containers, below a folder of its own."""

    def __init__(
        self,
        folder: str,
        store: Store,
        networks: Networks,
        profiles: Profiles,
        sandbox_path: str,
        cgroup: str,
        device_dir: str = "/dev",
    ) -> None:
        """sandbox_path: where containers see their sandbox. cgroup: below which control group they are, as `/meseta/1234`. device_dir:
        where the device files of GPUs are."""
        self._folder, self._store, self._networks, self._profiles = folder, store, networks, profiles
        self._sandbox_path, self._cgroup, self._device_dir = sandbox_path, cgroup, device_dir
        self._joined: dict[str, tuple[NetworkInfo, ...]] = {}
        self.used = os.path.isdir(f"{folder}/bundles")  # Whether there may be any.

    def join(self, launch: LaunchContainer) -> None:
        """Give a container that is to be made the networks that it asks for. Takes as long as programs of others; for any thread. Raises
        KernelError, and leaves nothing."""
        if launch.info is None or not wishes.apart(launch.info.network_infos):
            return
        path = self._bundle(launch.container_id)
        self.used = True
        try:
            _runc()
            os.makedirs(path, exist_ok=True)
            self._networks.join(launch.container_id, path, launch.info.network_infos)
        except OSError as error:
            self.remove(launch.container_id)
            raise BundleError(f"cannot make a network: {error.filename or ''}: {error.strerror}") from error
        except KernelError:
            self.remove(launch.container_id)
            raise
        self.recall(launch.container_id)

    def recall(self, container_id: str) -> None:
        """What was done for a container by an agent before us is known again."""
        path = self._bundle(container_id)
        joined = self._networks.joined(path)
        if joined is not None:
            self._networks.again(container_id, path)
            self._joined[container_id] = tuple(map(cni.status, joined)) or (NetworkInfo(name=NONE),)

    def networks(self, container_id: str) -> tuple[NetworkInfo, ...]:
        """What a container has joined; empty for the machine's network."""
        return self._joined.get(container_id, ())

    def prepare(self, launch: LaunchContainer, image: Image) -> client.Launch:
        """Make a container's bundle; return how it is started. Raises BundleError."""
        runc = _runc()
        if os.geteuid() != 0:
            raise BundleError("images need an agent that runs as root")
        path = self._bundle(launch.container_id)
        self.used = True
        try:
            os.makedirs(path, exist_ok=True)
            with open(f"{path}/image.json.new", "w", encoding="utf-8") as file:
                json.dump({"name": image.name, "layers": image.layers}, file)
            os.rename(f"{path}/image.json.new", f"{path}/image.json")
            rootfs = self._mount(path, image)
            self._write(path, rootfs, launch, image.config)
        except OSError as error:
            self.remove(launch.container_id)
            raise BundleError(f"cannot make the container: {error.filename or ''}: {error.strerror}") from error
        except BaseException:
            self.remove(launch.container_id)
            raise
        pidfile = f"{path}/pid"
        command = (runc, "--root", self._state, "--log", f"{path}/log", "run", "--detach", "--bundle", path, "--pid-file", pidfile)
        return client.Launch(
            launch.container_id,
            (*command, launch.container_id),
            {"PATH": SYSTEM_PATH},
            path,
            f"{launch.directory}/stdout",
            f"{launch.directory}/stderr",
            runc,
            pidfile=pidfile,
        )

    def has(self, container_id: str) -> bool:
        """Whether it is a container with an image."""
        return self.used and os.path.isdir(self._bundle(container_id))

    def prepare_probe(self, probe: LaunchProbe) -> client.Launch:
        """How the command of a check is started inside its task's container, with all that the task's process has. Raises BundleError."""
        change = {"args": list(probe.argv)}
        files = probe.output, probe.output
        launch = self._prepare_inside(probe.container_id, probe.task_container_id, change, probe.variables, files)
        try:
            with open(f"{self._bundle(probe.container_id)}/probed", "w", encoding="utf-8") as file:
                file.write(probe.task_container_id)
        except OSError as error:
            self.remove(probe.container_id)
            raise BundleError(f"cannot make the command ready: {error.strerror}") from error
        return launch

    def prepare_beside(self, launch: LaunchContainer, beside: Beside) -> client.Launch:
        """The same for a container inside another. Raises BundleError."""
        directory = self._sandbox_path + launch.directory.removeprefix(beside.directory)
        argv = launch.argv if launch.shell else (launch.executable, *launch.argv[1:])  # As a runtime of containers has it.
        change: dict[str, Any] = {"args": list(argv), "cwd": directory}
        user = self._user_inside(launch, beside)
        if user is not None:
            change["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)}
        variables = {**launch.variables, "MESOS_SANDBOX": directory}
        files = f"{launch.directory}/stdout", f"{launch.directory}/stderr"
        return self._prepare_inside(launch.container_id, beside.container_id, change, variables, files)

    def owner(self, launch: LaunchContainer, beside: Beside) -> tuple[int, int] | None:
        """Whose the sandbox of such a container is; None for the other's user. Raises BundleError."""
        user = self._user_inside(launch, beside)
        return None if user is None else (user.uid, user.gid)

    def _user_inside(self, launch: LaunchContainer, beside: Beside) -> User | None:
        return None if launch.user is None else user_of(launch.user, None, f"{self._bundle(beside.container_id)}/rootfs")

    def _prepare_inside(
        self, container_id: str, host: str, change: dict[str, Any], variables: Mapping[str, str], files: tuple[str, str]
    ) -> client.Launch:
        """How something is started inside a container: by `runc exec`, with all that its process has but for what is changed. It has a
        folder of its own beside the bundles, which says whose it is; `remove` ends what it left running. Raises BundleError."""
        runc, path = _runc(), self._bundle(container_id)
        try:
            with open(f"{self._bundle(host)}/config.json", encoding="utf-8") as file:
                process = json.load(file)["process"]
            told = {**process, **change, "env": oci_spec.overridden(process["env"], {**variables, CONTAINER_VARIABLE: container_id})}
            os.makedirs(path, mode=0o700, exist_ok=True)
            for name, text in (("host", host), ("process.json", json.dumps(told))):
                with open(f"{path}/{name}", "w", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:  # That container has just ended, or the disk is full.
            self.remove(container_id)
            raise BundleError(f"cannot make the command ready: {error.filename or ''}: {error.strerror}") from error
        told_by = ("--process", f"{path}/process.json", "--pid-file", f"{path}/pid")
        command = (runc, "--root", self._state, "--log", f"{path}/log", "exec", "--detach", *told_by, host)
        return client.Launch(container_id, command, {"PATH": SYSTEM_PATH}, path, *files, runc, pidfile=f"{path}/pid")

    def entry(self, place: LaunchContainer, guest: Guest) -> Entry:
        """How a process gets into a container that runs: `runc exec`. Variables are those of its own process, and what of these differs."""
        runc = shutil.which("runc", path=SYSTEM_PATH) or "runc"
        host = place.beside.container_id if place.beside is not None else place.container_id
        options = ["--tty"] if guest.terminal else []
        if guest.user is not None:
            found = user_of(guest.user, None, f"{self._bundle(host)}/rootfs")
            options += ["--user", f"{found.uid}:{found.gid}"]
        for name, value in guest.env.items():
            if place.env.get(name) != value:
                options += ["--env", f"{name}={value}"]
        command = (runc, "--root", self._state, "exec", *options, host, *guest.argv)
        return Entry(command, {"PATH": SYSTEM_PATH, "TERM": guest.env.get("TERM", "xterm")}, "/", None, lambda pid: None)

    def probed_ended(self, container_id: str) -> bool:
        """Whether this was to be started for a check of a container that has ended: that it could not be says nothing then."""
        host = _text(f"{self._bundle(container_id)}/probed")
        return bool(host) and oci_state.ended(f"{self._state}/{host}")

    def remove(self, container_id: str) -> None:
        """Take away all there is of a container, its processes included. One that is gone is fine."""
        path = self._bundle(container_id)
        if not os.path.isdir(path):
            return
        host = _text(f"{path}/host")
        if host:
            self._end_rest(host, container_id)
        state = f"{self._state}/{container_id}"
        if os.path.isdir(state) and not oci_state.remove(state):
            runc = shutil.which("runc", path=SYSTEM_PATH) or "runc"
            command = [runc, "--root", self._state, "delete", "--force", container_id]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DELETE_S, check=False)
            if done.returncode:
                log.warning("container %s: %s", container_id, done.stderr.decode(errors="replace").strip()[-300:])
        _libc.umount2(os.fsencode(f"{path}/rootfs"), _MNT_DETACH)
        self._joined.pop(container_id, None)
        if self._networks.leave(container_id, path):
            shutil.rmtree(path, ignore_errors=True)
            return
        for name in set(os.listdir(path)) - {NAMESPACE, RECORD}:  # It is tried again when the launcher tells its state.
            shutil.rmtree(f"{path}/{name}", ignore_errors=True)

    def held(self) -> Held:
        """What containers have of images."""
        texts = filter(None, (_text(f"{self._bundle(container_id)}/image") for container_id in self.leftovers(())))
        images = [json.loads(text) for text in texts]  # Some bundles are just being made, or taken away.
        return Held(frozenset(image["name"] for image in images), frozenset(digest for image in images for digest in image["layers"]))

    def leftovers(self, known: Collection[str]) -> set[str]:
        """Containers that have bundles and are not known."""
        try:
            return {entry.name for entry in os.scandir(f"{self._folder}/bundles")} - set(known)
        except FileNotFoundError:
            return set()

    def _end_rest(self, host: str, container_id: str) -> None:
        """End what was started inside a container by the command of a check that has ended. What left its group belongs to the container's
        first process by then, but is in the container's control groups still."""
        for _ in range(PASSES_MAX):  # What starts others faster than that ends with the task.
            if not sum(processes.kill_marked(pid, container_id) for pid in oci_state.members(f"{self._state}/{host}")):
                return

    @property
    def _state(self) -> str:
        return f"{self._folder}/state"

    def _bundle(self, container_id: str) -> str:
        return f"{self._folder}/bundles/{container_id}"

    def _mount(self, path: str, image: Image) -> str:
        """Lay a folder of the container's own over the image's layers. A repeat finds it done."""
        rootfs = f"{path}/rootfs"
        if os.path.ismount(rootfs):
            return rootfs
        for name in ("rootfs", "upper", "work"):
            os.makedirs(f"{path}/{name}", exist_ok=True)
        os.chmod(path, 0o711)  # The container's user passes through.
        os.chmod(f"{path}/upper", 0o755)
        lower = ":".join(self._store.layer(digest) for digest in reversed(image.layers))
        options = f"lowerdir={lower},upperdir={path}/upper,workdir={path}/work"
        if len(options) >= os.sysconf("SC_PAGE_SIZE"):
            raise BundleError(f"the image has {len(image.layers)} layers, more than can be laid over each other here")
        if _libc.mount(b"overlay", os.fsencode(rootfs), b"overlay", 0, os.fsencode(options)) != 0:
            code = ctypes.get_errno()
            raise BundleError(f"cannot lay the image's layers over each other: {os.strerror(code)}")
        return rootfs

    def _write(self, path: str, rootfs: str, launch: LaunchContainer, config: RunConfig) -> None:
        assert launch.info is not None, "what is run in an image says so"
        user = user_of(launch.user, config.user, rootfs)
        os.chown(launch.directory, user.uid, user.gid)
        joined = self._networks.joined(path)
        env = {**launch.env, CONTAINER_VARIABLE: launch.container_id, "MESOS_SANDBOX": self._sandbox_path}
        if joined is None:
            files = {name: name for name in oci_spec.NETWORK_FILES if os.path.isfile(name)}
        else:
            files, own = _network_files(path, launch, joined)
            env |= own
        for mount in launch.volumes:
            disk.own(mount, (user.uid, user.gid))
        devices, gpu_hook = _gpu_parts(launch.gpus, self._device_dir) if launch.gpus else ((), "")
        bundle = Bundle(
            launch.container_id,
            rootfs,
            launch.argv,
            env,
            launch.shell,
            launch.directory,
            self._sandbox_path,
            f"{self._cgroup}/{launch.container_id}",
            user,
            launch.info,
            "" if joined is None else f"{path}/{NAMESPACE}",
            files,
            self._profiles.profile(launch.info),
            os.uname().machine,
            os.uname().release,
            devices,
            gpu_hook,
            launch.volumes,
        )
        if not oci_spec.arguments(bundle.argv, bundle.shell, config):
            raise BundleError("the image says nothing of what to run, and the task does neither")
        _make_sources(bundle)
        with open(f"{path}/config.json", "wb") as file:
            file.write(msgspec.json.encode(oci_spec.spec(bundle, config)))


def _gpu_parts(gpus: Sequence[Gpu], device_dir: str) -> tuple[tuple[DeviceFile, ...], str]:
    """The device files of a container with GPUs, and the program that puts the driver's libraries beside them."""
    nodes = {gpu.path: gpu.node for gpu in gpus if gpu.node is not None} | nvidia.controls(device_dir)
    hook = shutil.which(GPU_HOOK, path=SYSTEM_PATH)
    if hook is None:
        log.warning("a container with GPUs has not the driver's libraries but what its image brings: %s is not installed", GPU_HOOK)
    return tuple(DeviceFile(f"/dev/{os.path.basename(path)}", *node) for path, node in nodes.items()), hook or ""


def _runc() -> str:
    """Raises BundleError."""
    runc = shutil.which("runc", path=SYSTEM_PATH)
    if runc is None:
        raise BundleError("images need runc, which is not installed on this agent")
    return runc


def _text(path: str) -> str:
    """What is in a file; nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _network_files(path: str, launch: LaunchContainer, joined: Sequence[cni.Attachment]) -> tuple[dict[str, str], dict[str, str]]:
    """Write what a container sees of networks of its own: files by their paths in it, and where they are; and variables."""
    assert launch.info is not None
    name = oci_spec.hostname(launch.info, launch.container_id)
    results = [attachment.result or {} for attachment in joined]
    addresses = [address for result in results for address in cni.addresses(result)]
    dns = next((found for found in map(cni.dns, results) if found.nameservers), cni.Dns())
    texts = {
        "/etc/hosts": cni.hosts([name], addresses),
        "/etc/hostname": f"{name}\n",
        "/etc/resolv.conf": cni.resolv_conf(dns, _text("/etc/resolv.conf") if joined else ""),
    }
    files = {}
    for target, text in texts.items():
        files[target] = f"{path}/{os.path.basename(target)}"
        with open(files[target], "w", encoding="utf-8") as file:
            file.write(text)
    return files, {"LIBPROCESS_IP": "0.0.0.0", "MESOS_CONTAINER_IP": addresses[0]} if addresses else {}


def _make_sources(bundle: Bundle) -> None:
    """Make the volumes that are in the sandbox, and see that they are there: fetched files may be links to anywhere."""
    for volume in bundle.info.volumes:
        source = oci_spec.volume_source(volume, bundle.sandbox)
        if source.startswith(f"{bundle.sandbox}/"):
            os.makedirs(source, exist_ok=True)
            if not os.path.realpath(source).startswith(f"{os.path.realpath(bundle.sandbox)}/"):
                raise BundleError(f"volume {volume.container_path}: its source leads out of the sandbox")
        elif not os.path.exists(source):
            raise BundleError(f"volume {volume.container_path}: {source} does not exist on this agent")
