"""The task of an attempt: what Chronos made of a job (spec: chronos-v1, 2.5, 3 and 4), and what our extension adds. Pure."""

from __future__ import annotations

import hashlib
import shlex
from functools import lru_cache

import msgspec
from msgspec import UNSET

from chronos.job import Container, Job, KeyValue
from chronos.job import Volume as JobVolume
from chronos.run import Run
from chronos.schedule import read_duration
from frameworks.sdk.tasks import NAME_MAX, NOWHERE, Shape
from kernel.wire import command as wire
from kernel.wire.common import (
    DockerVolume,
    DurationInfo,
    Image,
    ImageDocker,
    ImageType,
    Label,
    Labels,
    Parameter,
    Parameters,
    Volume,
    VolumeMode,
    VolumeSource,
    VolumeSourceType,
)
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo, DockerPortMapping, MesosInfo, Network, NetworkInfo, PortMapping
from kernel.wire.ids import ExecutorID, TaskID
from kernel.wire.offer import (
    AttributeConstraint,
    ConstraintGroup,
    Predicate,
    PseudoattributeType,
    RoleConstraints,
    Selector,
    TextEquals,
    TextMatches,
    TextNotMatches,
)
from kernel.wire.resources import Resources
from kernel.wire.task import ExecutorInfo, ExecutorType, TaskInfo
from kernel.wire.values import to_milli

BUILT_IN = frozenset({
    "mesos_task_id", "MESOS_TASK_ID", "CHRONOS_JOB_OWNER", "CHRONOS_JOB_NAME", "HOST", "CHRONOS_RESOURCE_MEM", "CHRONOS_RESOURCE_CPU",
    "CHRONOS_RESOURCE_DISK", "CHRONOS_JOB_RUN_TIME", "CHRONOS_JOB_RUN_ATTEMPT", "MESETA_RUN_ID", "MESETA_RUN_IDENTITY", "MESETA_SLOT",
    "MESETA_PARENTS",
})  # fmt: skip
_DOWNLOADED = ("http", "ftp")


def shape_of(job: Job, default_role: str) -> Shape:
    """What a run needs of an agent. Nothing in it says which job: runs that need the same are one demand, however many jobs they are of."""
    more = job.more
    return _shape(job.cpus, job.mem, job.disk, more.gpus, more.role or default_role, job.constraints, job.priority)


@lru_cache(4096)
def _shape(
    cpus: float, mem: float, disk: float, gpus: float, role: str, constraints: tuple[tuple[str, str, str], ...], priority: int
) -> Shape:
    amounts = {"cpus": cpus, "mem": mem, "disk": disk, "gpus": gpus}
    wants = Resources(to_milli(cpus, "cpus"), to_milli(mem, "mem"), to_milli(disk, "disk"), to_milli(gpus, "meseta.gpus"))
    said = [f"{name} {amount:g}" for name, amount in amounts.items() if amount]
    said += [f"priority {priority}"] if priority else []
    said += [" ".join(constraint) for constraint in constraints]
    name = f"jobs that need {', '.join(said) or 'nothing'}"
    if len(name) > NAME_MAX:
        name = f"{name[: NAME_MAX - 20]}... {hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
    return Shape(wants, role, _constraints(constraints), priority=priority, name=name)


def task_of(job: Job, run: Run, number: int, task_id: str) -> TaskInfo:
    """The task of attempt `number` of a run."""
    command = _command(job, run, number, task_id)
    timeout_ms = timeout_ms_of(job)
    info = TaskInfo(
        name=f"ChronosTask:{job.name}",
        task_id=TaskID(task_id),
        agent_id=NOWHERE,
        command=command,
        container=None if job.container is UNSET else _container(job.container),
        labels=Labels(tuple(Label(key, value) for key, value in job.more.labels.items())) if job.more.labels else None,
        max_completion_time=DurationInfo(timeout_ms * 1_000_000) if timeout_ms else None,
    )
    return _with_executor(info, job, command) if job.executor else info


def timeout_ms_of(job: Job) -> int:
    """How long an attempt may take; 0 for as long as it likes."""
    timeout = job.more.timeout
    return job.max_completion_time * 1000 if timeout is UNSET else read_duration(timeout, "meseta.timeout")


def on_host(info: TaskInfo, hostname: str) -> TaskInfo:
    """The task with the name of the machine it goes to in its environment."""
    command = info.command or (info.executor.command if info.executor is not None else None)
    if command is None or command.environment is None:
        return info
    variables = (*command.environment.variables, wire.Variable("HOST", value=hostname))
    command = msgspec.structs.replace(command, environment=wire.Environment(variables))
    if info.executor is not None:
        return msgspec.structs.replace(info, executor=msgspec.structs.replace(info.executor, command=command))
    return msgspec.structs.replace(info, command=command)


# ---- Command --------------------------------------------------------------------------------------------


def _command(job: Job, run: Run, number: int, task_id: str) -> wire.CommandInfo:
    environment = _environment(job, run, number, task_id)
    uris = tuple(
        wire.URI(
            item.uri, item.executable or None, item.extract, item.cache or None, None if item.output_file is UNSET else item.output_file
        )
        for item in job.fetch
    ) or tuple(wire.URI(uri) for uri in job.uris)
    value = job.command
    if value.startswith(_DOWNLOADED):  # It is to be fetched, and run.
        uris, value = (wire.URI(value, executable=True),), f'"./{value.rsplit("/", 1)[-1]}"'
    if job.shell:
        text = f"{value} {run.arguments}" if run.arguments and not job.executor else value
        return wire.CommandInfo(uris, environment, True, text, job.arguments, job.run_as_user or None)
    argv = _words(run.arguments) or job.arguments  # A run without a shell has arguments only where they were given by hand.
    if job.container is UNSET or job.container.type.upper() != "DOCKER":
        argv = (value, *argv)  # What a program is told as its own name; the engine does that itself.
    return wire.CommandInfo(uris, environment, False, value, argv, job.run_as_user or None)


def _words(text: str) -> tuple[str, ...]:
    """As a shell would split them; all of it where it cannot: the job had a shell when they were given."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return (text,)


def _environment(job: Job, run: Run, number: int, task_id: str) -> wire.Environment:
    """Ours, then the job's own where they are not ours; of equal names the first counts. HOST is known later."""
    built_in = {
        "mesos_task_id": task_id,
        "MESOS_TASK_ID": task_id,
        "CHRONOS_JOB_OWNER": job.owner,
        "CHRONOS_JOB_NAME": job.name,
        "CHRONOS_RESOURCE_MEM": str(float(job.mem)),
        "CHRONOS_RESOURCE_CPU": str(float(job.cpus)),
        "CHRONOS_RESOURCE_DISK": str(float(job.disk)),
        "CHRONOS_JOB_RUN_TIME": str(run.slot_ms),
        "CHRONOS_JOB_RUN_ATTEMPT": str(number),
        "MESETA_RUN_ID": run.run_id,
        "MESETA_RUN_IDENTITY": run.identity or run.run_id,
        "MESETA_SLOT": str(run.slot_ms),
    }
    if run.parents:
        built_in["MESETA_PARENTS"] = " ".join(f"{name}={outcome.value}" for name, outcome in run.parents.items())
    for variable in job.environment_variables:
        if variable.name not in BUILT_IN:
            built_in.setdefault(variable.name, variable.value)
    return wire.Environment(tuple(wire.Variable(name, value=value) for name, value in built_in.items()))


def _with_executor(info: TaskInfo, job: Job, command: wire.CommandInfo) -> TaskInfo:
    """A custom executor is told of the task; what it makes of the data is its own."""
    data = job.task_info_data or f"{job.executor_flags}|{job.command}"
    executor = ExecutorInfo(
        executor_id=ExecutorID(job.name),
        type=ExecutorType.CUSTOM,
        command=msgspec.structs.replace(command, value=job.executor, shell=True, arguments=()),
        container=info.container,
        name=job.name,
    )
    return msgspec.structs.replace(info, command=None, container=None, executor=executor, data=data.encode())


# ---- Container ------------------------------------------------------------------------------------------


def _container(said: Container) -> ContainerInfo:
    volumes = tuple(map(_volume, said.volumes))
    networks = tuple(
        NetworkInfo(
            name=info.name,
            labels=Labels(tuple(Label(label.key, label.value) for label in info.labels)) if info.labels else None,
            port_mappings=tuple(
                PortMapping(int(port.host_port), int(port.container_port), None if port.protocol is UNSET else port.protocol)
                for port in info.port_mappings
            ),
        )
        for info in said.network_infos
    )
    if said.network_name is not UNSET and all(info.name != said.network_name for info in networks):
        networks = (NetworkInfo(name=said.network_name), *networks)
    if said.type.upper() == "MESOS":
        image = Image(type=ImageType.DOCKER, docker=ImageDocker(name=said.image), cached=not said.force_pull_image)
        return ContainerInfo(type=ContainerType.MESOS, volumes=volumes, mesos=MesosInfo(image), network_infos=networks)
    ports = tuple(DockerPortMapping(port.host_port, port.container_port, port.protocol) for info in networks for port in info.port_mappings)
    docker = DockerInfo(
        image=said.image,
        network=Network(said.network),
        port_mappings=ports,
        parameters=tuple(Parameter(parameter.key, parameter.value) for parameter in said.parameters),
        force_pull_image=said.force_pull_image,
    )
    return ContainerInfo(type=ContainerType.DOCKER, volumes=volumes, docker=docker, network_infos=networks)


def _volume(said: JobVolume) -> Volume:
    mode = VolumeMode(said.mode.upper()) if said.mode is not UNSET else VolumeMode.RW
    if said.external is UNSET:
        return Volume(mode, said.container_path, None if said.host_path is UNSET else said.host_path)
    external = said.external
    options = Parameters(tuple(map(_parameter, external.options))) if external.options else None
    source = VolumeSource(type=VolumeSourceType.DOCKER_VOLUME, docker_volume=DockerVolume(external.name, external.provider, options))
    return Volume(mode, said.container_path, source=source)


def _parameter(said: KeyValue) -> Parameter:
    return Parameter(said.key, said.value)


# ---- Constraints ----------------------------------------------------------------------------------------


def _constraints(constraints: tuple[tuple[str, str, str], ...]) -> RoleConstraints | None:
    """All must hold. UNLIKE wants the attribute to be there (spec: chronos-v1, 3.3)."""
    if not constraints:
        return None
    found: list[AttributeConstraint] = []
    for name, operator, value in constraints:
        selector = Selector(pseudoattribute_type=PseudoattributeType.HOSTNAME) if name == "hostname" else Selector(attribute_name=name)
        if operator == "EQUALS":
            found.append(AttributeConstraint(selector, Predicate(text_equals=TextEquals(value))))
        elif operator == "LIKE":
            found.append(AttributeConstraint(selector, Predicate(text_matches=TextMatches(value))))
        else:
            found.append(AttributeConstraint(selector, Predicate(text_matches=TextMatches(".*"))))
            found.append(AttributeConstraint(selector, Predicate(text_not_matches=TextNotMatches(value))))
    return RoleConstraints((ConstraintGroup(tuple(found)),))
