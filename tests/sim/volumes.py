"""Frameworks that reserve, make volumes, write into them and destroy them at random, on disks that outlive every crash but do not
forget: what was written into a volume is there until that volume is destroyed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kernel.agent import effects as a
from kernel.agent.volumes.places import VolumePlace
from kernel.errors import KernelError
from kernel.wire import scheduler
from kernel.wire.conversion import is_volume, persistence_id, stripped, volumes
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import FrameworkID, TaskID
from kernel.wire.offer import Offer, Operation
from kernel.wire.resources import Key, Resource, Resources
from kernel.wire.roles import is_same_or_below
from kernel.wire.task import CommandInfo, TaskInfo
from tests.builders import (
    accept_operations,
    create,
    destroy,
    framework_info,
    grow,
    launch,
    reserve,
    reserved,
    resources,
    shrink,
    unreserve,
    volume,
)
from tests.sim.cluster import Cluster, Master
from tests.sim.machine import Agent
from tests.sim.network import End, Network, connect
from tests.sim.world import Process, World

CAPABLE = (
    FrameworkCapability.MULTI_ROLE,
    FrameworkCapability.RESERVATION_REFINEMENT,
    FrameworkCapability.SHARED_RESOURCES,
    FrameworkCapability.PARTITION_AWARE,
)
NEEDS = "cpus:0.1;mem:32"
DISK_S = 0.2  # At most, for the disk to do what it is told.


class Disk:
    """A machine's disk. made: which volume is in which place; content: what is there; written: all that was ever written into each
    volume, by its place and token."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self.content: dict[str, list[str]] = {}
        self.written: dict[tuple[str, str], list[str]] = {}

    def make(self, place: VolumePlace) -> None:
        if self.made.get(place.path) != place.token:
            self.made[place.path] = place.token
            self.content[place.path] = []

    def remove(self, place: VolumePlace) -> None:
        if self.made.get(place.path) == place.token:
            del self.made[place.path], self.content[place.path]

    def write(self, place: VolumePlace, text: str) -> None:
        self.check(place)
        self.content[place.path].append(text)
        self.written.setdefault((place.path, place.token), []).append(text)

    def check(self, place: VolumePlace) -> None:
        """What was written into a volume that there is is there."""
        written = self.written.get((place.path, place.token), [])
        found = self.content.get(place.path, []) if self.made.get(place.path) == place.token else []
        assert found == written, f"{place.path} has {found}; written was {written}"


class DiskAgent(Agent):
    """An agent whose machine has a disk; what that is told comes late, or not at all when the agent dies first."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.disk = Disk()
        self._newest: dict[str, str] = {}
        self._busy_until_s = 0.0
        self.checked_turns = 0

    def died(self) -> None:
        super().died()
        self._newest = {}

    def perform(self, effect: Any) -> None:
        match effect:
            case a.MakeVolume(place):
                self._newest[place.path] = place.token
                self._when_free(lambda: self.disk.make(place) if self._newest[place.path] == place.token else None)
            case a.RemoveVolume(place):
                self._when_free(lambda: self._remove(place))
            case a.LaunchContainer():
                for mount in effect.volumes:
                    self.disk.make(mount.place)
                    if effect.container_id not in self.disk.content[mount.place.path]:  # A launch may be repeated.
                        self.disk.write(mount.place, effect.container_id)
                super().perform(effect)
            case _:
                super().perform(effect)

    def _when_free(self, act: Callable[[], None]) -> None:
        """One after the other, as `kernel.agent.volumes.disk.Volumes` does."""
        self._busy_until_s = max(self.world.now_s, self._busy_until_s) + self.world.chance.uniform(0, DISK_S)
        self._later(self._busy_until_s - self.world.now_s, act)

    def _remove(self, place: VolumePlace) -> None:
        self.disk.remove(place)
        self.give(a.VolumeRemoved(place.path, place.token))

    def check(self) -> None:
        state = self.core.state
        assert stripped(state.total) == Resources.of(self.resources), f"{self.name} has {state.total}"
        for place in state.volumes.values():
            self.disk.check(place)
        users: Counter[Key] = Counter()
        for framework in state.frameworks.values():
            for task in framework.tasks.values():
                if not task.terminal:
                    users.update(key for key in volumes(Resources.of(task.info.resources)) if not key.shared)
        assert all(count == 1 for count in users.values()), f"{self.name}: volumes have several users: {users}"


class _NoCore:
    """A tenant decides nothing that must outlive it."""

    unsettled = False

    def receive(self, message: Any, now: Any) -> Sequence[Any]:
        return ()

    def settle(self, now: Any, budget_s: float) -> Sequence[Any]:
        return ()


class Tenant(Process):
    """A framework of its own making: it does something with each offer, and acknowledges what it is told."""

    def __init__(self, world: World, network: Network, name: str, role: str, master: Master) -> None:
        super().__init__(world, name)
        self.network, self.role, self.master = network, role, master
        self.end: End | None = None
        self.quiet = False
        self.done: Counter[str] = Counter()  # States of operations it was told.
        self._numbers = 0

    def make(self) -> Any:
        return _NoCore()

    def began(self) -> None:
        self._connect(self.life)

    def died(self) -> None:
        if self.end is not None:
            self.end.close()
            self.end = None

    def _connect(self, life: int) -> None:
        if not self.alive(life) or self.end is not None:
            return
        ends = connect(self.network, self, self.master, strict=True)
        if ends is None:
            self.world.after(0.5, lambda: self._connect(life))
            return
        self.end, far = ends
        end = self.end
        end.on_item = lambda event: self._hear(end, event)
        end.on_close = lambda: self._lost(end, life)
        info = framework_info(self.name, *CAPABLE, roles=(self.role,), failover_timeout=3600.0, id=FrameworkID(self.name))
        self.master.accept_stream(far, self.name, scheduler.Subscribe(info))

    def _lost(self, end: End, life: int) -> None:
        if self.end is end:
            self.end = None
            self.world.after(0.3, lambda: self._connect(life))

    def _hear(self, end: End, event: Any) -> None:
        if self.end is not end:
            return
        if isinstance(event, KernelError):
            end.close()
            self._lost(end, self.life)
        elif event.offers is not None:
            for offer in event.offers.offers:
                end.send(self._use(offer))
        elif event.update is not None and event.update.status.uuid is not None:
            status = event.update.status
            end.send(scheduler.Acknowledge(status.agent_id, status.task_id, status.uuid))
        elif event.update_operation_status is not None:
            status = event.update_operation_status.status
            self.done[status.state.value] += 1
            if status.uuid is not None:
                end.send(scheduler.AcknowledgeOperationStatus(status.uuid.value, status.operation_id, status.agent_id))

    # ---- What it does -----------------------------------------------------------------------------------

    def _use(self, offer: Offer) -> Any:
        chance, held = self.world.chance, Resources.of(offer.resources)
        made: list[Operation] = []
        if not self.quiet:
            for act in chance.sample((self._reserve, self._create, self._launch, self._destroy, self._resize, self._unreserve), 3):
                made += act(offer, held)
        return accept_operations([offer.id.value], *made, refuse_s=chance.choice((0.0, 1.0, 5.0)))

    def _id(self) -> str | None:
        self._numbers += 1
        return f"{self.name}-{self.life}-{self._numbers}" if self.world.chance.random() < 0.7 else None

    def _reserve(self, offer: Offer, held: Resources) -> list[Operation]:
        wanted = reserved(self.world.chance.choice(("disk:50", "cpus:0.5", "mem:100;disk:20")), self.role)
        return [reserve(*wanted, operation_id=self._id())]

    def _new_volume(self) -> Resource:
        chance = self.world.chance
        return volume(f"v{chance.randrange(4)}", chance.choice((10, 20)), self.role, shared=chance.random() < 0.3)

    def _create(self, offer: Offer, held: Resources) -> list[Operation]:
        wanted = self._new_volume()
        made = [create(wanted, operation_id=self._id())]
        if self.world.chance.random() < 0.5:
            assert wanted.scalar is not None
            made = [reserve(*reserved(f"disk:{wanted.scalar.value:f}", self.role), operation_id=self._id()), *made]
            if self.world.chance.random() < 0.7:
                made.append(launch(self._task(offer, wanted)))
        return made

    def _launch(self, offer: Offer, held: Resources) -> list[Operation]:
        return [launch(self._task(offer, one)) for one in self._volumes(offer)]

    def _task(self, offer: Offer, one: Resource) -> TaskInfo:
        self._numbers += 1
        task_id = f"{self.name}-{self.life}-t{self._numbers}"
        command = CommandInfo(value=f"run {round(self.world.chance.uniform(0.05, 8), 2)} exit 0")
        return TaskInfo(name=task_id, task_id=TaskID(task_id), agent_id=offer.agent_id, resources=(*resources(NEEDS), one), command=command)

    def _destroy(self, offer: Offer, held: Resources) -> list[Operation]:
        return [destroy(one, operation_id=self._id()) for one in self._volumes(offer)[:1]]

    def _resize(self, offer: Offer, held: Resources) -> list[Operation]:
        if self.world.chance.random() < 0.5:
            return [shrink(one, 5, operation_id=self._id()) for one in self._volumes(offer)[:1]]
        return [grow(one, reserved("disk:5", self.role)[0], operation_id=self._id()) for one in self._volumes(offer)[:1]]

    def _unreserve(self, offer: Offer, held: Resources) -> list[Operation]:
        free = held.where(lambda key: bool(key.reservations) and not is_volume(key))
        return [unreserve(*free.messages(), operation_id=self._id())] if free else []

    def _volumes(self, offer: Offer) -> list[Resource]:
        return [one for one in offer.resources if one.disk is not None and one.disk.persistence is not None]


class Tenanted(Cluster):
    """A cluster in which two such frameworks live beside the others, one in a role below the other's."""

    agent_class = DiskAgent
    agents: list[DiskAgent]  # type: ignore[assignment]

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.tenants = [
            Tenant(self.world, self.network, f"tenant{i}", role, self.master) for i, role in enumerate(("eng", "eng/db", "ops"))
        ]
        for tenant in self.tenants:
            tenant.start()

    @property
    def processes(self) -> list[Process]:
        return [*super().processes, *getattr(self, "tenants", ())]

    def settle(self, within_s: float = 1500.0) -> None:
        for tenant in self.tenants:
            tenant.quiet = True
        super().settle(within_s)

    def check(self) -> None:
        before = self._checked_turns
        super().check()
        for agent in self.agents:
            if agent.core is not None and agent.turns != agent.checked_turns:
                agent.checked_turns = agent.turns
                agent.check()
        if self.master.core is not None and self._checked_turns != before:
            self._check_roles()

    def _check_roles(self) -> None:
        """What is reserved for a role is used by it and the roles below, and offered to nobody else."""
        for agent in self.master.core.state.agents.values():
            for holder in (*agent.tasks.values(), *agent.offers.values()):
                for key in holder.resources.other or ():
                    assert not key.reservations or is_same_or_below(holder.role, key.role), f"{holder.role} has {holder.resources}"
            names = Counter((key.role, persistence_id(key)) for key in volumes(agent.total))
            assert all(count == 1 for count in names.values()), f"{agent.agent_id} has volumes twice: {names}"

    def unfinished(self) -> str:
        left = super().unfinished()
        if left:
            return left
        for agent in self.agents:
            state = agent.core.state
            known = self.master.core.state.agents.get(state.agent_id)
            if known is None or known.link is None or known.total != state.total:
                return f"the master does not know what {agent.name} has: {state.total}"
            if known.operations or state.operations or state.doomed:
                return f"{agent.name} still has operations, or volumes to remove"
        return ""

    def check_end(self) -> None:
        super().check_end()
        for agent in self.agents:
            there = {place.path: place.token for place in agent.core.state.volumes.values()}
            assert agent.disk.made.items() <= there.items(), f"{agent.name}: {agent.disk.made} is left on the disk of {there}"
