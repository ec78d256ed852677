"""Whatever happens while a read is sent, it shows the instant it was asked for."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from kernel.errors import KernelError
from kernel.master import effects as e
from kernel.master import views
from kernel.wire import scheduler
from kernel.wire.agent import ExecutorExited, Goodbye, TaskReport
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import TaskState
from tests.builders import accept, executor, framework_info, register, task
from tests.kernel.master.conductor import Conductor

NAMES = ("state", "state-summary", "slaves", "frameworks", "tasks", "roles", "get_state", "get_tasks", "get_agents", "subscribed")
STATES = (TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLING, TaskState.TASK_FINISHED, TaskState.TASK_FAILED)
AGENTS = 4


class Life:
    """A small cluster to which things happen, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.c = Conductor(max_completed_tasks_per_framework=5)
        self.links = dict.fromkeys(range(AGENTS), 0)  # Agent: its link, 0 while it has none.
        self.ids: dict[int, str] = {}
        self.last_link = self.tasks = self.streams = 0
        self.frameworks: dict[str, str] = {}  # Id: stream.
        for _ in range(2):
            self.subscribe()
        for agent in range(AGENTS):
            self.connect(agent)

    def subscribe(self) -> None:
        self.streams += 1
        info = framework_info(f"f{self.streams}", FrameworkCapability.PARTITION_AWARE, failover_timeout=20.0)
        self.frameworks[self.c.subscribe(f"s{self.streams}", info)] = f"s{self.streams}"

    def connect(self, agent: int) -> None:
        """Register, with what the master knows of it; now and then something is missing."""
        self.last_link += 1
        known = self.c.core.state.agents.get(self.ids.get(agent, ""))
        reports, infos = [], []
        for held in known.tasks.values() if known is not None else ():
            framework = self.c.core.state.frameworks[held.framework_id]
            if not held.executor_id and self.chance.random() < 0.8:
                reports.append(TaskReport(held.framework_id, held.info, held.state))
                infos.append(framework.info)
        message = register(
            str(agent),
            "cpus:4;mem:4096;ports:[31000-31009]",
            agent_id=self.ids.get(agent, ""),
            tasks=tuple(reports),
            frameworks=tuple({info.id: info for info in infos}.values()),
        )
        self.ids[agent] = self.c.agent(self.last_link, message)
        self.links[agent] = self.last_link

    def step(self) -> None:
        happening = self.chance.choice(
            [self.launch] * 4
            + [self.update] * 5
            + [self.disconnect, self.reconnect, self.reconnect, self.time, self.leave, self.framework, self.kill]
        )
        try:
            happening()
        except KernelError:
            pass  # Refused, so nothing happened.

    def launch(self) -> None:
        offers = list(self.c.core.state.offers.values())
        if offers:
            offer = self.chance.choice(offers)
            fid, aid = offer.framework.framework_id, offer.agent.agent_id
            self.tasks += 1
            text = self.chance.choice(("cpus:1;mem:32", f"cpus:0.5;mem:64;ports:[{31000 + self.tasks % 10}-{31000 + self.tasks % 10}]"))
            custom = executor("x") if self.chance.random() < 0.2 else None
            fields = {"executor": custom} if custom is not None else {}
            self.c.call(fid, accept([offer.offer_id], task(f"t{self.tasks}", aid, text, **fields), refuse_s=0.0), self.frameworks[fid])
            self.c.later(1.1)

    def update(self) -> None:
        live = [held for framework in self.c.core.state.frameworks.values() for held in framework.tasks.values()]
        linked = {agent.agent_id: link for link, agent in self.c.core.state.links.items()}
        live = [held for held in live if held.agent_id in linked]
        if live:
            held = self.chance.choice(live)
            uuid = self.c.update(linked[held.agent_id], held.framework_id, held.task_id, self.chance.choice(STATES))
            stream = self.frameworks.get(held.framework_id)
            if stream is not None and self.chance.random() < 0.7:
                acknowledge = scheduler.Acknowledge(AgentID(held.agent_id), TaskID(held.task_id), uuid)
                self.c.call(held.framework_id, acknowledge, stream)

    def disconnect(self) -> None:
        agent = self.chance.randrange(AGENTS)
        self.c.give(e.LinkClosed(self.links[agent]))

    def reconnect(self) -> None:
        agent = self.chance.randrange(AGENTS)
        if self.links[agent] not in self.c.core.state.links:
            self.connect(agent)

    def time(self) -> None:
        self.c.later(self.chance.choice((1.0, 5.0, 12.0)))

    def leave(self) -> None:
        agent = self.chance.randrange(AGENTS)
        if self.chance.random() < 0.3:
            self.c.give(e.FromAgent(self.links[agent], Goodbye(final=True)))
            self.ids.pop(agent, None)
        else:
            fid = self.chance.choice([*self.frameworks, "none"])
            self.c.give(e.FromAgent(self.links[agent], ExecutorExited(fid, "x", 0)))

    def framework(self) -> None:
        fid = self.chance.choice(list(self.frameworks))
        what = self.chance.random()
        if what < 0.4:
            self.c.give(e.StreamClosed(self.frameworks[fid]))
        elif what < 0.6:
            self.c.give(e.TeardownFramework(fid))
            del self.frameworks[fid]
            self.subscribe()
        else:
            self.subscribe()

    def kill(self) -> None:
        fid = self.chance.choice(list(self.frameworks))
        self.c.call(fid, scheduler.Kill(TaskID(f"t{self.tasks}")), self.frameworks[fid])


def read(fragments: Iterable[bytes]) -> object:
    return json.loads(b"".join(fragments))


@pytest.mark.parametrize("seed", range(60))
def test_a_read_shows_its_instant(seed: int) -> None:
    """Each read is begun twice, one is sent at once and the other later, when much has happened; and what is kept of earlier
    renderings never shows what was."""
    life = Life(seed)
    state = life.c.core.state
    waiting: list[tuple[object, Iterable[bytes]]] = []
    for _ in range(60):
        name = life.chance.choice(NAMES)
        waiting.append((read(views.render(state, name, {})), views.render(state, name, {})))
        for _ in range(life.chance.randrange(4)):
            life.step()
        if life.chance.random() < 0.2:
            expected, fragments = waiting.pop(life.chance.randrange(len(waiting)))
            assert read(fragments) == expected
            del fragments
    for expected, fragments in waiting:
        assert read(fragments) == expected
    waiting.clear()
    fragments = ()
    assert not state.pictures
    for name in NAMES:
        kept = read(views.render(state, name, {}))
        for framework in (*state.frameworks.values(), *state.completed.values()):
            for held in (*framework.tasks.values(), *framework.unreachable.values(), *framework.completed):
                held.rendered = None
        for agent in state.agents.values():
            agent.rendered = None
        assert read(views.render(state, name, {})) == kept


@pytest.mark.parametrize("seed", range(30))
def test_sums_are_what_adding_up_gives(seed: int) -> None:
    life = Life(1000 + seed)
    state = life.c.core.state
    for _ in range(80):
        life.step()
        for framework in state.frameworks.values():
            counted = Counter(held.state.value for held in framework.tasks.values())
            assert {name: count for name, count in framework.live.items() if count} == counted
            held_by_role: Counter[str] = Counter()
            for held in (*(held for held in framework.tasks.values() if not held.freed), *framework.executors.values()):
                held_by_role[held.role] += held.resources.cpus
            assert {role: sums.cpus for role, sums in framework.used.by_role.items()} == held_by_role
            offered = sum(offer.resources.cpus for offer in framework.offers.values())
            assert sum(sums.cpus for sums in framework.offered.by_role.values()) == offered
