"""A simulated machine: the processes of tasks, the launcher that owns them, and the agent."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from kernel.agent import effects as a
from kernel.agent.config import AgentConfig
from kernel.agent.core import AgentCore
from kernel.agent.launcher import core as launcher
from kernel.agent.state import Identity, Node
from kernel.wire.agent import AgentFrame, MasterFrame, StatusUpdate
from kernel.wire.link import FrameOrder, Verdict
from kernel.wire.resources import Resources
from kernel.wire.task import TaskState
from tests.sim.network import Network, connect
from tests.sim.world import Crashed, Process, World

LOCAL_S = 0.001  # A message on a machine's own socket.
COMMAND = re.compile(r"run (\d+(?:\.\d+)?) exit (\d+|any)(?: (stubborn))?")  # any: 0 or 1, by chance.


class OsProcess(Struct):
    """A process of a task, or of a check of the task `checked`. status: its raw wait status once it ended. stubborn: it ignores
    SIGTERM. began_s, ended_s: of virtual time."""

    container: str
    task: str
    pid: int
    checked: str
    stubborn: bool
    began_s: float
    status: int | None = None
    ended_s: float = 0.0


class Machine:
    """What outlives every crash of agent and launcher: the operating system."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: dict[str, OsProcess] = {}
        self.runs: dict[str, list[str]] = {}  # By task: its containers.
        self.launcher: Launcher
        self._pids = 100

    def spawn(self, launch: launcher.Launch) -> int:
        match = COMMAND.search(launch.argv[-1])
        assert match is not None, launch.argv
        self._pids += 1
        task = launch.env.get("SIM_TASK", launch.env.get("MESOS_TASK_ID", ""))
        checked, stubborn = launch.env.get("SIM_CHECKED", ""), bool(match[3])
        process = OsProcess(launch.container, task, self._pids, checked, stubborn, self.world.now_s)
        assert launch.container not in self.processes, "a container was started twice"
        self.processes[launch.container] = process
        self.runs.setdefault(task, []).append(launch.container)
        code = self.world.chance.choice((0, 1)) if match[2] == "any" else int(match[2])
        self.world.after(float(match[1]), lambda: self.end(process, code << 8))
        return self._pids

    def signal(self, pid: int, number: int) -> None:
        for process in self.processes.values():
            if process.pid == pid and process.status is None and (number == 9 or not process.stubborn):
                self.end(process, number)

    def end(self, process: OsProcess, status: int) -> None:
        if process.status is None:
            process.status, process.ended_s = status, self.world.now_s
            self.launcher.child_ended(process)


class Launcher(Process):
    """The launcher's core with its journal. Not a mainloop core: it has a form of its own."""

    def __init__(self, world: World, name: str, machine: Machine) -> None:
        super().__init__(world, name)
        self.machine = machine
        machine.launcher = self
        self.journal: list[dict[str, Any]] = []
        self.agent: Agent | None = None
        self._children: set[int] = set()  # Of this life: only their parent sees how they end.

    def make(self) -> launcher.Core:
        self._children = set()
        core = launcher.Core()
        core.restore(self.journal)
        return core

    def began(self) -> None:
        life = self.life
        for container in self.core.unresolved():
            if not self.alive(life):
                return
            process = self.machine.processes.get(container.name)
            if process is not None and not container.pid:
                self.feed(launcher.Spawned(container.name, process.pid, 1))
            if process is None or process.status is not None:
                # Ended while nobody was its parent: sometimes the kernel still tells, sometimes nobody knows.
                known = process is not None and self.world.chance.random() < 0.5
                self.feed(launcher.Ended(container.name, process.status if known and process else None))

    def died(self) -> None:
        if self.agent is not None:
            self.agent.launcher_lost()

    def child_ended(self, process: OsProcess) -> None:
        if self.core is not None:
            seen = process.pid in self._children or self.world.chance.random() < 0.5
            self.feed(launcher.Ended(process.container, process.status if seen else None))

    def feed(self, message: Any) -> None:
        """Take a command or event; as in the process, what is told goes out after the journal has it."""
        if self.core is None:
            return
        told: list[dict[str, Any]] = []
        try:
            self._obey(message, told)
        except Crashed:
            self.crash()
            return
        for line in told:
            if self.agent is not None:
                self.agent.launcher_says(line)

    def _obey(self, message: Any, told: list[dict[str, Any]]) -> None:
        for effect in self.core.receive(message, self.now().wall_s):
            self._act()
            match effect:
                case launcher.Record(entry):
                    self.journal.append(entry)
                case launcher.Spawn(launch):
                    pid = self.machine.spawn(launch)
                    self._children.add(pid)
                    self._act()
                    self._obey(launcher.Spawned(launch.container, pid, 1), told)
                case launcher.Kill(pid, _, number, _):
                    self.world.after(LOCAL_S, lambda pid=pid, number=number: self.machine.signal(pid, number))
                case launcher.Send(line):
                    told.append(line)

    def _tick(self, life: int) -> None:
        """The launcher has no deadlines."""


class Agent(Process):
    """The agent's core with its link to the master and its socket to the launcher."""

    def __init__(self, world: World, network: Network, name: str, port: int, resources: str) -> None:
        super().__init__(world, name)
        self.network, self.port = network, port
        self.machine = Machine(world)
        self.launcher = Launcher(world, f"{name}-launcher", self.machine)
        self.launcher.agent = self
        self.master: Any = None
        self.resources = Resources.parse(resources).messages()
        self.link: Any = None
        self.boots = 1
        self.killing: set[tuple[str, str]] = set()  # Tasks that were told to be in TASK_KILLING.
        self._attached = False
        self._outbox: list[Any] = []
        self._order = FrameOrder()

    def make(self) -> AgentCore:
        identity = Identity(f"{self.name}-{self.life}", self.world.chance.randbytes(8), f"boot-{self.boots}")
        return AgentCore(self.config(), identity, Node(self.resources), dict(self.kept), self.now())

    def config(self) -> AgentConfig:
        return AgentConfig(work_dir="/sim", hostname=self.name, port=self.port)

    def began(self) -> None:
        self._attach()
        self._dial()

    def died(self) -> None:
        self._attached = False
        self._outbox = []
        if self.link is not None:
            self.link.close()
            self.link = None

    # ---- The launcher -----------------------------------------------------------------------------------

    def launcher_lost(self) -> None:
        self._attached = False
        self._later(0.2, self._attach)

    def _attach(self) -> None:
        if self.launcher.core is None:
            self._later(0.2, self._attach)
        elif not self._attached:
            self._attached = True
            self.launcher.feed(launcher.Hello())

    def launcher_says(self, line: dict[str, Any]) -> None:
        life, launcher_life = self.life, self.launcher.life

        def arrive() -> None:
            if self.alive(life) and self.launcher.alive(launcher_life) and self._attached:
                self._hear(line)

        self.world.after(LOCAL_S, arrive)

    def _hear(self, line: dict[str, Any]) -> None:
        name = line.get("container", "")
        match line["type"]:
            case "state":
                self.give(a.LauncherState(tuple(map(self._known, line["containers"]))))
            case "started":
                self.give(a.ContainerStarted(name, line["pid"]))
            case "failed":
                self.give(a.ContainerFailed(name, line["message"]))
            case "exited":
                self.give(a.ContainerExited(name, self._exit(line)))

    def _known(self, report: dict[str, Any]) -> a.KnownContainer:
        ended, failed = report["exit"], report["failed"]
        return a.KnownContainer(
            report["container"], report["pid"], self._exit(ended) if ended else None, failed["message"] if failed else None
        )

    @staticmethod
    def _exit(line: dict[str, Any]) -> a.Exit:
        return a.Exit(line["status"], line["ended_s"])

    def _command(self, command: Any) -> None:
        launcher_life = self.launcher.life

        def arrive() -> None:
            if self.launcher.alive(launcher_life):
                self.launcher.feed(command)

        if self._attached:
            self.world.after(LOCAL_S, arrive)

    # ---- The master -------------------------------------------------------------------------------------

    def _dial(self) -> None:
        ends = connect(self.network, self, self.master)
        if ends is None:
            self._later(self.world.chance.uniform(0.2, 2.0), self._dial)
            return
        near, far = ends
        self.link, self._order, self._outbox = near, FrameOrder(), []
        near.on_item = lambda frame: self._frame(near, frame)
        near.on_close = lambda: self._hung_up(near)
        self.master.accept_agent(far)
        self.give(a.MasterConnected())

    def _frame(self, end: Any, frame: MasterFrame) -> None:
        verdict = self._order.check(frame.number)
        if verdict is Verdict.BROKEN:
            end.close()
            self._hung_up(end)
        elif verdict is Verdict.TAKE:
            for message in frame.messages:
                if self.link is end:
                    self.give(a.FromMaster(message))

    def _hung_up(self, end: Any) -> None:
        if self.link is end:
            self.link = None
            self.give(a.MasterLost())
            self._later(self.world.chance.uniform(0.1, 1.0), self._dial)

    def _later(self, delay_s: float, act: Any) -> None:
        life = self.life
        self.world.after(delay_s, lambda: act() if self.alive(life) else None)

    # ---- Effects ----------------------------------------------------------------------------------------

    def perform(self, effect: Any) -> None:
        match effect:
            case a.ToMaster(message):
                if isinstance(message, StatusUpdate):
                    self._look_at(message)
                self._outbox.append(message)
            case a.CloseMasterLink():
                end = self.link
                if end is not None:
                    end.close()
                    self.world.after(0, lambda: self._hung_up(end))
            case a.LaunchContainer():
                self._launch(effect, "out", "err")
            case a.LaunchProbe():
                self._launch(effect, effect.output, effect.output)
            case a.SignalContainer(container, number):
                self._command(launcher.Signal(container, number))
            case a.ForgetContainer(container):
                self._command(launcher.Forget(container))

    def _launch(self, effect: a.LaunchContainer | a.LaunchProbe, out: str, err: str) -> None:
        """As the launcher's client does, again when in doubt whether it has arrived."""
        command = launcher.Launch(effect.container_id, effect.argv, effect.env, effect.directory, out, err, effect.executable, effect.user)
        for _ in range(2 if self.world.chance.random() < 0.02 else 1):
            self._command(command)

    def _look_at(self, update: StatusUpdate) -> None:
        """No task runs again after it is being killed."""
        task, state = (update.framework_id, update.status.task_id.value), update.status.state
        if state is TaskState.TASK_KILLING:
            self.killing.add(task)
        assert state is not TaskState.TASK_RUNNING or task not in self.killing, f"{task} is told running after killing"

    def flush(self) -> None:
        if self._outbox and self.link is not None:
            self.link.send(AgentFrame(self._order.next_number(), tuple(self._outbox)))
        self._outbox = []
