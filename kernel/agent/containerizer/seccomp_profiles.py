"""Which filter of system calls a container has: the task's, else the agent's, else ours (`seccomp_default`)."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from functools import cached_property

from kernel.agent.containerizer import seccomp
from kernel.agent.containerizer.seccomp import Profile, SeccompError
from kernel.agent.containerizer.seccomp_default import DEFAULT
from kernel.errors import ConfigError
from kernel.wire.container import ContainerInfo

log = logging.getLogger(__name__)

FEATURES_S = 30.0


class Profiles:
    """The profiles of an agent. Files are read when a container is made."""

    def __init__(self, folder: str, name: str) -> None:
        """folder: of profiles; name: the one for containers that ask for none, empty for ours. Raises ConfigError."""
        self._folder, self._name = folder, name
        if name:
            try:
                self._read(name)
            except SeccompError as error:
                raise ConfigError(f"--seccomp_profile_name: {error}") from error

    def profile(self, info: ContainerInfo) -> Profile | None:
        """The profile of a container, None for no filter. Raises SeccompError."""
        asked = info.linux_info.seccomp if info.linux_info is not None else None
        name = (asked.profile_name if asked is not None else None) or ""
        if asked is not None and asked.unconfined:
            return None
        if not self._supported:
            if name or self._name:
                raise SeccompError(f"seccomp profile {name or self._name!r}: the runc of this agent was built without seccomp")
            return None
        return self._read(name or self._name) if name or self._name else DEFAULT

    def _read(self, name: str) -> Profile:
        path = seccomp.path_of(name, self._folder)
        try:
            with open(path, "rb") as file:
                return seccomp.parse(file.read(seccomp.PROFILE_BYTES_MAX))
        except OSError as error:
            raise SeccompError(f"seccomp profile {name!r}: {path} cannot be read: {error.strerror}") from error
        except SeccompError as error:
            raise SeccompError(f"seccomp profile {name!r}: {error}") from None

    @cached_property
    def _supported(self) -> bool:
        """Whether runc can: one too old to say so (before 1.1) is believed to."""
        runc = shutil.which("runc") or "runc"
        try:
            done = subprocess.run([runc, "features"], stdin=subprocess.DEVNULL, capture_output=True, timeout=FEATURES_S, check=True)
            supported = bool(json.loads(done.stdout)["linux"]["seccomp"]["enabled"])
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
            return True
        if not supported:
            log.warning("containers are not kept from system calls: this runc was built without seccomp")
        return supported
