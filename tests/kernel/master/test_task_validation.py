"""What may be launched: every rule of section 2.9, and which one speaks first (spec: mesos-v1, sections 2.8, 2.9, 6.3)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.master.task_validation import (
    TaskFault,
    check_apart,
    check_choice,
    check_executor,
    check_group_task,
    check_own_cgroups,
    check_task,
    check_task_id,
)
from kernel.wire.command import (
    CheckCommand,
    CheckHttp,
    CheckInfo,
    CheckTcp,
    CheckType,
    CommandInfo,
    Environment,
    HealthCheck,
    HTTPCheckInfo,
    KillPolicy,
    TCPCheckInfo,
    Variable,
    VariableType,
)
from kernel.wire.common import (
    DurationInfo,
    HostPath,
    Image,
    ImageType,
    Secret,
    SecretReference,
    SecretType,
    SecretValue,
    Volume,
    VolumeMode,
    VolumeSource,
    VolumeSourceType,
)
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo, LinuxInfo, MesosInfo, NetworkInfo
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.resources import AllocationInfo, Resource, Resources, RevocableInfo, Scalar, ValueType
from kernel.wire.task import ExecutorInfo, ExecutorType, TaskInfo, TaskState
from tests.builders import accept, accept_group, executor, framework_id, register, resources, task
from tests.kernel.master.conductor import Conductor

EMPTY_HTTP = HTTPCheckInfo(80)
SHELL = CommandInfo(value="true")
NEGATIVE = DurationInfo(-1)
HALF_A_GPU = (Resource("gpus", ValueType.SCALAR, Scalar(0.5)),)
REVOCABLE_CPU = (Resource("cpus", ValueType.SCALAR, Scalar(1.0), revocable=RevocableInfo()),)
OWN_CGROUPS = ContainerInfo(linux_info=LinuxInfo(share_cgroups=False))
DOCKER = ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("image"))


def fault_of(info: TaskInfo, limits_known: bool = True) -> str:
    """What is told of a task of an offer of agent "a" in role "r"."""
    try:
        check_task_id(info)
        check_task(info, "a", "r", limits_known)
        check_choice(info)
        check_own_cgroups(info)
    except TaskFault as fault:
        return str(fault)
    return ""


def environment(*variables: Variable) -> CommandInfo:
    return CommandInfo(value="true", environment=Environment(variables))


def allocated(role: str, text: str = "cpus:1") -> tuple[Resource, ...]:
    return tuple(replace(resource, allocation_info=AllocationInfo(role)) for resource in resources(text))


# In the order they are checked; launched against an offer of 4 cpus that has a task "used" and a running executor "e".
FAULTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"task_id": TaskID("x/y")}, "TaskInfo.task_id: "),
    ({"task_id": TaskID("used")}, "Task has duplicate ID: used"),
    ({"agent_id": AgentID("other")}, "Task uses invalid agent 'other'"),
    ({"kill_policy": KillPolicy(NEGATIVE)}, "Task's 'kill_policy.grace_period'"),
    ({"max_completion_time": NEGATIVE}, "Task's 'max_completion_time'"),
    ({"check": CheckInfo()}, "Task's 'check.type'"),
    ({"health_check": HealthCheck()}, "Task's 'health_check.type'"),
    ({"resources": ()}, "Task uses no resources"),
    ({"command": environment(Variable("V"))}, "Task's environment variable 'V'"),
    ({"container": ContainerInfo(ContainerType.DOCKER, linux_info=LinuxInfo(share_cgroups=False))}, "Task's 'container.docker'"),
    ({"limits": {"disk": Scalar(9.0)}}, "Task's 'limits' of 'disk'"),
    ({"command": SHELL}, "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"),
    ({"executor": executor("e", type=ExecutorType.DEFAULT)}, "'ExecutorInfo.type' DEFAULT"),
    ({"executor": executor("e", command=None)}, "'ExecutorInfo.command' must be set"),
    ({"executor": executor("e/f")}, "ExecutorInfo.executor_id: "),
    ({"executor": executor("e", shutdown_grace_period=NEGATIVE)}, "ExecutorInfo's 'shutdown_grace_period'"),
    ({"executor": executor("e", command=environment(Variable("V")))}, "Executor's environment variable 'V'"),
    ({"executor": executor("e", container=ContainerInfo(ContainerType.DOCKER))}, "Executor's 'container.docker'"),
    ({"executor": executor("e", framework_id=framework_id("other"))}, "ExecutorInfo has an invalid FrameworkID (Actual: other vs"),
    ({"executor": replace(executor("e"), resources=HALF_A_GPU)}, "Executor uses invalid resources: "),
    ({"executor": executor("e", command=CommandInfo(value="different"))}, "ExecutorInfo is not compatible with existing ExecutorInfo"),
    ({"executor": executor("new", "ports:[1-3]"), "resources": resources("cpus:9;ports:[3-4]")}, "Task and its executor use 'ports' twice"),
    ({"executor": executor("e"), "resources": resources("cpus:9")}, "Total resources cpus:9 required by task and its executor is more"),
    ({"container": OWN_CGROUPS}, "Task's 'container.linux_info.share_cgroups' can be false in a task group only"),
)


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_of_many_faults_the_first_is_told(first: int) -> None:
    c = Conductor()
    fid = c.subscribe()
    aid = c.agent()
    (offer,) = c.offers()
    c.call(fid, accept([offer.id.value], task("used", aid, executor=executor("e")), refuse_s=0.0))
    c.wait(2)
    (offer,) = c.offers()
    fields: dict[str, Any] = {}
    for wrong, _ in reversed(FAULTS[first:]):
        fields |= wrong
    fields.setdefault("agent_id", AgentID(aid))
    if 11 < first < 23:  # Those after the choice between command and executor have made it.
        fields["command"] = None
    if first > 19 and "ports" not in FAULTS[first][1]:
        fields.setdefault("resources", resources("cpus:1"))
    c.call(fid, accept([offer.id.value], replace(task("t", aid), **fields)))
    (status,) = c.statuses()
    assert status.state is TaskState.TASK_ERROR
    assert (status.message or "").startswith(FAULTS[first][1])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"container": ContainerInfo(), "labels": None},
        {"container": DOCKER},
        {"resources": (Resource("cpus", ValueType.SCALAR, Scalar(0.0)),)},
        {"resources": allocated("r")},
        {"resources": tuple(replace(resource, role="*") for resource in resources("cpus:1;mem:32"))},
        {"kill_policy": KillPolicy(DurationInfo(0))},
        {"kill_policy": KillPolicy()},
        {"check": CheckInfo(CheckType.COMMAND, command=CheckCommand(SHELL))},
        {"check": CheckInfo(CheckType.HTTP, http=CheckHttp(80))},
        {"check": CheckInfo(CheckType.TCP, tcp=CheckTcp(80))},
        {"health_check": HealthCheck(type=CheckType.COMMAND, command=SHELL)},
        {"health_check": HealthCheck(type=CheckType.HTTP, http=HTTPCheckInfo(80, scheme="https", path="/health"))},
        {"health_check": HealthCheck(type=CheckType.TCP, tcp=TCPCheckInfo(80))},
        {"command": environment(Variable("V", value=""))},
        {"command": environment(Variable("S", VariableType.SECRET, secret=Secret(SecretType.REFERENCE, SecretReference("name"))))},
        {"limits": {"cpus": Scalar(1.0), "mem": Scalar(float("inf"))}},
        {"command": None, "executor": executor("e")},
    ],
)
def test_these_tasks_are_fine(fields: dict[str, Any]) -> None:
    assert fault_of(replace(task("t", "a"), **fields)) == ""


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"check": CheckInfo(CheckType.UNKNOWN)}, "'check.type'"),
        ({"check": CheckInfo(CheckType.COMMAND)}, "'check.command.command.value'"),
        ({"check": CheckInfo(CheckType.COMMAND, command=CheckCommand(CommandInfo()))}, "'check.command.command.value'"),
        ({"check": CheckInfo(CheckType.COMMAND, command=CheckCommand(environment(Variable("V"))))}, "environment variable 'V'"),
        ({"check": CheckInfo(CheckType.HTTP)}, "'check.http'"),
        ({"check": CheckInfo(CheckType.HTTP, http=CheckHttp(80, "x"))}, "'check.http.path'"),
        ({"check": CheckInfo(CheckType.TCP)}, "'check.tcp'"),
        ({"check": CheckInfo(CheckType.TCP, tcp=CheckTcp(1), delay_seconds=-1.0)}, "'delay_seconds'"),
        ({"check": CheckInfo(CheckType.TCP, tcp=CheckTcp(1), timeout_seconds=float("nan"))}, "'timeout_seconds'"),
        ({"health_check": HealthCheck(type=CheckType.COMMAND)}, "'health_check.command.value'"),
        ({"health_check": HealthCheck(type=CheckType.COMMAND, command=environment(Variable("V")))}, "environment variable 'V'"),
        ({"health_check": HealthCheck(type=CheckType.HTTP)}, "'health_check.http'"),
        ({"health_check": HealthCheck(type=CheckType.HTTP, http=HTTPCheckInfo(80, scheme="ftp"))}, "'health_check.http.scheme'"),
        ({"health_check": HealthCheck(type=CheckType.HTTP, http=HTTPCheckInfo(80, path="x"))}, "'health_check.http.path'"),
        ({"health_check": HealthCheck(type=CheckType.TCP)}, "'health_check.tcp'"),
        ({"health_check": HealthCheck(grace_period_seconds=-1.0, type=CheckType.TCP, tcp=TCPCheckInfo(1))}, "'grace_period_seconds'"),
        ({"resources": (Resource("cpus", ValueType.SCALAR, Scalar(-1.0)),)}, "Task uses invalid resources: resources[0].scalar.value"),
        ({"resources": (Resource("", ValueType.SCALAR, Scalar(1.0)),)}, "resources[0].name"),
        ({"resources": HALF_A_GPU}, "gpus must be a whole number"),
        ({"resources": allocated("r") + allocated("other")}, "allocated to role 'other'"),
        ({"resources": resources("cpus:1") + REVOCABLE_CPU}, "revocable and non-revocable 'cpus'"),
        ({"command": environment(Variable("V", value="x", secret=Secret()))}, "must not have a secret"),
        ({"command": environment(Variable("V", VariableType.UNKNOWN, value="x"))}, "must be of type VALUE or SECRET"),
        ({"command": environment(Variable("S", VariableType.SECRET))}, "must have a secret"),
        ({"command": environment(Variable("S", VariableType.SECRET, "x", Secret()))}, "must not have a value"),
        ({"command": environment(Variable("S", VariableType.SECRET, secret=Secret()))}, "secret's type"),
        (
            {"command": environment(Variable("S", VariableType.SECRET, secret=Secret(SecretType.VALUE, SecretReference("n"))))},
            "has a 'value' alone",
        ),
        (
            {"command": environment(Variable("S", VariableType.SECRET, secret=Secret(SecretType.REFERENCE, value=SecretValue(b"x"))))},
            "has a 'reference' alone",
        ),
        ({"limits": {"cpus": Scalar(0.5)}}, "must not be below"),
        ({"limits": {"cpus": Scalar(float("nan"))}}, "must not be below"),
        ({"limits": {"mem": Scalar(9.0)}, "resources": resources("cpus:1")}, "need 'mem' in its resources"),
        ({"command": None}, "at least one"),
    ],
)
def test_a_faulty_part_is_named(fields: dict[str, Any], says: str) -> None:
    assert says in fault_of(replace(task("t", "a"), **fields))


def test_limits_need_an_agent_that_knows_them() -> None:
    info = replace(task("t", "a"), limits={"cpus": Scalar(2.0)})
    assert "TASK_RESOURCE_LIMITS" in fault_of(info, limits_known=False)


class TestVolumes:
    def fault(self, **fields: Any) -> str:
        volume = Volume(VolumeMode.RW, "v", **fields)
        return fault_of(replace(task("t", "a"), container=ContainerInfo(volumes=(volume,))))

    def test_exactly_one_way(self) -> None:
        assert self.fault(host_path="/x") == ""
        assert self.fault(image=Image(ImageType.DOCKER)) == ""
        assert "exactly one" in self.fault()
        assert "exactly one" in self.fault(host_path="/x", image=Image(ImageType.DOCKER))

    def test_a_source_has_the_part_of_its_type(self) -> None:
        assert self.fault(source=VolumeSource(VolumeSourceType.HOST_PATH, host_path=HostPath("/x"))) == ""
        assert "'source.secret' must be set" in self.fault(source=VolumeSource(VolumeSourceType.SECRET))
        assert "'source.type'" in self.fault(source=VolumeSource())
        assert "secret's type" in self.fault(source=VolumeSource(VolumeSourceType.SECRET, secret=Secret()))


class TestExecutors:
    def fault(self, info: ExecutorInfo, group: bool) -> str:
        try:
            check_executor(info, "f", "r", group)
        except TaskFault as fault:
            return str(fault)
        return ""

    DEFAULT = executor("e", type=ExecutorType.DEFAULT, command=None, framework_id=framework_id("f"))
    CUSTOM = executor("e", type=ExecutorType.CUSTOM, framework_id=framework_id("f"))

    @pytest.mark.parametrize("group", [False, True])
    def test_a_custom_one_runs_either(self, group: bool) -> None:
        assert self.fault(self.CUSTOM, group) == ""

    def test_a_default_one_runs_groups_only(self) -> None:
        assert self.fault(self.DEFAULT, True) == ""
        assert "DEFAULT is for task groups only" in self.fault(self.DEFAULT, False)

    @pytest.mark.parametrize(
        ("base", "fields", "says"),
        [
            (CUSTOM, {"type": None}, "must be DEFAULT or CUSTOM"),
            (CUSTOM, {"container": DOCKER}, "Docker ContainerInfo is not supported"),
            (DEFAULT, {"command": SHELL}, "'ExecutorInfo.command' must not be set"),
            (DEFAULT, {"container": DOCKER}, "'ExecutorInfo.container.type' must be 'MESOS'"),
            (DEFAULT, {"container": ContainerInfo(mesos=MesosInfo(Image(ImageType.DOCKER)))}, "'ExecutorInfo.container.mesos.image'"),
            (DEFAULT, {"framework_id": None}, "'ExecutorInfo.framework_id' must be set"),
            (DEFAULT, {"framework_id": framework_id("g")}, "invalid FrameworkID (Actual: g vs Expected: f)"),
            (DEFAULT, {"resources": resources("mem:32;disk:1")}, "'cpus' must be at least 0.01"),
            (DEFAULT, {"resources": resources("cpus:0.01;mem:31;disk:1")}, "'mem' must be at least 32 MB"),
            (DEFAULT, {"resources": resources("cpus:0.01;mem:32")}, "'disk' must be above 0"),
            (DEFAULT, {"resources": allocated("other")}, "allocated to role 'other'"),
        ],
    )
    def test_what_a_groups_executor_may_not_be(self, base: ExecutorInfo, fields: dict[str, Any], says: str) -> None:
        assert says in self.fault(replace(base, **fields), True)

    def test_little_for_an_executor_of_its_own_is_fine(self) -> None:
        assert self.fault(replace(self.CUSTOM, type=None, resources=resources("cpus:0.001")), False) == ""


class TestGroupTasks:
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({}, ""),
            ({"container": OWN_CGROUPS, "limits": {"cpus": Scalar(2.0)}}, ""),
            ({"container": ContainerInfo(network_infos=(NetworkInfo(),)), "health_check": HealthCheck(type=CheckType.COMMAND)}, ""),
            ({"container": DOCKER}, "Docker ContainerInfo is not supported on the task"),
            (
                {"container": ContainerInfo(network_infos=(NetworkInfo(),)), "health_check": HealthCheck(type=CheckType.TCP)},
                "HTTP and TCP health checks",
            ),
            ({"container": ContainerInfo(network_infos=(NetworkInfo(),)), "check": CheckInfo(CheckType.HTTP)}, "HTTP and TCP checks"),
            ({"executor": executor("other")}, "must be the same as that of its group"),
            ({"limits": {"cpus": Scalar(2.0)}}, "need 'container.linux_info.share_cgroups' to be false"),
        ],
    )
    def test_rules(self, fields: dict[str, Any], says: str) -> None:
        found = ""
        try:
            check_group_task(replace(task("t", "a"), **fields), TestExecutors.DEFAULT)
        except TaskFault as fault:
            found = str(fault)
        assert says in found
        assert bool(says) == bool(found)

    def launched(self, *tasks: TaskInfo, disk: str = "1") -> Any:
        """Launch as one group on an agent with ports; return the statuses told."""
        c = Conductor()
        fid = c.subscribe()
        aid = c.agent(1, register("1", "cpus:4;mem:4096;disk:1000;ports:[1-9]"))
        (offer,) = c.offers()
        runs = executor("e", f"cpus:1;mem:32;disk:{disk}", type=ExecutorType.DEFAULT, command=None, framework_id=framework_id(fid))
        c.call(fid, accept_group([offer.id.value], runs, *(replace(info, agent_id=AgentID(aid)) for info in tasks)))
        return c.statuses()

    def test_two_tasks_cannot_have_one_port(self) -> None:
        statuses = self.launched(task("t1", "", "cpus:1;ports:[1-3]"), task("t2", "", "cpus:1;ports:[3-4]"))
        assert [status.message for status in statuses] == ["Task group and its executor use 'ports' twice"] * 2

    def test_all_must_fit_together(self) -> None:
        statuses = self.launched(task("t1", "", "cpus:2"), task("t2", "", "cpus:2"))
        assert all("Total resources cpus:5" in (status.message or "") for status in statuses)
        assert self.launched(task("t1", "", "cpus:2"), task("t2", "", "cpus:1")) == []

    def test_one_id_cannot_be_had_twice(self) -> None:
        assert "Task 't' is invalid: Task has duplicate ID: t" in (self.launched(task("t", ""), task("t", ""))[0].message or "")

    def test_a_fault_of_a_task_names_it(self) -> None:
        statuses = self.launched(task("t1", ""), replace(task("t2", ""), resources=()))
        assert {status.message for status in statuses} == {"Task 't2' is invalid: Task uses no resources"}

    def test_a_fault_of_a_task_comes_before_one_of_the_executor(self) -> None:
        assert "Task 't'" in (self.launched(replace(task("t", ""), resources=()), disk="0")[0].message or "")

    def test_all_share_the_executors_limits_or_none(self) -> None:
        statuses = self.launched(task("t1", ""), replace(task("t2", ""), container=OWN_CGROUPS))
        assert all("must agree on" in (status.message or "") for status in statuses)


def test_parts_that_overlap() -> None:
    plain, low, high = Resources.parse("cpus:1"), Resources.parse("ports:[1-2];zone:{a}"), Resources.parse("ports:[3-4];zone:{b}")
    check_apart((plain, low, plain, high), "They")
    with pytest.raises(TaskFault, match="They use 'zone' twice"):
        check_apart((low, high, Resources.parse("zone:{a}")), "They")
