"""Lending and taking back, in the agent's core."""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace

from kernel.agent.config import AgentConfig
from kernel.agent.effects import LaunchContainer, LimitContainer, MasterConnected, Measured, SignalContainer, Stop
from kernel.agent.isolators.limits import Usage
from kernel.agent.oversubscription.config import ControllerParameters, EstimatorParameters
from kernel.agent.oversubscription.controller import Machine
from kernel.agent.state import Node
from kernel.agent.views.metrics import numbers
from kernel.errors import ConfigError
from kernel.wire.agent import DrainAgent, KillTask, Oversubscribed, Register, Registered
from kernel.wire.framework import FrameworkCapability
from kernel.wire.nodes import DrainConfig
from kernel.wire.task import ExecutorType, Reason, Source, TaskInfo, TaskState
from tests.builders import executor, resources, slack, task
from tests.kernel.agent.desk import AGENT_ID, Desk, command, framework, running
from tests.kernel.agent.test_checks import restarted
from tests.kernel.agent.test_executors import CUSTOM, report, status, subscribe

AWARE, KILLING = FrameworkCapability.PARTITION_AWARE, FrameworkCapability.TASK_KILLING_STATE
NODE = Node(resources("cpus:1;mem:1024"))
CONFIG = AgentConfig(
    work_dir="/work",
    switch_user=False,
    resource_estimator="usage",
    resource_estimator_parameters=EstimatorParameters(share=1.0, margin=0.0, warm_up_s=10.0, window_s=30.0),
    qos_controller_parameters=ControllerParameters(calm_s=20.0),
)
FINE = Machine(0.1, 0.1, 10_000, 8_000)


class Lender:
    """An agent of 1 cpu. uses: cpus by container."""

    def __init__(self, config: AgentConfig = CONFIG, *capabilities: FrameworkCapability) -> None:
        self.desk = running(config, framework("f", *capabilities), node=NODE)
        self.uses: dict[str, float] = {}
        self._spent: dict[str, float] = {}

    def task(self, info: TaskInfo, uses: float = 0.0) -> str:
        container = self.desk.run_task(info)
        self.desk.started(container)
        self.uses[container] = uses
        return container

    def measure(self, times: int = 1, machine: Machine = FINE, every_s: float = 5.0) -> None:
        for _ in range(times):
            for container, cpus in self.uses.items():
                self._spent[container] = self._spent.get(container, 0.0) + cpus * every_s
            self.desk.seconds += every_s
            usages = {name: Usage(user_s=spent, system_s=0.0, rss_bytes=64 << 20) for name, spent in self._spent.items()}
            self.desk.give(Measured(self.desk.seconds, usages, machine))

    def told(self) -> list[tuple[object, ...]]:
        return [message.slack for message in self.desk.take_sent(Oversubscribed)]


def revocable(task_id: str = "r", cpus: float = 0.5) -> TaskInfo:
    return replace(command(task_id), resources=(*slack(f"cpus:{cpus}"), *resources("mem:64")))


def lending(*capabilities: FrameworkCapability) -> tuple[Lender, str, str]:
    """A task that was given 1 cpu and uses a tenth, and one on 0.5 of the rest."""
    lender = Lender(CONFIG, *capabilities)
    first = lender.task(task("t", AGENT_ID, "cpus:1;mem:128"), uses=0.1)
    lender.measure(4)
    assert lender.told() == [slack("cpus:0.9")]
    second = lender.task(revocable(), uses=0.4)
    lender.measure(3)
    lender.desk.acknowledge_all()
    return lender, first, second


def test_by_default_nothing_is_lent() -> None:
    lender = Lender(AgentConfig(work_dir="/work", switch_user=False))
    lender.task(task("t", AGENT_ID, "cpus:1;mem:128"))
    lender.measure(100)
    assert lender.told() == []


def test_what_is_lent_is_told_when_it_changes() -> None:
    lender, first, _ = lending()
    lender.measure(10)
    assert lender.told() == []
    lender.uses[first] = 0.3
    lender.measure(2)
    assert lender.told() == [slack("cpus:0.7")]
    lender.uses[first] = 0.1
    lender.measure(4)
    assert lender.told() == []  # What it used once, it may use again.
    lender.measure(4)
    assert lender.told() == [slack("cpus:0.9")]


def test_metrics_show_what_is_lent_and_used_of_it() -> None:
    lender, _, _ = lending()
    shown = numbers(lender.desk.core.state)
    assert (shown["slave/cpus_revocable_total"], shown["slave/cpus_revocable_used"], shown["slave/cpus_total"]) == (0.9, 0.5, 1.0)


@pytest.mark.parametrize(
    ("able", "state"), [((), TaskState.TASK_LOST), ((AWARE,), TaskState.TASK_GONE), ((AWARE, KILLING), TaskState.TASK_GONE)]
)
def test_a_task_on_slack_is_preempted_when_others_need_it(able: tuple[FrameworkCapability, ...], state: TaskState) -> None:
    lender, first, second = lending(*able)
    lender.uses[first], lender.uses[second] = 0.9, 0.1
    lender.measure()
    assert lender.desk.all(SignalContainer) == []
    lender.measure()
    assert lender.desk.all(SignalContainer) == [SignalContainer(second, signal.SIGKILL)]
    lender.measure()
    assert lender.desk.all(SignalContainer) == []
    lender.desk.acknowledge_all()  # Of TASK_KILLING, where it is told.
    lender.desk.exited(second, signal.SIGKILL)
    (ended,) = lender.desk.updates()
    assert (ended.task_id.value, ended.state, ended.reason) == ("r", state, Reason.REASON_CONTAINER_PREEMPTED)
    assert ended.source is Source.SOURCE_AGENT
    assert ended.message is not None
    assert ended.message.startswith("preempted: tasks that may not be preempted use 0.9 of the agent's 1 cpus, and 0.5 are lent")
    assert numbers(lender.desk.core.state)["slave/executors_preempted"] == 1


def test_nothing_is_lent_for_a_while_after_something_was_taken_back() -> None:
    lender, first, second = lending()
    lender.measure(1, Machine(0, 0, 10_000, 100))
    assert lender.desk.all(SignalContainer) == [SignalContainer(second, signal.SIGKILL)]
    assert lender.told() == [()]
    lender.desk.exited(second, signal.SIGKILL)
    lender.measure(3)
    assert lender.told() == []
    lender.measure(1)
    assert lender.told() == [slack("cpus:0.9")]
    assert first in lender.desk.core.state.containers


def test_what_its_scheduler_ends_gently_ends_at_once_but_as_killed() -> None:
    lender, first, second = lending()
    lender.desk.master(KillTask("f", "r"))
    lender.uses[first] = 0.9
    lender.measure(5)
    assert numbers(lender.desk.core.state)["slave/executors_preempted"] == 0
    lender.desk.exited(second, signal.SIGTERM)
    (ended,) = lender.desk.updates()
    assert (ended.state, ended.reason) == (TaskState.TASK_KILLED, None)


def test_a_restarted_agent_knows_what_is_revocable_and_lends_nothing_before_it_has_looked() -> None:
    lender, first, second = lending()
    again = Lender.__new__(Lender)
    again.desk = restarted(lender.desk, first, second)
    again.uses, again._spent = {first: 0.9, second: 0.1}, {}
    (registered,) = again.desk.take_sent(Register)
    assert registered.slack == ()
    again.measure(3)
    assert again.told() == []
    assert again.desk.all(SignalContainer) == [SignalContainer(second, signal.SIGKILL)]
    # One that dies before it has seen the end still tells why.
    third = restarted(again.desk, second)
    third.exited(second, signal.SIGKILL)
    assert [(ended.state, ended.reason) for ended in third.updates()][-1:] == [(TaskState.TASK_LOST, Reason.REASON_CONTAINER_PREEMPTED)]


def test_an_agent_that_registers_anew_says_what_it_lends_and_what_changed_meanwhile() -> None:
    lender, first, _ = lending()
    lender.desk.give(MasterConnected())
    (registered,) = lender.desk.take_sent(Register)
    assert registered.slack == slack("cpus:0.9")
    lender.desk.core.state.registered = False
    lender.uses[first] = 0.2
    lender.measure(2)
    assert lender.told() == []
    lender.desk.master(Registered(AGENT_ID, "master", 3.0, 9.0))
    assert lender.told() == [slack("cpus:0.8")]


@pytest.mark.parametrize("message", [Stop(True), None])
def test_an_agent_that_is_emptied_lends_nothing(message: Stop | None) -> None:
    lender, _, _ = lending()
    if message is not None:
        lender.desk.give(message)
    else:
        lender.desk.master(DrainAgent(DrainConfig()))
    lender.measure()
    assert lender.told() == [()]


def test_a_pod_is_ended_as_a_whole() -> None:
    lender = Lender(CONFIG, AWARE)
    first = lender.task(task("t", AGENT_ID, "cpus:1;mem:128"), uses=1.0)
    pod = executor("e", type=ExecutorType.DEFAULT)
    containers = lender.desk.run_group(pod, revocable("a", 0.2), revocable("b", 0.2))
    for container in containers:
        lender.desk.started(container)
        lender.uses[container] = 0.05
    lender.desk.acknowledge_all()
    lender.measure(3)
    for container in containers:
        lender.desk.exited(container, signal.SIGKILL)
    ends = {(found.task_id.value, found.state, found.reason) for found in lender.desk.updates()}
    assert ends == {(name, TaskState.TASK_GONE, Reason.REASON_CONTAINER_PREEMPTED) for name in "ab"}
    assert numbers(lender.desk.core.state)["slave/executors_preempted"] == 1
    assert first in lender.desk.core.state.containers


def test_a_custom_executor_is_ended_with_its_tasks() -> None:
    lender = Lender(CONFIG, AWARE)
    lender.task(task("t", AGENT_ID, "cpus:1;mem:128"), uses=1.0)
    container = lender.desk.run_task(replace(revocable("a"), command=None, executor=CUSTOM))
    lender.desk.started(container)
    lender.uses[container] = 0.1
    subscribe(lender.desk)
    report(lender.desk, status("a", TaskState.TASK_RUNNING))
    lender.desk.acknowledge_all()
    lender.measure(3)
    assert lender.desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    lender.desk.exited(container, signal.SIGKILL)
    (ended,) = lender.desk.updates()
    assert (ended.state, ended.reason) == (TaskState.TASK_GONE, Reason.REASON_CONTAINER_PREEMPTED)


@pytest.mark.parametrize("low", [True, False])
def test_who_has_revocable_cpus_yields_to_others(low: bool) -> None:
    desk = running(replace(CONFIG, revocable_cpu_low_priority=low), node=NODE)
    desk.run_task(revocable(cpus=0.5))
    assert desk.one(LaunchContainer).limits.cpu_shares == (5 if low else 512)
    desk.run_task(task("t", AGENT_ID, "cpus:0.5;mem:32"))
    assert desk.one(LaunchContainer).limits.cpu_shares == 512
    assert not desk.all(LimitContainer)


def test_wrong_amounts_are_refused_at_the_start() -> None:
    wrong = replace(CONFIG, resource_estimator="fixed")
    with pytest.raises(ConfigError, match="--resource-estimator-parameters: resources: the estimator fixed needs what to lend"):
        Desk(wrong)


def test_fixed_lends_always_as_much() -> None:
    fixed = replace(CONFIG, resource_estimator="fixed", resource_estimator_parameters=EstimatorParameters(resources="cpus:2;mem:100"))
    lender = Lender(fixed)
    lender.measure(3)
    assert lender.told() == [slack("cpus:2;mem:100")]
