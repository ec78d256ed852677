"""One-off tasks: run a command N times, tell how it went. Pure; the edge prints and streams.

The framework lives as long as the command: it tears itself down at the end. A detached one leaves its tasks running, for
DETACHED_S at most; the master ends it with the last of them.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Struct

from frameworks.sdk.driver import Phase as Subscription
from frameworks.sdk.exits import exit_status
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import HOST, TERMINAL, Port, Shape, TaskRecord, command, docker_command, docker_image, image, task
from kernel.clock import Now
from kernel.wire.offer import InverseOffer
from kernel.wire.resources import Resources
from kernel.wire.revocable import revocable
from kernel.wire.scheduler import Event
from kernel.wire.task import TaskState, TaskStatus

FAILOVER_S = 10.0
DETACHED_S = 31_536_000.0  # A year.
CONNECT_S = 3.0
WAITS_S, STILL_WAITS_S = 2.0, 10.0  # Without a launch for so long, people are told why; and again so often, if it is another reason.
OCI, DOCKER = "oci", "docker"  # Who makes a container of an image: the agent itself, or the Docker engine of its machine.
INTERRUPTED = 130


class Job(Struct, frozen=True):
    """What to run. argv: without a shell. role: of the framework. fetch: URIs of files it needs. network, ports: of
    its container, see `frameworks.sdk.tasks.image`."""

    argv: tuple[str, ...]
    name: str
    wants: Resources
    role: str = "*"
    image: str | None = None
    containerizer: str = OCI
    env: dict[str, str] = {}
    instances: int = 1
    detach: bool = False
    user: str = ""
    fetch: tuple[str, ...] = ()
    network: str = HOST
    ports: tuple[Port, ...] = ()


class Outcome(Struct, frozen=True):
    """How one task ended. exit_status: as a shell would see it; COULD_NOT_RUN when it never ran or was lost."""

    task_id: str
    state: str
    exit_status: int
    hostname: str
    message: str


# ---- Inputs ---------------------------------------------------------------------------------------------


class Interrupt(Struct, frozen=True):
    """Ctrl-C: the first kills the tasks, the second leaves at once."""


class Drained(Struct, frozen=True):
    """All output of the task has been printed."""


# ---- Effects --------------------------------------------------------------------------------------------


class Launched(Struct, frozen=True):
    """A task went to an agent (`http://host:port`)."""

    task_id: str
    framework_id: str
    hostname: str
    agent_url: str


class Running(Struct, frozen=True):
    """A task runs."""

    task_id: str


class Ended(Struct, frozen=True):
    """A task is over."""

    outcome: Outcome


class Notice(Struct, frozen=True):
    """Something to tell the person who waits."""

    text: str


class Waits(Struct, frozen=True):
    """No task has been launched yet. hint: what can be said of why without asking the master."""

    wants: Resources
    hint: str


class Phase(Enum):
    """How far the job is."""

    RUNNING = "running"
    KILLING = "killing"
    DRAINING = "draining"  # All tasks are over; output may still be on its way.
    OVER = "over"


class RunScheduler(Scheduler):
    """Runs one job. drains: the edge follows the output of the task and says `Drained` when it has it all.
    connect_s: how long the first subscription may take."""

    keeps_tasks = False
    renews_id = False

    def __init__(self, job: Job, fresh_id: str, spread: float, *, drains: bool, connect_s: float = CONNECT_S) -> None:
        info = framework_info(
            f"run-{job.name}",
            user=job.user,
            roles=(job.role,),
            failover_timeout_s=DETACHED_S if job.detach else FAILOVER_S,
            gpus=job.wants.gpus > 0,
            revocable=bool(revocable(job.wants)),
            # Nobody acknowledges what a detached task reports: TASK_KILLING would hold up the news of its end.
            killing=not job.detach,
            ends_with_tasks=job.detach,
        )
        super().__init__(info, {}, fresh_id=fresh_id, spread=spread)
        self.job = job
        self.outcomes: dict[str, Outcome] = {}
        self.phase = Phase.RUNNING
        self._drains, self._connect_s = drains, connect_s
        self._launched: set[str] = set()
        self._begun: set[str] = set()  # Tasks that ran or failed to.
        self._interrupted = False
        self._begun_s: float | None = None
        self.connected = False
        self.unreached = False  # It ended because no master answered.
        self._tells_s = WAITS_S

    @property
    def task_ids(self) -> list[str]:
        """The ids of all instances: unique in the cluster, for people who look them up by it alone."""
        stem = f"{self.job.name}-{self.framework_id[-8:]}"
        return [stem] if self.job.instances == 1 else [f"{stem}-{number}" for number in range(1, self.job.instances + 1)]

    def started(self, now: Now) -> None:
        job = self.job
        self._begun_s = now.mono_s
        run = command(job.argv, job.env, uris=job.fetch)
        wants, container = job.wants, None
        if job.image is not None and job.containerizer == DOCKER:
            run, container = docker_command(job.argv, job.env), docker_image(job.image, job.network, job.ports)
            for port in job.ports:  # The engine maps only what was offered.
                wants += Resources.parse(f"ports:[{port.host}-{port.host}]")
        elif job.image is not None:
            container = image(job.image, job.network, job.ports)
        shape = Shape(wants, job.role, name=job.name)
        for task_id in self.task_ids:
            self.add_shaped(task(task_id, run, name=job.name, container=container), shape)

    def ticked(self, now: Now) -> None:
        if self._begun_s is None or self._launched or now.mono_s < self._begun_s + self._tells_s:
            return
        if self.connected and self.phase is Phase.RUNNING:
            self._tells_s = now.mono_s - self._begun_s + STILL_WAITS_S
            reasons = sorted({f"{refusal.hostname}: {refusal.reason}" for refusal in self.refusals})
            nowhere = "no agent lends so much as revocable" if revocable(self.job.wants) else "no agent offers so much"
            hint = "; ".join(reasons) if reasons else f"{nowhere}; see what there is by `meseta node list`"
            self.emit(Waits(self.job.wants, hint))

    def heard(self, event: Event, now: Now) -> None:
        if event.type == "SUBSCRIBED":
            if self.connected:
                self.emit(Notice("back at the master"))
            self.connected = True

    def lost(self, reason: str, now: Now) -> None:
        if self.connected:
            if self.driver.failures == 1:
                self.emit(Notice(f"lost the master ({reason}); trying again"))
        elif self._begun_s is not None and now.mono_s > self._begun_s + self._connect_s:
            self.unreached = self.driver.phase is not Subscription.STOPPED
            self.stop(reason)

    def asked_to_leave(self, offer: InverseOffer, now: Now) -> bool:
        """Its tasks run once: what is killed is lost."""
        return False

    def launched(self, task: TaskRecord, now: Now) -> None:
        self._launched.add(task.task_id)
        self.emit(Launched(task.task_id, self.framework_id, task.hostname, task.agent_url))

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        if status.state is not TaskState.TASK_STARTING:
            self._begun.add(task.task_id)
        if status.state in TERMINAL:
            outcome = Outcome(task.task_id, status.state.value, exit_status(status), task.hostname, status.message or "")
            self.outcomes[task.task_id] = outcome
            self.emit(Ended(outcome))
        elif status.state is TaskState.TASK_RUNNING:
            self.emit(Running(task.task_id))
        elif status.state is TaskState.TASK_UNREACHABLE:
            self.emit(Notice(f"the agent of {task.task_id} ({task.hostname}) is unreachable; waiting for it"))
        self._look()

    def asked(self, message: Any, now: Now) -> None:
        if isinstance(message, Drained):
            self._over()
        elif self.phase is Phase.RUNNING and self.connected:
            self._interrupted = True
            self.phase = Phase.KILLING
            for record in list(self.tasks):
                self.kill(record.task_id, now)
        else:
            self._interrupted = True
            self.phase = Phase.OVER
            self.stop()

    def exit_status(self) -> int:
        """What `meseta run` ends with."""
        if self._interrupted:
            return INTERRUPTED
        if len(self.outcomes) < self.job.instances:  # Detached, the others go on.
            return 1 if any(outcome.exit_status for outcome in self.outcomes.values()) else 0
        statuses = [outcome.exit_status for outcome in self.outcomes.values()]
        return statuses[0] if len(statuses) == 1 else int(any(statuses))

    def _look(self) -> None:
        """End, when there is nothing left to wait for."""
        if self.job.detach and self.phase is Phase.RUNNING:
            if len(self._begun) == self.job.instances:
                self._over()
        elif not self.tasks and self.phase in (Phase.RUNNING, Phase.KILLING):
            self.phase = Phase.DRAINING
            if not self._drains or not self._launched:
                self._over()

    def _over(self) -> None:
        self.phase = Phase.OVER
        self.stop(teardown=not self.job.detach)
