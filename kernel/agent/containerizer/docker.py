"""The Docker engine, by the `docker` package, which is imported nowhere else. All of it waits for the engine: it belongs into threads.

Errors are words for the task's user. Where the engine cannot be asked at all, EngineAway is raised, and nothing may be concluded from it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Collection, Mapping
from typing import Any

import docker
from docker import errors, utils

from kernel.agent.containerizer.docker_state import EngineAway, EngineError, NoSuchContainer, State, state_of
from kernel.agent.sessions import Guest

ANSWER_S = 300.0  # What it may take at most: an engine that starts a hundred containers at once is slow.


class Engine:
    """One engine, asked from several threads at once."""

    def __init__(self, path: str, config: str, label: str) -> None:
        """path: its socket. config: file with credentials for registries, empty for the user's own. label: of our containers."""
        self._path, self._config, self._label = path, config, label
        self._clients = threading.local()

    def list(self) -> list[State]:
        """All containers of ours."""
        with self._asking() as client:
            found = []
            for row in client.containers(all=True, filters={"label": self._label}):
                with contextlib.suppress(errors.NotFound):  # It is being removed.
                    found.append(state_of(client.inspect_container(row["Id"])))
            return found

    def has_image(self, name: str) -> bool:
        with self._asking() as client:
            try:
                client.inspect_image(name)
            except errors.ImageNotFound:
                return False
            return True

    def pull(self, name: str) -> None:
        """Fetch an image from its registry; takes as long as it takes."""
        repository, tag = utils.parse_repository_tag(name)
        with self._asking() as client:
            for told in client.pull(repository, tag or "latest", stream=True, decode=True):
                if "error" in told:  # It went wrong after it had begun well.
                    raise EngineError(told["error"])

    def start(self, name: str, body: Mapping[str, Any]) -> State:
        """Make and start a container. One of this name that is there is the same, made for a call that was cut off: it is not
        started twice."""
        with self._asking() as client:
            try:
                client.create_container_from_config(dict(body), name)
            except errors.APIError as error:
                if error.status_code != 409:
                    raise
            state = state_of(client.inspect_container(name))
            if not state.created:
                return state
            client.start(name)
            return state_of(client.inspect_container(name))

    def inspect(self, name: str) -> State:
        with self._asking() as client:
            return state_of(client.inspect_container(name))

    def signal(self, name: str, number: int) -> None:
        """Send a signal to its first process; to one that has ended it is nothing."""
        with self._asking() as client, _passing(404, 409):
            client.kill(name, number)

    def prepare(self, name: str, guest: Guest, mark: str, *, reads: bool) -> str:
        """Have a command ready to be run in a container, see `docker_exec`; returns what it is called. guest.env: beyond the container's
        own; guest.user: as the image knows them; reads: it gets input. Raises NoSuchContainer also for a container that does not run."""
        with self._asking() as client:
            env = [*(f"{name}={text}" for name, text in guest.env.items()), mark]
            try:
                made = client.exec_create(name, list(guest.argv), stdin=reads, tty=guest.terminal, environment=env, user=guest.user or "")
            except errors.APIError as error:
                if error.status_code == 409 and not state_of(client.inspect_container(name)).running:
                    raise NoSuchContainer(_text(error)) from error
                raise
            wanted: str = made["Id"]
            return wanted

    def limit(self, name: str, body: Mapping[str, Any]) -> None:
        """Hold a running container to other limits."""
        with self._asking() as client:
            client.update_container(
                name,
                cpu_shares=body.get("CpuShares"),
                cpu_period=body.get("CpuPeriod"),
                cpu_quota=body.get("CpuQuota"),
                mem_limit=body.get("Memory"),
                mem_reservation=body.get("MemoryReservation"),
                memswap_limit=body.get("MemorySwap"),
            )

    def remove(self, names: Collection[str]) -> None:
        """Remove containers with their nameless volumes, also running ones."""
        with self._asking() as client:
            for name in names:
                with _passing(404, 409):  # Gone, or on the way.
                    client.remove_container(name, v=True, force=True)

    def _client(self) -> Any:
        client = getattr(self._clients, "client", None)
        if client is None:
            client = docker.APIClient(f"unix://{self._path}", version="auto", timeout=ANSWER_S)
            if self._config:
                client.reload_config(dockercfg_path=self._config)
            self._clients.client = client
        return client

    @contextlib.contextmanager
    def _asking(self) -> Any:
        try:
            yield self._client()
        except errors.NotFound as error:
            kind = EngineError if isinstance(error, errors.ImageNotFound) else NoSuchContainer
            raise kind(_text(error)) from error
        except errors.APIError as error:
            raise EngineError(_text(error)) from error
        except (errors.DockerException, OSError) as error:  # Errors of `requests` are OSErrors.
            raise EngineAway(f"the Docker engine at {self._path} cannot be asked: {self._why(error)}") from error

    def _why(self, error: Exception) -> str:
        """Why it does not answer, without what its client makes of it."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(self._path)
            except OSError as found:
                return found.strerror or str(found)
        return f"it broke off ({type(error).__name__})"


@contextlib.contextmanager
def _passing(*statuses: int) -> Any:
    try:
        yield
    except errors.APIError as error:
        if error.status_code not in statuses:
            raise


def _text(error: errors.APIError) -> str:
    return str(error.explanation or error).strip()
