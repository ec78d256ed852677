"""What an agent shows of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.agent.effects import ContainerFailed, ExecutorUpdate, MasterLost, SubscribeExecutor, View
from kernel.agent.isolators.limits import Usage
from kernel.agent.views.parts import command_executor_name
from kernel.errors import CallError, NotFound
from kernel.wire import agent_operator as api
from kernel.wire.agent import ShutdownFramework
from kernel.wire.command import CommandInfo, Environment, Variable, VariableType
from kernel.wire.common import Secret, SecretType, SecretValue
from kernel.wire.executor import Subscribe, Update
from kernel.wire.ids import TaskID
from kernel.wire.resources import Resources
from kernel.wire.task import ExecutorType, Source, TaskState, TaskStatus
from tests.builders import executor
from tests.kernel.agent.desk import Desk, command, register, running

MEASURED = ("containers", "monitor/statistics", "get_containers")


def show(desk: Desk, name: str, arguments: Any = None, usages: Mapping[str, Usage] | None = None) -> Any:
    if arguments is None and name != "get_containers":
        arguments = {}
    return json.loads(desk.give(View(name, (arguments, usages or {}) if name in MEASURED else arguments)))


def busy() -> Desk:
    """A command task, a group on a default executor, a task that waits for its executor, and one that ended."""
    desk = running()
    desk.started(desk.run_task(command("t")), 71)
    desk.run_group(executor("d", type=ExecutorType.DEFAULT, command=None), command("g"))
    desk.run_task(command("c", executor=executor("e", name="mine", source="src")))
    desk.exited(desk.run_task(command("done")), 0)
    desk.acknowledge_all()
    return desk


def test_state_lists_executors_with_their_tasks_and_sandboxes() -> None:
    desk = busy()
    state = show(desk, "state")
    assert (state["id"], state["pid"], state["hostname"]) == ("m-S1", "slave(1)@127.0.0.1:5051", "127.0.0.1")
    assert state["resources"] == {"cpus": 4.0, "mem": 4096.0, "disk": 0.0, "gpus": 0.0}
    assert state["version"] == "1.11.0"
    (framework,) = state["frameworks"]
    assert (framework["id"], framework["role"]) == ("f", "*")
    found = {shown["id"]: shown for shown in framework["executors"]}
    assert set(found) == {"t", "d", "e"}
    assert found["t"]["name"] == "Command Executor (Task: t) (Command: sh -c 'true')"
    assert found["t"]["directory"] == f"/work/slaves/m-S1/frameworks/f/executors/t/runs/{found['t']['container']}"
    assert [(task["id"], task["state"], task["executor_id"]) for task in found["t"]["tasks"]] == [("t", "TASK_RUNNING", "")]
    assert [(task["id"], task["executor_id"]) for task in found["d"]["tasks"]] == [("g", "d")]
    assert [task["id"] for task in found["e"]["queued_tasks"]] == ["c"]
    assert (found["e"]["name"], found["e"]["source"]) == ("mine", "src")
    assert found["e"]["resources"]["cpus"] == 1.1  # The executor's and its task's.
    (ended,) = framework["completed_executors"]
    assert [(task["id"], task["state"]) for task in ended["completed_tasks"]] == [("done", "TASK_FINISHED")]
    assert [status["state"] for status in ended["completed_tasks"][0]["statuses"]] == ["TASK_STARTING", "TASK_FINISHED"]


def test_a_framework_that_ended_is_shown_as_such() -> None:
    desk = running()
    desk.exited(desk.run_task(command("t")), 0)
    desk.acknowledge_all()
    desk.master(ShutdownFramework("f"))
    state = show(desk, "state")
    assert state["frameworks"] == []
    (framework,) = state["completed_frameworks"]
    assert [shown["id"] for shown in framework["completed_executors"]] == ["t"]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_each_run_of_an_executor_has_its_own_tasks(acknowledged: bool) -> None:
    """By the executor tools find a task's sandbox: another run of the same executor has another one."""
    desk, runs = running(), []
    for task_id in ("first", "second", "third"):
        desk.tick(1)
        runs.append(desk.run_task(command(task_id, executor=executor("e"))))
        if task_id != "third":
            desk.exited(runs[-1], 1)
        if acknowledged:
            desk.acknowledge_all()
    (framework,) = show(desk, "state")["frameworks"]
    (third,) = framework["executors"]
    assert (third["container"], [task["id"] for task in third["queued_tasks"]], third["completed_tasks"]) == (runs[2], ["third"], [])
    found = [(ended["container"], [task["id"] for task in ended["completed_tasks"]]) for ended in framework["completed_executors"]]
    assert found == [(runs[0], ["first"]), (runs[1], ["second"])]


def test_a_framework_is_shown_once_however_often_its_agent_lost_the_master() -> None:
    desk = running()
    for number in range(3):
        desk.exited(desk.run_task(command(f"t{number}")), 0)
        desk.acknowledge_all()
        desk.give(MasterLost())
        assert [framework["id"] for framework in show(desk, "state")["completed_frameworks"]] == ["f"]
        register(desk)
        state = show(desk, "state")
        assert state["completed_frameworks"] == []
        (framework,) = state["frameworks"]
        assert [shown["id"] for shown in framework["completed_executors"]] == [f"t{earlier}" for earlier in range(number + 1)]


def test_get_tasks_sorts_them_by_where_they_stand() -> None:
    desk = busy()
    desk.exited(desk.run_task(command("unacknowledged")), 0)
    tasks = show(desk, "get_tasks")["get_tasks"]
    by_kind = {kind: [task["task_id"]["value"] for task in found] for kind, found in tasks.items()}
    assert by_kind == {
        "pending_tasks": [],
        "queued_tasks": ["c"],
        "launched_tasks": ["t", "g"],
        "terminated_tasks": ["unacknowledged"],
        "completed_tasks": ["done"],
    }


@pytest.mark.parametrize("nested", [True, False])
def test_containers_and_those_inside_them(nested: bool) -> None:
    desk = busy()
    found = show(desk, "get_containers", api.GetContainersCall(show_nested=nested))["get_containers"]["containers"]
    executors = [container["executor_id"]["value"] for container in found]
    assert executors == (["d", "d", "e", "t"] if nested else ["d", "e", "t"])
    status = {container["executor_id"]["value"]: container["container_status"] for container in found}
    assert status["t"]["executor_pid"] == 71
    if nested:
        assert "parent" in found[1]["container_status"]["container_id"]
        assert "parent" not in found[1]["container_id"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [({}, 3), ({"framework_id": "f"}, 3), ({"framework_id": "f", "executor_id": "e"}, 1), ({"framework_id": "x"}, 0)],
)
def test_the_older_containers_endpoint_selects(query: dict[str, str], expected: int) -> None:
    assert len(show(busy(), "containers", query)) == expected


def test_an_executor_has_a_container_for_as_long_as_it_lives() -> None:
    """Also between two tasks, which is when many custom executors are found; a command task's ends with the task."""
    desk = running()
    container = desk.run_task(command("c", executor=executor("e")))
    desk.give(SubscribeExecutor("s", "f", "e", Subscribe()))
    finished = TaskStatus(TaskID("c"), TaskState.TASK_FINISHED, source=Source.SOURCE_EXECUTOR, uuid=bytes(16))
    desk.give(ExecutorUpdate("f", "e", Update(finished)))
    desk.exited(desk.run_task(command("t")), 0)
    assert _ids(desk, "containers") == _ids(desk, "get_containers") == [container]
    desk.exited(container)
    assert _ids(desk, "containers") == _ids(desk, "get_containers") == []


def _ids(desk: Desk, name: str) -> list[str]:
    if name == "containers":
        return [found["container_id"] for found in show(desk, name)]
    body = show(desk, name)["get_containers"]
    return [found["container_id"]["value"] for found in body.get("containers", [])]


def test_what_containers_use_is_shown_where_it_is_known() -> None:
    """A default executor uses what its tasks use."""
    desk = busy()
    (inner,) = (name for name, owner in desk.core.state.containers.items() if getattr(owner, "task_id", "") == "g")
    desk.started(inner, 72)
    pids = desk.give(View("processes"))
    assert sorted(pids.values()) == [71, 72]
    by_pid = {pid: container_id for container_id, pid in pids.items()}
    usages = {by_pid[71]: Usage(user_s=1.5, mem_bytes=1000, mem_limit_bytes=2000, processes=1), by_pid[72]: Usage(user_s=0.5)}
    found = {shown["executor_id"]: shown for shown in show(desk, "monitor/statistics", usages=usages)}
    assert found.keys() == {"t", "d"}
    command_task, group = found["t"], found["d"]
    used = command_task["statistics"]
    assert (used["cpus_user_time_secs"], used["mem_total_bytes"], used["mem_limit_bytes"], used["processes"]) == (1.5, 1000, 2000, 1)
    assert group["statistics"]["cpus_user_time_secs"] == 0.5
    assert "mem_total_bytes" not in group["statistics"]
    assert {shown.get("statistics", {}).get("cpus_user_time_secs") for shown in show(desk, "containers", usages=usages)} == {1.5, 0.5, None}
    body = show(desk, "get_containers", api.GetContainersCall(show_nested=True), usages)["get_containers"]["containers"]
    assert sum("resource_statistics" in container for container in body) == 3


def test_a_selection_without_sense_is_refused() -> None:
    with pytest.raises(CallError):
        show(busy(), "containers", {"executor_id": "e"})


def test_the_executor_of_a_command_task_has_a_name_and_a_source() -> None:
    found = {shown["executor_info"]["executor_id"]["value"]: shown["executor_info"] for shown in _executors(busy())}
    assert (found["t"]["name"], found["t"]["source"]) == ("Command Executor (Task: t) (Command: sh -c 'true')", "t")
    assert (found["e"]["name"], found["e"]["source"]) == ("mine", "src")
    assert "name" not in found["d"]


def _executors(desk: Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = show(desk, "get_executors")["get_executors"]["executors"]
    return found


def test_resources_are_shown_in_the_form_that_holds_the_older_and_the_newer_fields() -> None:
    desk = running()
    of_dev = Resources.parse("cpus:1").messages("dev")
    desk.run_task(replace(command("c", executor=replace(executor("e"), resources=of_dev)), resources=of_dev))
    (task,) = show(desk, "get_tasks")["get_tasks"]["queued_tasks"]
    (found,) = _executors(desk)
    expected = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "role": "*", "allocation_info": {"role": "dev"}}
    assert task["resources"] == found["executor_info"]["resources"] == [expected]
    info = show(desk, "get_agent")["get_agent"]["agent_info"]
    assert [(shown["name"], shown["role"]) for shown in info["resources"]] == [("cpus", "*"), ("mem", "*")]


def test_other_reads_answer() -> None:
    desk = busy()
    for name in ("get_state", "get_executors", "get_frameworks", "get_operations", "get_agent", "get_resource_providers"):
        assert show(desk, name)["type"] == name.upper()
    assert show(desk, "get_agent")["get_agent"]["agent_info"]["id"] == {"value": "m-S1"}
    assert show(desk, "monitor/statistics") == []
    with pytest.raises(NotFound):
        show(desk, "nonsense")


def test_metrics_count_what_is_and_what_was() -> None:
    numbers = busy().give(View("metrics"))
    assert numbers["slave/tasks_running"] == 1
    assert numbers["slave/tasks_starting"] == 1
    assert numbers["slave/tasks_staging"] == 1
    assert numbers["slave/tasks_finished"] == 1
    assert (numbers["slave/executors_running"], numbers["slave/executors_registering"]) == (2, 1)
    assert numbers["slave/executors_terminated"] == 1
    assert numbers["slave/valid_status_updates"] == 5  # Two of the task that runs, one of its kind in the group, two of the one that ended.
    assert numbers["slave/cpus_total"] == 4
    assert numbers["slave/cpus_used"] == pytest.approx(3.2)


OF_THE_REFERENCE = """
    slave/cpus_total slave/cpus_used slave/cpus_percent slave/gpus_total slave/mem_percent slave/disk_used slave/cpus_revocable_total
    slave/mem_revocable_used slave/disk_revocable_percent slave/registered slave/uptime_secs slave/recovery_errors
    slave/recovery_time_secs slave/frameworks_active slave/executors_registering slave/executors_running slave/executors_terminating
    slave/executors_terminated slave/executors_preempted slave/tasks_staging slave/tasks_starting slave/tasks_running
    slave/tasks_killing slave/tasks_finished slave/tasks_failed slave/tasks_killed slave/tasks_lost slave/tasks_gone
    slave/valid_status_updates slave/invalid_status_updates slave/valid_framework_messages slave/invalid_framework_messages
    slave/container_launch_errors
"""


def test_metrics_are_there_from_the_start_by_the_names_of_the_reference() -> None:
    assert set(OF_THE_REFERENCE.split()) - running().give(View("metrics")).keys() == set()


def test_metrics_count_launches_that_failed() -> None:
    desk = running()
    desk.give(ContainerFailed(desk.run_task(command("t")), "no such file"))
    numbers = desk.give(View("metrics"))
    assert (numbers["slave/container_launch_errors"], numbers["slave/tasks_failed"], numbers["slave/executors_terminated"]) == (1, 1, 1)


def test_secrets_are_never_shown() -> None:
    secret = Secret(SecretType.VALUE, value=SecretValue(b"hush"))
    environment = Environment((Variable("S", VariableType.SECRET, secret=secret),))
    desk = running()
    desk.run_task(command("c", executor=executor("e", command=CommandInfo(value="x", environment=environment))))
    for name in ("state", "get_state", "get_executors"):
        assert "aHVzaA" not in json.dumps(show(desk, name))


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (CommandInfo(value="sleep 1000"), "sh -c 'sleep 1000'"),
        (CommandInfo(value="sleep 1000; echo done"), "sh -c 'sleep 1000; ...'"),
        (CommandInfo(shell=False, value="a", arguments=("a", "b")), "[a, a, b]"),
        (CommandInfo(value=""), "sh -c ''"),
        (CommandInfo(), "NO COMMAND"),
        (CommandInfo(shell=False), "NO EXECUTABLE"),
    ],
)
def test_the_name_of_a_command_executor(of: CommandInfo, text: str) -> None:
    assert command_executor_name("t", of) == f"Command Executor (Task: t) (Command: {text})"
