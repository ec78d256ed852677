"""An agent that is started with other settings while tasks run: what it may announce, and what it is told when it may not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.agent.effects import KnownContainer, LauncherState, Leave, MasterConnected, SignalContainer
from kernel.agent.gpus import Gpu
from kernel.agent.reconfiguration import ADDITIVE, ANY, EQUAL, settle
from kernel.agent.state import Node
from kernel.errors import ConfigError
from kernel.wire.agent import Goodbye, Register, Registered
from kernel.wire.attributes import parse_attributes
from kernel.wire.resources import Resources
from kernel.wire.task import DomainInfo, FaultDomain, RegionInfo, ZoneInfo
from tests.builders import resources
from tests.kernel.agent.desk import AGENT_ID, command, running

HOME = DomainInfo(FaultDomain(RegionInfo("r"), ZoneInfo("z")))
BEFORE = Node(resources("cpus:4;mem:100;ports:[1-9];disks:{a,b}"), parse_attributes("rack:a;level:2;vlans:[1-5]"), hostname="h")


def now(text: str = "", attributes: str = "", **fields: Any) -> Node:
    if text:
        fields["resources"] = resources(text)
    if attributes:
        fields["attributes"] = parse_attributes(attributes)
    return replace(BEFORE, **fields)


def test_the_same_settings_are_fine_in_any_order() -> None:
    other_order = now("mem:100;disks:{b,a};ports:[5-9,1-4];cpus:4", "vlans:[1-5];level:2;rack:a")
    for policy in (EQUAL, ADDITIVE):
        assert settle(BEFORE, other_order, policy) == other_order


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (now("cpus:8;mem:100;ports:[1-9];disks:{a,b}"), "resources were `cpus:4`, are `cpus:8`"),
        (now("cpus:4;mem:100;ports:[1-20];disks:{a,b}"), r"resources were `ports:\[1-9\]`, are `ports:\[1-20\]`"),
        (now("cpus:4;mem:100;ports:[1-9];disks:{a,b,c}"), "disks"),
        (now("cpus:4;mem:100;ports:[1-9];disks:{a,b};gpus:1"), "resources were `none`, are `gpus:1`"),
        (now(attributes="rack:a;level:2;vlans:[1-5];new:x"), "attributes were `none`, are `new:x`"),
        (now(attributes="rack:a;level:2;vlans:[1-9]"), "vlans"),
        (now(domain=HOME), "domain"),
    ],
)
def test_a_gain_is_for_the_additive_policy_only(changed: Node, says: str) -> None:
    assert settle(BEFORE, changed, ADDITIVE) == changed
    with pytest.raises(ConfigError, match=says) as refused:
        settle(BEFORE, changed, EQUAL)
    for way_out in ("the old settings", "--reconfiguration-policy=additive", "--recover=cleanup"):
        assert way_out in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (now("cpus:2;mem:100;ports:[1-9];disks:{a,b}"), "resources were `cpus:4`, are `cpus:2`"),
        (now("cpus(r):4;mem:100;ports:[1-9];disks:{a,b}"), "cpus"),
        (now("cpus:4;mem:100;ports:[2-9];disks:{a,b}"), "ports"),
        (now("cpus:4;mem:100;ports:[1-9]"), "disks.*are `none`"),
        (now(attributes="rack:b;level:2;vlans:[1-5]"), "attributes were `rack:a`, are `rack:b`"),
        (now(attributes="rack:a;level:3;vlans:[1-5]"), "level:2"),
        (now(attributes="rack:a;level:2;vlans:[2-5]"), "vlans"),
        (now(attributes="rack:a;level:2"), "vlans"),
        (now(hostname="other"), "hostname was `h`, is `other`"),
    ],
)
def test_a_loss_is_for_none(changed: Node, says: str) -> None:
    for policy in (EQUAL, ADDITIVE):
        with pytest.raises(ConfigError, match=says):
            settle(BEFORE, changed, policy)


def test_any_means_any() -> None:
    changed = now("cpus:1", "rack:b", hostname="other")
    assert settle(BEFORE, changed, ANY) == changed


def test_a_domain_once_told_is_kept() -> None:
    with pytest.raises(ConfigError, match="domain"):
        settle(now(domain=HOME), now(), ADDITIVE)


def test_everything_that_differs_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cpus:4.*mem:100.*rack:a.*hostname"):
        settle(BEFORE, now("cpus:1;mem:1;ports:[1-9];disks:{a,b}", "rack:b;level:2;vlans:[1-5]", hostname="x"), EQUAL)


def test_what_is_only_detected_stays_as_it_was() -> None:
    """A machine's disk may grow, and a driver fail: nobody changed a setting."""
    gpu = Gpu(0, "GPU-1", "T4", 16, "0:1")
    before = Node(resources("cpus:4;mem:100;gpus:1"), detected=("cpus", "mem", "gpus"), gpus=(gpu,))
    later = Node(resources("cpus:4;mem:90"), detected=("cpus", "mem", "gpus"))
    settled = settle(before, later, EQUAL)
    assert (settled.resources, settled.gpus) == (before.resources, before.gpus)


def test_what_an_operator_has_taken_back_is_a_change() -> None:
    with pytest.raises(ConfigError, match="cpus:8"):
        settle(Node(resources("cpus:8")), Node(resources("cpus:4"), detected=("cpus",)), EQUAL)


def test_the_gpus_that_stand_behind_the_number_count() -> None:
    first, second = Gpu(0, "GPU-0", "T4", 16, "0:1"), Gpu(1, "GPU-1", "T4", 16, "0:2")
    before, other = Node(resources("gpus:1"), gpus=(first,)), Node(resources("gpus:1"), gpus=(second,))
    for policy in (EQUAL, ADDITIVE):
        with pytest.raises(ConfigError, match="GPUs were `0`, are `1`"):
            settle(before, other, policy)
    assert settle(before, Node(resources("gpus:2"), gpus=(first, second)), ADDITIVE).gpus == (first, second)


# ---- The agent ------------------------------------------------------------------------------------------

SMALLER, LARGER = Node(resources("cpus:2;mem:4096")), Node(resources("cpus:8;mem:4096"), parse_attributes("rack:a"))


def test_with_tasks_running_an_agent_refuses_to_start_and_leaves_its_store_alone() -> None:
    desk = running()
    desk.run_task(command("t"))
    kept = dict(desk.store)
    for node in (SMALLER, LARGER):
        with pytest.raises(ConfigError, match="cpus:4"):
            desk.restart(node=node)
    assert desk.store == kept
    desk.restart().give(LauncherState(()))


def test_what_it_gains_is_told_to_the_master_and_is_the_measure_from_then_on() -> None:
    desk = running()
    desk.run_task(command("t"))
    again = desk.restart(node=LARGER, reconfiguration_policy="additive")
    again.give(LauncherState(()))
    again.give(MasterConnected())
    (told,) = again.take_sent(Register)
    assert (told.agent_id, told.attributes, len(told.tasks)) == (AGENT_ID, LARGER.attributes, 1)
    assert Resources.of(told.resources).cpus == 8000
    with pytest.raises(ConfigError, match="cpus:8"):
        again.restart(node=desk.node)


@pytest.mark.parametrize("node", [SMALLER, LARGER])
def test_without_tasks_it_takes_any_settings_and_keeps_its_id(node: Node) -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.exited(container)  # Its end is still to be told.
    again = desk.restart(node=node)
    again.give(LauncherState(()))
    again.give(MasterConnected())
    (told,) = again.take_sent(Register)
    assert (told.agent_id, told.resources) == (AGENT_ID, node.resources)
    assert again.restart(node=node).core.state.agent_id == AGENT_ID


def test_a_restart_of_the_machine_leaves_no_tasks_to_mind() -> None:
    desk = running()
    desk.run_task(command("t"))
    assert desk.restart(boot_id="another", node=SMALLER).core.state.agent_id == AGENT_ID


def test_cleaning_up_ends_what_runs_whatever_the_settings_and_the_next_start_is_a_new_agent() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    cleaning = desk.restart(node=SMALLER, recover="cleanup")
    cleaning.give(LauncherState(()))
    cleaning.tick(0.25)
    assert cleaning.all(Leave) == [], "the master is still to be told"
    cleaning.give(MasterConnected())
    cleaning.master(Registered(AGENT_ID, "master", 3.0, 9.0))
    cleaning.tick(0.25)
    (leave,) = cleaning.all(Leave)
    assert (leave.status, leave.kill_all) == (0, True)
    assert cleaning.take_sent(Goodbye) == [Goodbye(False), Goodbye(True)]
    fresh = cleaning.restart(recover="reconnect")
    fresh.give(LauncherState(()))
    assert fresh.core.state.agent_id == ""
    assert fresh.store == {}


def test_cleaning_up_goes_on_without_a_master() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    cleaning = desk.restart(recover="cleanup")
    assert container in cleaning.core.state.containers
    cleaning.give(LauncherState((KnownContainer(container, 77),)))
    assert [effect.container_id for effect in cleaning.all(SignalContainer)] == [container]
    cleaning.exited(container, 15)
    cleaning.tick(0.25)
    cleaning.tick(1)
    assert len(cleaning.all(Leave)) == 1
