"""Operations on the agent's resources: done once, remembered, told until acknowledged, whoever dies in between."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from kernel.agent.effects import CloseMasterLink, LaunchContainer, LauncherState, MakeVolume, MasterConnected, RemoveVolume, VolumeRemoved
from kernel.agent.isolators.limits import limits_of
from kernel.agent.state import Node
from kernel.errors import ConfigError
from kernel.wire.agent import AcknowledgeOperation, ApplyOperation, OperationUpdate, Register, RunTask, ShutdownFramework
from kernel.wire.offer import Operation, OperationState
from kernel.wire.resources import Resource, Resources
from kernel.wire.task import Reason, TaskInfo, TaskState
from tests.builders import create, destroy, grow, reserve, reserved, resources, unreserve, volume
from tests.kernel.agent.desk import Desk, command, register

_uuids = itertools.count(1)
MADE = volume("v", 100, "eng/db", path="in/data")
DISK = reserved("disk:100", "eng/db")
PLACE = "/work/volumes/roles/eng db/v"
NODE = Node(resources("cpus:4;mem:4096;disk:1000"))


def running() -> Desk:
    """A registered agent with an empty launcher, and a framework `f`."""
    desk = Desk(node=NODE)
    desk.give(LauncherState(()))
    return register(desk)


def desk_with_disk() -> Desk:
    """An agent that has made volume `v`, and all is acknowledged."""
    desk = running()
    do(desk, reserve(*DISK), create(MADE))
    return desk


def do(desk: Desk, *operations: Operation, acknowledge: bool = True) -> list[OperationUpdate]:
    told = []
    for operation in operations:
        apply(desk, operation)
        told += desk.take_sent(OperationUpdate)
    if acknowledge:
        for update in told:
            assert update.status.uuid is not None
            desk.master(AcknowledgeOperation(update.uuid, update.status.uuid.value))
    return told


def apply(desk: Desk, operation: Operation, framework_id: str = "f") -> bytes:
    uuid = next(_uuids).to_bytes(16, "big")
    desk.master(ApplyOperation(framework_id, uuid, operation))
    return uuid


def total(desk: Desk) -> Resources:
    return desk.core.state.total


class TestOneOperation:
    def test_is_kept_before_it_is_told(self) -> None:
        desk = running()
        apply(desk, reserve(*reserved("cpus:1", "eng"), operation_id="op"))
        assert {key for key in desk.store if key == "resources" or key.startswith("operations/")} != set()
        (update,) = desk.take_sent(OperationUpdate)
        assert update.status.state is OperationState.OPERATION_FINISHED
        assert update.status.converted_resources == Resources.of(reserved("cpus:1", "eng")).messages()
        assert total(desk).contains(Resources.of(reserved("cpus:1", "eng")))

    def test_that_comes_twice_is_done_once(self) -> None:
        desk = running()
        operation = reserve(*reserved("cpus:1", "eng"))
        desk.master(ApplyOperation("f", b"u" * 16, operation))
        desk.master(ApplyOperation("f", b"u" * 16, operation))
        assert total(desk) == Resources.of((*reserved("cpus:1", "eng"), *resources("cpus:3;mem:4096;disk:1000")))

    @pytest.mark.parametrize(
        "wrong", [unreserve(*reserved("cpus:1", "eng")), create(MADE), Operation(), reserve(*reserved("cpus:9", "eng"))]
    )
    def test_that_cannot_be_gets_another_link_and_changes_nothing(self, wrong: Operation) -> None:
        desk = running()
        before = dict(desk.store)
        apply(desk, wrong)
        assert desk.one(CloseMasterLink)
        assert total(desk) == Resources.parse("cpus:4;mem:4096;disk:1000")
        assert desk.store == before

    def test_is_told_again_until_it_is_acknowledged(self) -> None:
        desk = running()
        (first,) = do(desk, reserve(*reserved("cpus:1", "eng")), acknowledge=False)
        desk.tick(11)
        (again,) = desk.take_sent(OperationUpdate)
        assert again == first
        assert first.status.uuid is not None
        desk.master(AcknowledgeOperation(first.uuid, first.status.uuid.value))
        desk.tick(100)
        assert desk.take_sent(OperationUpdate) == []
        assert not any(key.startswith("operations/") for key in desk.store)

    def test_of_a_framework_that_is_gone_is_told_nobody(self) -> None:
        desk = running()
        do(desk, reserve(*reserved("cpus:1", "eng")), acknowledge=False)
        desk.master(ShutdownFramework("f"))
        desk.tick(100)
        assert desk.take_sent(OperationUpdate) == []
        assert total(desk).contains(Resources.of(reserved("cpus:1", "eng")))


class TestAfterARestart:
    @pytest.mark.parametrize("boot_id", ["boot", "another boot"])
    def test_all_is_as_it_was(self, boot_id: str) -> None:
        desk = running()
        (told,) = do(desk, reserve(*reserved("cpus:1", "eng")), acknowledge=False)
        again = desk.restart(boot_id)
        again.give(LauncherState(()))
        again.give(MasterConnected())
        (message,) = again.take_sent(Register)
        assert Resources.of(message.resources) == Resources.parse("cpus:4;mem:4096;disk:1000")
        assert Resources.of(message.total) == total(desk)
        assert [(report.uuid, report.status) for report in message.operations] == [(told.uuid, told.status)]
        register(again)
        assert again.take_sent(OperationUpdate) == [told]

    def test_another_agent_of_this_machine_has_the_volumes(self) -> None:
        desk = desk_with_disk()
        store = {key: value for key, value in desk.store.items() if key == "resources"}
        other = Desk(desk.config, store, run=7, node=NODE)
        assert total(other) == total(desk)

    def test_volumes_are_made_and_removed_again(self) -> None:
        desk = desk_with_disk()
        do(desk, destroy(MADE))
        again = desk.restart()
        again.give(LauncherState(()))
        (removal,) = again.all(RemoveVolume)
        assert removal.place.path == PLACE
        again.give(VolumeRemoved(removal.place.path, removal.place.token))
        last = again.restart()
        last.give(LauncherState(()))
        assert not last.all(RemoveVolume)

    def test_settings_that_lack_what_is_reserved_are_refused(self) -> None:
        desk = desk_with_disk()
        with pytest.raises(ConfigError, match=r"--resources: \{disk:100\} is reserved"):
            Desk(desk.config, desk.store, run=2, node=Node(resources("cpus:4;mem:4096;disk:50")))


class TestVolumes:
    def test_one_is_made_where_its_role_and_id_say(self) -> None:
        desk = running()
        do(desk, reserve(*DISK), acknowledge=False)
        apply(desk, create(MADE))
        assert desk.one(MakeVolume).place.path == PLACE

    def test_one_that_grows_stays_what_it_is(self) -> None:
        desk = desk_with_disk()
        (more,) = reserved("disk:10", "eng/db")
        do(desk, reserve(more), acknowledge=False)
        apply(desk, grow(MADE, more))
        assert not desk.all(MakeVolume)
        assert not desk.all(RemoveVolume)

    def test_one_in_the_place_of_another_is_another(self) -> None:
        desk = desk_with_disk()
        first = desk.core.state.volumes[PLACE].token
        do(desk, destroy(MADE), create(MADE))
        assert desk.core.state.volumes[PLACE].token != first
        assert not desk.core.state.doomed
        desk.give(VolumeRemoved(PLACE, first))
        assert desk.core.state.volumes[PLACE].token != first

    def test_a_task_sees_it_in_its_sandbox(self) -> None:
        desk = desk_with_disk()
        desk.run_task(with_resources("t", MADE))
        (mount,) = desk.one(LaunchContainer).volumes
        assert (mount.place.path, mount.container_path, mount.read_only) == (PLACE, "in/data", False)

    @pytest.mark.parametrize("path", ["/data", "../data", ".", ""])
    def test_a_path_out_of_the_sandbox_fails_the_task(self, path: str) -> None:
        desk = desk_with_disk()
        assert desk.run_task(with_resources("t", volume("v", 100, "eng/db", path=path))) == ""
        (status,) = desk.updates()
        assert status.reason is Reason.REASON_CONTAINER_LAUNCH_FAILED

    @pytest.mark.parametrize("wrong", [volume("w", 100, "eng/db"), *reserved("cpus:1", "eng")])
    def test_what_the_agent_does_not_have_drops_the_task(self, wrong: Resource) -> None:
        desk = desk_with_disk()
        desk.master(RunTask("f", with_resources("t", wrong), True))
        (status,) = desk.updates()
        assert (status.state, status.reason) == (TaskState.TASK_LOST, Reason.REASON_RESOURCES_UNKNOWN)


def with_resources(task_id: str, *more: Resource) -> TaskInfo:
    info = command(task_id)
    return replace(info, resources=(*info.resources, *more))


def test_a_volume_is_no_part_of_the_sandbox_and_its_disk() -> None:
    given = (*resources("cpus:1;disk:10"), MADE)
    assert limits_of(given, {}, quota=False, pids_max=None).disk_mib == 10
