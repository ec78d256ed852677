"""What several views have in common: executors as Mesos shows them, names, resources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from kernel.agent import launch
from kernel.agent.state import AgentState, Executor, Framework, Kind, Task
from kernel.agent.transitions import ExecutorState
from kernel.wire.command import CommandInfo
from kernel.wire.container import ContainerStatus
from kernel.wire.ids import ContainerID, ExecutorID, FrameworkID
from kernel.wire.legacy import without_secrets
from kernel.wire.resources import Form, Resource, Resources
from kernel.wire.task import ExecutorInfo, TaskState
from kernel.wire.task import Task as TaskMessage

COMMAND_CHARS_MAX = 15


class Running(Struct, gc=False):
    """An executor as Mesos would have it: a command task has one of its own, which is only a name here.

    info: as operators are told of it, without the secrets of its command. container_id, pid: of its process. lives: it has a
    container now, idle or not.
    """

    framework: Framework
    info: ExecutorInfo
    name: str
    source: str
    container_id: str
    pid: int | None
    tasks: list[Task]
    queued: list[Task]
    completed: list[Task]
    resources: Resources
    directory: str
    role: str | None
    lives: bool


def containers(state: AgentState) -> Iterator[Running]:
    """The executors that have a container now."""
    for framework in state.frameworks.values():
        for running in executors(state, framework)[0]:
            if running.lives:
                yield running


def executors(state: AgentState, framework: Framework) -> tuple[list[Running], list[Running]]:
    """The executors of a framework: those that live, those that ended."""
    runs: dict[str, list[Executor]] = {}
    for executor in (*framework.completed_executors, *framework.executors.values()):
        runs.setdefault(executor.executor_id, []).append(executor)
    present: dict[str, list[Task]] = {}
    past: dict[str, list[Task]] = {}
    for tasks, by_run in ((framework.tasks.values(), present), (framework.completed_tasks, past)):
        for task in tasks:
            if task.executor_id in runs and task.kind is not Kind.COMMAND:
                by_run.setdefault(_run_of(task, runs[task.executor_id]).container_id, []).append(task)

    def shown(executor: Executor) -> Running:
        return _running(state, executor, present.get(executor.container_id, []), past.get(executor.container_id, []))

    live, ended = list(map(shown, framework.executors.values())), list(map(shown, framework.completed_executors))
    for tasks, found in ((framework.tasks.values(), live), (framework.completed_tasks, ended)):
        for task in tasks:
            if task.kind is Kind.COMMAND:
                found.append(_command_executor(state, task))
    return live, ended


def _run_of(task: Task, runs: list[Executor]) -> Executor:
    """Which of an executor's runs a task was given to: one follows the other, each is started with its first task."""
    return next((run for run in reversed(runs) if run.launched_wall_s <= task.launched_wall_s), runs[0])


def _running(state: AgentState, executor: Executor, tasks: list[Task], past: list[Task]) -> Running:
    live = [task for task in tasks if not task.terminal]
    resources = Resources.of(executor.info.resources)
    for task in live:
        resources += Resources.of(task.info.resources)
    framework = executor.framework
    return Running(
        framework,
        replace(without_secrets(executor.info), resources=shown_resources(executor.info.resources)),
        executor.info.name or "",
        executor.info.source or "",
        executor.container_id,
        executor.pid,
        [task for task in live if task.delivered],
        [task for task in live if not task.delivered],
        [task for task in tasks if task.terminal] + past,
        resources,
        launch.sandbox(state, framework.framework_id, executor.executor_id, executor.container_id),
        role_of([*executor.info.resources, *(resource for task in tasks for resource in task.info.resources)]),
        executor.state is not ExecutorState.TERMINATED,
    )


def _command_executor(state: AgentState, task: Task) -> Running:
    framework, live = task.framework, not task.terminal
    name = command_executor_name(task.task_id, task.info.command)
    info = ExecutorInfo(
        ExecutorID(task.task_id),
        framework_id=FrameworkID(framework.framework_id),
        command=without_secrets(task.info.command),
        name=name,
        source=task.task_id,
    )
    return Running(
        framework,
        info,
        name,
        task.task_id,
        task.container_id,
        task.run.pid if task.run is not None else None,
        [task] if live else [],
        [],
        [] if live else [task],
        Resources.of(task.info.resources) if live else Resources(),
        launch.sandbox(state, framework.framework_id, task.task_id, task.container_id) if task.container_id else "",
        role_of(task.info.resources),
        live,
    )


def command_executor_name(task_id: str, command: CommandInfo | None) -> str:
    """`Command Executor (Task: ID) (Command: sh -c '...')`, as tools know it."""
    if command is None or command.value is None:
        text = "NO COMMAND" if command is None or command.shell else "NO EXECUTABLE"
    elif command.shell:
        text = f"sh -c '{_cut(command.value)}'"
    else:
        text = f"[{_cut(', '.join((command.value, *command.arguments)))}]"
    return f"Command Executor (Task: {task_id}) (Command: {text})"


def _cut(text: str) -> str:
    return text if len(text) <= COMMAND_CHARS_MAX else text[: COMMAND_CHARS_MAX - 3] + "..."


def role_of(resources: Iterable[Resource]) -> str | None:
    """The role that resources are allocated to."""
    return next((found.allocation_info.role for found in resources if found.allocation_info is not None), None)


def shown_resources(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    """Resources as operators are told of them (spec: mesos-v1, section 6.3)."""
    return Resources.of(resources).messages(role_of(resources), Form.ENDPOINT)


def task_message(task: Task, state: TaskState | None = None) -> TaskMessage:
    """A task as the operator API shows it."""
    info, queue = task.info, task.updates
    told = queue.pending[0] if queue.pending else queue.acknowledged
    command = info.command or (info.executor.command if info.executor is not None else None)
    return TaskMessage(
        name=info.name,
        task_id=info.task_id,
        framework_id=FrameworkID(task.framework.framework_id),
        agent_id=info.agent_id,
        state=state or task.state,
        executor_id=None if task.kind is Kind.COMMAND else ExecutorID(task.executor_id),
        resources=shown_resources(info.resources),
        statuses=tuple(task.statuses),
        status_update_state=told.state if told is not None else None,
        status_update_uuid=told.uuid if told is not None else None,
        labels=info.labels,
        discovery=info.discovery,
        container=without_secrets(info.container),
        health_check=without_secrets(info.health_check),
        kill_policy=info.kill_policy,
        user=command.user if command is not None else None,
        limits=info.limits,
    )


def container_status(container_id: ContainerID, pid: int | None) -> ContainerStatus:
    return ContainerStatus(container_id, executor_pid=pid)


def all_frameworks(state: AgentState) -> Iterator[Framework]:
    """Those of now, then those of the past."""
    yield from state.frameworks.values()
    yield from state.completed_frameworks
