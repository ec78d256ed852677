"""A whole cluster in one thread: one master, agents, frameworks; every core is the real one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from frameworks.sdk.driver import Connect, Disconnect, Heard, Lost, Send, Stop
from frameworks.sdk.scheduler import Scheduler, framework_info
from kernel.clock import Now
from kernel.errors import KernelError
from kernel.master import effects as m
from kernel.master import registry
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.wire.agent import AgentFrame, MasterFrame
from kernel.wire.command import CheckType, Environment, HealthCheck, Variable
from kernel.wire.conversion import unshared
from kernel.wire.ids import TaskID
from kernel.wire.link import FrameOrder, Verdict
from kernel.wire.nodes import MasterInfo
from kernel.wire.resources import Resources
from kernel.wire.scheduler import Subscribe
from kernel.wire.task import TERMINAL, CommandInfo, TaskInfo, TaskState, TaskStatus
from tests.sim.machine import Agent
from tests.sim.network import End, Faults, Network, connect
from tests.sim.world import Process, World

HEARTBEAT_S = 15.0
NEVER_RAN = frozenset({TaskState.TASK_LOST, TaskState.TASK_GONE, TaskState.TASK_GONE_BY_OPERATOR})  # A launch lost on its way.


class Master(Process):
    """The master's core with its links and streams."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "master")
        self.links: dict[int, tuple[End, FrameOrder, list[Any]]] = {}
        self.streams: dict[str, End] = {}
        self._numbers = 0

    def make(self) -> MasterCore:
        info = MasterInfo(id=f"M{self.life}", ip=0, port=5050, hostname="master")
        return MasterCore(MasterConfig(), info, registry.load(self.kept.items()), self.now(), lambda *_: [])

    def died(self) -> None:
        for end, _, _ in self.links.values():
            end.close()
        for end in self.streams.values():
            end.close()
        self.links, self.streams = {}, {}

    # ---- Agents -----------------------------------------------------------------------------------------

    def accept_agent(self, end: End) -> None:
        self._numbers += 1
        link = self._numbers
        self.links[link] = (end, FrameOrder(), [])
        end.on_item = lambda frame: self._frame(link, frame)
        end.on_close = lambda: self._link_ended(link)

    def _frame(self, link: int, frame: AgentFrame) -> None:
        if link not in self.links:
            return
        end, order, _ = self.links[link]
        verdict = order.check(frame.number)
        if verdict is Verdict.BROKEN:
            end.close()
            self._link_ended(link)
        elif verdict is Verdict.TAKE:
            for message in frame.messages:
                self.give(m.FromAgent(link, message))

    def _link_ended(self, link: int) -> None:
        if self.links.pop(link, None) is not None:
            self.give(m.LinkClosed(link))

    # ---- Frameworks -------------------------------------------------------------------------------------

    def accept_stream(self, end: End, framework_id: str, body: Subscribe) -> None:
        self._numbers += 1
        stream = f"stream-{self._numbers}"
        self.streams[stream] = end
        end.on_close = lambda: self._stream_ended(stream)
        end.on_item = lambda call: self._call(end, stream, framework_id, call)
        refused = self.give(m.SubscribeFramework(stream, framework_id, None, body))
        if isinstance(refused, KernelError):
            end.close()
            self._stream_ended(stream)
        else:
            self.world.after(HEARTBEAT_S, lambda: self._heartbeat(stream))

    def _call(self, end: End, stream: str, framework_id: str, body: Any) -> None:
        refused = self.give(m.SchedulerCall(framework_id, stream, None, body))
        if isinstance(refused, KernelError):
            end.send(refused)

    def _heartbeat(self, stream: str) -> None:
        end = self.streams.get(stream)
        if end is not None:
            from kernel.wire.scheduler import Event

            end.send(Event("HEARTBEAT"))
            self.world.after(HEARTBEAT_S, lambda: self._heartbeat(stream))

    def _stream_ended(self, stream: str) -> None:
        if self.streams.pop(stream, None) is not None:
            self.give(m.StreamClosed(stream))

    # ---- Effects ----------------------------------------------------------------------------------------

    def perform(self, effect: Any) -> None:
        match effect:
            case m.ToAgent(link, message):
                if link in self.links:
                    self.links[link][2].append(message)
            case m.CloseLink(link):
                self.flush()
                if link in self.links:
                    self.links.pop(link)[0].close()
            case m.ToStream(stream, event):
                if stream in self.streams:
                    self.streams[stream].send(event)
            case m.CloseStream(stream):
                if stream in self.streams:
                    self.streams.pop(stream).close()

    def flush(self) -> None:
        for end, order, outbox in self.links.values():
            if outbox:
                end.send(MasterFrame(order.next_number(), tuple(outbox)))
                outbox.clear()


class Workload(Scheduler):
    """A framework that launches what it is asked to and remembers how each task ended."""

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        self.ends: dict[str, list[TaskStatus]] = {
            key[4:]: [TaskStatus(TaskID(key[4:]), TaskState(value.decode()))]
            for key, value in self.kept.own.items()
            if key.startswith("end/")
        }

    def asked(self, message: Any, now: Now) -> None:
        match message:
            case ("submit", TaskInfo() as info, Resources() as wants):
                self.add(info, wants)
            case ("kill", str(task_id)):
                self.kill(task_id, now)

    def updated(self, task: Any, status: TaskStatus, now: Now) -> None:
        if status.state in TERMINAL:
            self.ends.setdefault(task.task_id, []).append(status)
            self.keep(f"end/{task.task_id}", status.state.value.encode())


class Framework(Process):
    """A scheduler's core with its stream and calls."""

    revocable = False

    def __init__(self, world: World, network: Network, name: str, role: str, master: Master) -> None:
        super().__init__(world, name)
        self.network, self.role, self.master = network, role, master
        self.end: End | None = None
        self.ids: set[str] = set()
        self.stopped: str | None = None
        self._session = 0

    def make(self) -> Workload:
        info = framework_info(self.name, roles=(self.role,), failover_timeout_s=3600.0, revocable=self.revocable)
        core = Workload(info, dict(self.kept), fresh_id=f"{self.name}-{self.life}", spread=self.world.chance.random())
        return core

    def died(self) -> None:
        if self.end is not None:
            self.end.close()
            self.end = None

    def perform(self, effect: Any) -> None:
        match effect:
            case Connect(session, call):
                self._hang_up()
                self._session = session
                life = self.life
                self.world.after(0.01, lambda: self._connect(life, session, call) if self.alive(life) else None)
            case Disconnect():
                self._hang_up()
            case Send(session, call):
                if session == self._session and self.end is not None:
                    self.end.send(next(body for name in call.__struct_fields__[2:] if (body := getattr(call, name)) is not None))
            case Stop(error):
                self.stopped = error or "stopped"

    def _hang_up(self) -> None:
        if self.end is not None:
            self.end.close()
            self.end = None

    def _connect(self, life: int, session: int, call: Any) -> None:
        if session != self._session:
            return
        ends = connect(self.network, self, self.master, strict=True)
        if ends is None:
            self.world.after(0.5, lambda: self._lost(life, session))
            return
        self.end, far = ends
        self.ids.add(call.framework_id.value)
        self.end.on_item = lambda event: self._heard(session, event)
        self.end.on_close = lambda: self._lost(life, session)
        self.master.accept_stream(far, call.framework_id.value, call.subscribe)

    def _heard(self, session: int, event: Any) -> None:
        if isinstance(event, KernelError):  # As the edge does with a call that its subscription is to blame for.
            self._hang_up()
            self.give(Lost(session, str(event)))
        else:
            self.give(Heard(session, event))

    def _lost(self, life: int, session: int) -> None:
        if self.alive(life) and session == self._session:
            self.end = None
            self.give(Lost(session, "the stream ended"))


class Cluster:
    """A cluster from a seed. `run` lets faults happen, `settle` lets it come to rest; both check as they go."""

    agent_class, framework_class, master_class = Agent, Framework, Master

    def __init__(self, seed: int, agents: int = 3, frameworks: int = 2) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        self.master = self.master_class(self.world)
        machine = "cpus:4;mem:4096;disk:1000;ports:[31000-31009]"
        self.agents = [self.agent_class(self.world, self.network, f"agent{i}", 5051 + i, machine) for i in range(agents)]
        self.frameworks = [
            self.framework_class(self.world, self.network, f"framework{i}", f"role{i}", self.master) for i in range(frameworks)
        ]
        self.submitted: dict[str, tuple[Framework, int, bool]] = {}  # By task: exit status, whether it was killed.
        self.checked: dict[str, int] = {}  # By task with a health check: how many failures kill it.
        self._tasks = self._checked_turns = 0
        for agent in self.agents:
            agent.master = self.master
        for process in self.processes:
            process.start()

    @property
    def processes(self) -> list[Process]:
        return [self.master, *(agent.launcher for agent in self.agents), *self.agents, *self.frameworks]

    # ---- Work and trouble -------------------------------------------------------------------------------

    def submit(self) -> None:
        chance = self.world.chance
        framework = chance.choice(self.frameworks)
        if framework.core is None:
            return
        self._tasks += 1
        task_id = f"t{self._tasks}"
        seconds, status = round(chance.uniform(0.05, 20), 2), chance.choice((0, 0, 0, 1))
        stubborn = " stubborn" if chance.random() < 0.1 else ""
        command = CommandInfo(
            value=f"run {seconds} exit {status}{stubborn}",
            environment=Environment((Variable("SIM_TASK", value=task_id),)),
        )
        health = self._health_check(task_id) if chance.random() < 0.3 else None
        info = TaskInfo(name=task_id, task_id=TaskID(task_id), agent_id=None, command=command, health_check=health)  # type: ignore[arg-type]
        if (
            framework.give(("submit", info, self.wants())) is None
            and framework.core is not None
            and framework.core.tasks.get(task_id) is not None
        ):
            self.submitted[task_id] = (framework, status, False)

    def wants(self) -> Resources:
        """What a task is to have."""
        return Resources.parse(self.world.chance.choice(("cpus:0.5;mem:64", "cpus:1;mem:512", "cpus:2;mem:128")))

    def _health_check(self, task_id: str) -> HealthCheck:
        """One that always succeeds, may fail, or takes too long."""
        chance = self.world.chance
        self.checked[task_id] = failures_max = chance.choice((1, 2, 3))
        variables = Environment((Variable("SIM_TASK", value=""), Variable("SIM_CHECKED", value=task_id)))
        return HealthCheck(
            delay_seconds=chance.choice((0.0, 2.0)),
            interval_seconds=chance.choice((0.0, 3.0)),
            timeout_seconds=2.0,
            consecutive_failures=failures_max,
            grace_period_seconds=chance.choice((0.0, 5.0)),
            type=CheckType.COMMAND,
            command=CommandInfo(value=f"run {chance.choice((0.1, 0.1, 3))} exit {chance.choice((0, 'any'))}", environment=variables),
        )

    def kill_one(self) -> None:
        chance = self.world.chance
        framework = chance.choice(self.frameworks)
        if framework.core is None or not len(framework.core.tasks):
            return
        task_id = chance.choice([record.task_id for record in framework.core.tasks])
        if task_id in self.submitted:
            owner, status, _ = self.submitted[task_id]
            self.submitted[task_id] = (owner, status, True)
        framework.give(("kill", task_id))

    def trouble(self) -> None:
        """One fault, chosen by chance."""
        chance = self.world.chance
        match chance.randrange(5):
            case 0 | 1:
                chance.choice(self.processes).crash_soon()
            case 2:
                chance.choice(self.processes).crash()
            case 3:
                names = {process.name for process in chance.sample([self.master, *self.agents, *self.frameworks], 2)}
                self.network.partition(names | {f"{name}-launcher" for name in names})
                self.world.after(chance.uniform(1, 30), self.network.heal)
            case 4:
                self.network.faults = Faults(
                    drop=chance.choice((0, 0.02, 0.1)),
                    double=chance.choice((0, 0.05)),
                    hold=chance.choice((0, 0.02)),
                    delay_s=chance.choice((0.01, 0.5)),
                )
                self.world.after(chance.uniform(1, 30), self.calm)

    def calm(self) -> None:
        self.network.faults = Faults()

    def run(self, seconds: float, tasks_in_flight: int = 50, troubles_per_minute: float = 12) -> None:
        """Let work and trouble happen for a while."""
        until = self.world.now_s + seconds

        def work() -> None:
            if self.world.now_s < until:
                live = sum(len(f.core.tasks) for f in self.frameworks if f.core is not None)
                if live < tasks_in_flight:
                    self.submit()
                if self.world.chance.random() < 0.05:
                    self.kill_one()
                self.world.after(self.world.chance.expovariate(4), work)

        def fail() -> None:
            if self.world.now_s < until:
                self.trouble()
                self.world.after(self.world.chance.expovariate(troubles_per_minute / 60), fail)

        work()
        fail()
        while self.world.next_s < until:
            self.world.step()
            self.check()
        self.world.now_s = until

    def settle(self, within_s: float = 1500.0) -> None:
        """Faults stop; everything must end in bounded time."""
        self.network.heal()
        self.calm()
        until = self.world.now_s + within_s
        while self.world.next_s < until:
            self.world.step()
            self.check()
            if self.at_rest():
                return
        raise AssertionError(f"not at rest after {within_s:g} s: {self.unfinished()}")

    def at_rest(self) -> bool:
        return not self.unfinished()

    def unfinished(self) -> str:
        """What is still under way, in words; empty when nothing is."""
        down = [process.name for process in self.processes if process.core is None]
        if down:
            return f"{down} are down"
        for framework in self.frameworks:
            if len(framework.core.tasks):
                return f"{framework.name} waits for {[(r.task_id, r.state) for r in framework.core.tasks][:5]}"
        state = self.master.core.state
        for agent in state.agents.values():
            if agent.used:
                return f"the master counts {agent.used} as used on {agent.agent_id}"
        for framework in state.frameworks.values():
            if framework.tasks:
                return f"the master holds {[(t.task_id, t.state) for t in framework.tasks.values()][:5]}"
        for agent in self.agents:
            if any(process.status is None for process in agent.machine.processes.values()):
                return f"{agent.name} still runs processes"
            if agent.core.state.containers:
                return f"{agent.name} holds containers"
        return ""

    # ---- Invariants -------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold after every step, whatever failed."""
        if self.master.core is not None and self.master.turns != self._checked_turns:
            self._checked_turns = self.master.turns
            self._check_sums()

    def _check_sums(self) -> None:
        state = self.master.core.state
        for agent in state.agents.values():
            used = Resources()
            for task in agent.tasks.values():
                if not task.freed:
                    used = used + task.resources
            for executor in agent.executors.values():
                used = used + executor.resources
            offered = Resources()
            for offer in agent.offers.values():
                offered = offered + offer.resources
            assert agent.used == used, f"{agent.agent_id}: {agent.used} is counted as used, {used} is"
            assert agent.offered == offered, f"{agent.agent_id}: {agent.offered} is counted as offered, {offered} is"
            self.check_promised(agent, unshared(used), offered)

    def check_promised(self, agent: Any, used: Resources, offered: Resources) -> None:
        assert agent.total.contains(used + offered), f"{agent.agent_id}: {used} + {offered} is promised of {agent.total}"

    def explains(self, task_id: str, end: TaskStatus) -> bool:
        """Whether something that this cluster does besides made a task end so."""
        return False

    def check_end(self) -> None:
        """What must hold once all is at rest: nothing acknowledged was lost, doubled or guessed."""
        runs: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        statuses: dict[str, list[int | None]] = {}
        for agent in self.agents:
            for process in agent.machine.processes.values():
                runs[process.task] += 1
                failures[process.checked] += process.status != 0
                statuses.setdefault(process.task, []).append(process.status)
        for framework in self.frameworks:
            assert framework.stopped is None, framework.stopped
            assert len(framework.ids) == 1, f"{framework.name} had the ids {framework.ids}"
        for task_id, (framework, status, killed) in self.submitted.items():
            ends = framework.core.ends.get(task_id)
            assert ends, f"{task_id} of {framework.name} was lost: no end was ever told"
            assert len(ends) == 1, f"{task_id} ended more than once: {[e.state for e in ends]}"
            assert runs[task_id] <= 1, f"{task_id} ran {runs[task_id]} times"
            state = ends[0].state
            if self.explains(task_id, ends[0]):
                continue
            if state is TaskState.TASK_FINISHED:
                assert statuses[task_id] == [0], f"{task_id} is told finished; its statuses are {statuses.get(task_id)}"
            elif state is TaskState.TASK_FAILED:
                told = ends[0].message or "unknown"  # After a restart of the framework its text is not kept.
                assert status != 0 or "unknown" in told or killed, f"{task_id} is told failed: {told}"
            elif state is TaskState.TASK_KILLED:
                unhealthy = task_id in self.checked and failures[task_id] >= self.checked[task_id]
                assert killed or unhealthy, f"{task_id} is told killed; nobody asked for it, {failures[task_id]} health checks failed"
            elif state in NEVER_RAN or (state is TaskState.TASK_DROPPED and killed):
                assert runs[task_id] == 0, f"{task_id} is told {state.value}; it ran"
            else:
                raise AssertionError(f"{task_id} ended as {state.value}: {ends[0].message}")


__all__ = ["Cluster"]
