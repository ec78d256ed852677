"""A custom executor in Python: extend `Executor`, then `sys.exit(run(MyExecutor()))` (spec: mesos-v1, section 3).

    class Sleeper(Executor):
        def launch(self, task: TaskInfo) -> None:
            self.update(task.task_id.value, TaskState.TASK_RUNNING)
            threading.Timer(5, self.update, (task.task_id.value, TaskState.TASK_FINISHED)).start()

`ExecutorCore` is the pure part: it remembers what the agent has not acknowledged, and says it again after a reconnect.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import uuid
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from frameworks.sdk.tasks import TERMINAL
from kernel.errors import CallError, ConfigError, KernelError, PeerError
from kernel.net.backoff import delay_s
from kernel.net.session import Session, base_url, listen, open_session, pieces, post, whole
from kernel.wire import codec, recordio
from kernel.wire import executor as x
from kernel.wire.durations import parse_duration
from kernel.wire.ids import ExecutorID, FrameworkID, TaskID
from kernel.wire.task import ExecutorInfo, FrameworkInfo, KillPolicy, Source, TaskInfo, TaskState, TaskStatus

log = logging.getLogger(__name__)

PATH = "/api/v1/executor"
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
EVENT_BYTES_MAX = 64 * 1024 * 1024
LAST_CALLS_S = 5.0


class Settings(Struct, frozen=True):
    """What an agent tells an executor by its environment.

    checkpoint: it outlives its agent for recovery_s; otherwise losing the agent is a SHUTDOWN. backoff_s: longest wait
    between two attempts to subscribe.
    """

    agent: str  # http://host:port
    framework_id: str
    executor_id: str
    directory: str = "."
    checkpoint: bool = False
    recovery_s: float = 0.0
    backoff_s: float = 2.0
    token: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Settings:
        """Read MESOS_*. Raises ConfigError: this is no process that an agent started."""
        try:
            return cls(
                base_url(environ["MESOS_AGENT_ENDPOINT"], 5051),
                environ["MESOS_FRAMEWORK_ID"],
                environ["MESOS_EXECUTOR_ID"],
                environ.get("MESOS_SANDBOX", environ.get("MESOS_DIRECTORY", ".")),
                environ.get("MESOS_CHECKPOINT", "") in ("1", "true"),
                parse_duration(environ.get("MESOS_RECOVERY_TIMEOUT", "0ns")) / 1e9,
                parse_duration(environ.get("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs")) / 1e9,
                environ.get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
            )
        except KeyError as error:
            raise ConfigError(f"{error.args[0]}: not set; executors are started by an agent") from error
        except ValueError as error:
            raise ConfigError(f"MESOS_*: {error}") from error


class ExecutorCore:
    """What must not be lost between an executor and its agent."""

    def __init__(self, framework_id: str, executor_id: str) -> None:
        self._framework_id, self._executor_id = FrameworkID(framework_id), ExecutorID(executor_id)
        self.tasks: dict[str, TaskInfo] = {}  # Launched; the agent has acknowledged no update of them.
        self.updates: dict[bytes, TaskStatus] = {}  # Not acknowledged, in the order they were made.
        self.ended: set[str] = set()  # Tasks whose terminal update was made: nothing follows it.
        self._told: set[bytes] = set()  # Updates the latest SUBSCRIBE spoke of.

    def subscribe(self) -> x.Call:
        """The SUBSCRIBE call, with all that the agent may have missed."""
        self._told = set(self.updates)
        updates = tuple(x.Update(status) for status in self.updates.values())
        return self.call("SUBSCRIBE", subscribe=x.Subscribe(tuple(self.tasks.values()), updates))

    def subscribed(self) -> list[x.Call]:
        """The agent took the SUBSCRIBE: the updates made while it was on its way."""
        missed = [status for update_id, status in self.updates.items() if update_id not in self._told]
        return [self.call("UPDATE", update=x.Update(status)) for status in missed]

    def launched(self, task: TaskInfo) -> None:
        """A task came."""
        self.tasks[task.task_id.value] = task

    def acknowledged(self, event: x.Acknowledged) -> None:
        """The agent has an update."""
        self.tasks.pop(event.task_id.value, None)
        self.updates.pop(event.uuid, None)

    def update(self, task_id: str, state: TaskState, update_id: bytes, now_s: float, **more: Any) -> x.Call | None:
        """The UPDATE call for a task's new state, to be repeated until acknowledged; None after a terminal one.

        update_id: 16 bytes never used before. now_s: since the epoch. more: further fields of TaskStatus.
        """
        if task_id in self.ended:
            return None
        if state in TERMINAL:
            self.ended.add(task_id)
        status = TaskStatus(
            TaskID(task_id),
            state,
            source=Source.SOURCE_EXECUTOR,
            executor_id=self._executor_id,
            timestamp=now_s,
            uuid=update_id,
            **more,
        )
        self.updates[update_id] = status
        return self.call("UPDATE", update=x.Update(status))

    def call(self, type_: str, **body: Any) -> x.Call:
        return x.Call(executor_id=self._executor_id, framework_id=self._framework_id, type=type_, **body)


class Executor:
    """Override the hooks; they are called one at a time and must not wait. The rest may be called from any thread."""

    executor_info: ExecutorInfo
    framework_info: FrameworkInfo
    _edge: _Edge

    def registered(self) -> None:
        """The agent knows us; executor_info and framework_info are set. Called again after a reconnect."""

    def launch(self, task: TaskInfo) -> None:
        """Begin a task; report TASK_RUNNING and how it ends by `update`."""
        raise NotImplementedError

    def kill(self, task_id: str, policy: KillPolicy | None) -> None:
        """End a task; report TASK_KILLED."""
        self.update(task_id, TaskState.TASK_KILLED)

    def message(self, data: bytes) -> None:
        """The scheduler says something."""

    def shutdown(self) -> None:
        """End all tasks now; the process ends after this."""

    def update(self, task_id: str, state: TaskState, message: str | None = None, **more: Any) -> None:
        """Report a task's state. more: further fields of TaskStatus (data, healthy, ...)."""
        self._edge.update(task_id, state, message, more)

    def send(self, data: bytes) -> None:
        """Say something to the scheduler; best effort."""
        self._edge.message(data)

    def stop(self) -> None:
        """End this process once all is said."""
        self._edge.stop()


def run(executor: Executor, environ: Mapping[str, str] | None = None) -> int:
    """Serve until the agent says SHUTDOWN, the executor stops, or the agent is lost for good; return the exit status.

    Raises ConfigError when the environment is not that of an executor.
    """
    return asyncio.run(_Edge(executor, Settings.load(os.environ if environ is None else environ)).run())


class _Edge:
    """Sockets, time and random numbers around the core."""

    def __init__(self, executor: Executor, settings: Settings) -> None:
        self._executor, self._settings = executor, settings
        self._core = ExecutorCore(settings.framework_id, settings.executor_id)
        self._headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
        self._loop: asyncio.AbstractEventLoop
        self._calls: asyncio.Queue[x.Call] = asyncio.Queue()
        self._subscribed = False
        self._stopped = asyncio.Event()
        executor._edge = self

    async def run(self) -> int:
        self._loop = asyncio.get_running_loop()
        async with open_session(self._headers) as http:
            return await self._serve(http)

    async def _serve(self, http: Session) -> int:
        sender = asyncio.create_task(self._send_calls(http))
        listener = asyncio.create_task(self._listen_again(http))
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait((listener, stopped), return_when=asyncio.FIRST_COMPLETED)
        status = listener.result() if listener.done() else 0
        await asyncio.sleep(0)  # What the last hook reported is in the queue now.
        try:
            async with asyncio.timeout(LAST_CALLS_S):
                await self._calls.join()
        except TimeoutError:
            log.warning("the last updates did not reach the agent")
        for task in (sender, listener, stopped):
            task.cancel()
        await asyncio.gather(sender, listener, stopped, return_exceptions=True)
        return status

    # ---- From any thread --------------------------------------------------------------------------------

    def update(self, task_id: str, state: TaskState, message: str | None, more: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._update, task_id, state, message, more)

    def message(self, data: bytes) -> None:
        self._loop.call_soon_threadsafe(self._calls.put_nowait, self._core.call("MESSAGE", message=x.Message(data)))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    def _update(self, task_id: str, state: TaskState, message: str | None, more: dict[str, Any]) -> None:
        call = self._core.update(task_id, state, uuid.uuid4().bytes, time.time(), message=message, **more)
        if call is not None and self._subscribed:  # Otherwise the next SUBSCRIBE tells it.
            self._calls.put_nowait(call)

    # ---- The agent --------------------------------------------------------------------------------------

    async def _listen_again(self, http: Session) -> int:
        """Subscribe, and again when the stream breaks; return an exit status when the agent is given up."""
        failures = 0
        lost_s: float | None = None
        while True:
            try:
                if await self._listen(http):
                    return 0
            except KernelError as error:
                log.warning("the agent: %s", error)
            if self._subscribed:
                failures, lost_s = 0, None
            self._subscribed = False
            failures += 1
            lost_s = lost_s or self._loop.time()
            if not self._settings.checkpoint or self._loop.time() > lost_s + self._settings.recovery_s:
                self._executor.shutdown()
                return 1
            await asyncio.sleep(delay_s(failures, random.random(), most_s=self._settings.backoff_s))

    async def _listen(self, http: Session) -> bool:
        """Read one stream to its end; return whether it said SHUTDOWN."""
        async with listen(http, self._settings.agent + PATH, codec.encode(self._core.subscribe()), JSON) as stream:
            if stream.status != 200:
                raise PeerError(f"answered {stream.status}: {(await whole(stream)).text}")
            decoder = recordio.Decoder(EVENT_BYTES_MAX)
            async for piece in pieces(stream):
                for record in decoder.feed(piece):
                    try:
                        event = codec.decode(record, x.Event)
                    except CallError as error:
                        raise PeerError(f"sent an event nobody can read: {error}") from error
                    if self._heard(event):
                        return True
            return False

    def _heard(self, event: x.Event) -> bool:
        """Take one event; return whether it is the last."""
        executor, core = self._executor, self._core
        if event.subscribed is not None:
            self._subscribed = True
            executor.executor_info, executor.framework_info = event.subscribed.executor_info, event.subscribed.framework_info
            for call in core.subscribed():
                self._calls.put_nowait(call)
            executor.registered()
        elif event.launch is not None:
            self._launch(event.launch.task)
        elif event.launch_group is not None:
            for task in event.launch_group.task_group.tasks:
                self._launch(task)
        elif event.kill is not None:
            executor.kill(event.kill.task_id.value, event.kill.kill_policy)
        elif event.acknowledged is not None:
            core.acknowledged(event.acknowledged)
        elif event.message is not None:
            executor.message(event.message.data)
        elif event.type == "SHUTDOWN":
            executor.shutdown()
            return True
        elif event.error is not None:
            raise PeerError(event.error.message)
        return False

    def _launch(self, task: TaskInfo) -> None:
        self._core.launched(task)
        self._executor.launch(task)

    async def _send_calls(self, http: Session) -> None:
        while True:
            call = await self._calls.get()
            try:
                answer = await post(http, self._settings.agent + PATH, codec.encode(call), JSON)
                if answer.status != 202:
                    log.warning("the agent refused %s: %s", call.type, answer.text)
            except PeerError as error:
                log.warning("%s did not reach the agent: %s", call.type, error)  # An update is told again by SUBSCRIBE.
            finally:
                self._calls.task_done()
