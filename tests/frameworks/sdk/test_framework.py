"""The edge of a framework against real sockets: streams, batches, redirects, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from msgspec import Struct

from frameworks.sdk.framework import Framework, FrameworkStopped, run_framework
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import TaskRecord, resources, task
from kernel.clock import Now
from kernel.mainloop import Reply
from kernel.net.auth import Credential
from kernel.store.memory import MemoryStore
from kernel.wire.ids import AgentID, FrameworkID, OfferID, TaskID
from kernel.wire.offer import Offer
from kernel.wire.scheduler import Call, Error, Event, Offers, Update
from kernel.wire.task import TaskState, TaskStatus
from tests.frameworks.sdk.http_master import HttpMaster


class Add(Struct, frozen=True):
    count: int


class End(Struct, frozen=True):
    pass


class Plain(Scheduler):
    def __init__(self, kept: Mapping[str, bytes], fresh_id: str, spread: float) -> None:
        super().__init__(framework_info("plain"), kept, fresh_id=fresh_id, spread=spread)
        self.seen: list[tuple[str, TaskState]] = []
        self.news = asyncio.Event()

    def asked(self, message: Any, now: Now) -> None:
        if isinstance(message, End):
            self.stop()
            return
        for number in range(message.count):
            self.add(task(f"t{number}", "true"), resources(cpus=1))
        self.emit(Reply("taken"))

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        self.seen.append((task.task_id, status.state))
        self.news.set()


def offer(cpus: float) -> Event:
    amounts = resources(cpus=cpus).messages("*")
    return Event(type="OFFERS", offers=Offers((Offer(OfferID("o1"), FrameworkID("f"), AgentID("a1"), "host", resources=amounts),)))


def beside(script: Callable[[HttpMaster, Framework, Plain], Awaitable[None]], **options: Any) -> None:
    """Run a script beside a framework that is connected to a master of its own; then end the framework."""

    async def main() -> None:
        async with HttpMaster() as master:
            scheduler = Plain({}, "plain-1", 0.0)
            framework = Framework(scheduler, MemoryStore(), options.pop("masters", [master.url]), **options)
            running = asyncio.create_task(framework.run())
            try:
                async with asyncio.timeout(20):
                    await script(master, framework, scheduler)
            finally:
                framework.end()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_a_task_goes_from_demand_to_acknowledgement() -> None:
    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        master.on_call = lambda call: [offer(4)] if call.type == "REVIVE" else []
        await master.until(lambda: len(master.subscribed) == 1)
        assert await framework.submit(Add(2)) == "taken"
        await master.until(lambda: any(call.type == "ACCEPT" for call in master.calls))
        status = TaskStatus(TaskID("t0"), TaskState.TASK_FINISHED, agent_id=AgentID("a1"), uuid=b"u" * 16)
        master.send(Event(type="UPDATE", update=Update(status)))
        await master.until(lambda: master.calls[-1].type == "ACKNOWLEDGE")
        assert scheduler.seen == [("t0", TaskState.TASK_FINISHED)]
        assert {headers.get("mesos-stream-id") for headers in master.headers[1:]} == {"s1"}

    beside(script)


def test_calls_that_gather_leave_in_one_request() -> None:
    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        await master.until(lambda: any(call.type == "RECONCILE" for call in master.calls))
        uuids = [number.to_bytes(16, "big") for number in range(500)]
        statuses = [TaskStatus(TaskID(f"x{uuid[-1]}"), TaskState.TASK_FINISHED, agent_id=AgentID("a1"), uuid=uuid) for uuid in uuids]
        master.send(*(Event(type="UPDATE", update=Update(status)) for status in statuses))
        await master.until(lambda: sum(call.type == "ACKNOWLEDGE" for call in master.calls) == 500)
        assert [call.acknowledge.uuid for call in master.calls if call.acknowledge] == uuids
        assert len(master.batches) < 100

    beside(script)


def test_a_master_without_batches_gets_calls_one_by_one() -> None:
    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        master.answer_calls = lambda media, calls: (415, {}, b"") if media == "application/recordio" else (202, {}, b"")
        await master.until(lambda: len(master.subscribed) == 1)
        await framework.submit(Add(1))
        await master.until(lambda: len(master.calls) >= 3)
        assert [call.type for call in master.calls] == ["RECONCILE", "REQUEST", "REVIVE"]
        assert set(master.batches) == {1}

    beside(script)


def test_a_refused_call_is_told_and_the_ones_after_it_are_sent() -> None:
    def refuse_accept(media: str, calls: list[Call]) -> tuple[int, dict[str, str], bytes]:
        for index, call in enumerate(calls):
            if call.type == "ACCEPT":
                return 400, {"Meseta-Call": str(index)}, b"call %d: no such luck" % index
        return 202, {}, b""

    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        await master.until(lambda: len(master.subscribed) == 1)
        await framework.submit(Add(1))
        await master.until(lambda: any(call.type == "REVIVE" for call in master.calls))
        master.answer_calls = refuse_accept
        master.send(offer(1))
        await master.until(lambda: master.calls[-1].type == "SUPPRESS")
        await scheduler.news.wait()
        assert scheduler.seen == [("t0", TaskState.TASK_ERROR)]

    beside(script)


@pytest.mark.parametrize(
    ("status", "text"), [(503, b"no leader"), (403, b"Framework is not subscribed"), (400, b"The stream ID did not match")]
)
def test_calls_that_fail_for_the_subscriptions_sake_make_it_subscribe_again(status: int, text: bytes) -> None:
    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        await master.until(lambda: bool(master.calls))
        master.answer_calls = lambda media, calls: (status, {}, text)
        await framework.submit(Add(1))
        await master.until(lambda: len(master.subscribed) >= 2)

    beside(script)


def test_a_broken_stream_is_opened_again() -> None:
    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        await master.until(lambda: bool(master.calls))
        master.hang_up()
        await master.until(lambda: len(master.subscribed) == 2)
        await framework.submit(Add(1))
        await master.until(lambda: master.calls[-1].type == "REVIVE")
        assert master.headers[-1]["mesos-stream-id"] == "s2"

    beside(script)


def test_calls_on_their_way_do_not_hold_up_the_next_subscription() -> None:
    async def script(master: HttpMaster, framework: Framework, scheduler: Plain) -> None:
        await master.until(lambda: bool(master.calls))
        master.answer_calls = lambda media, calls: (0, {}, b"")  # None at all.
        await framework.submit(Add(1))
        await master.until(lambda: master.unanswered > 0)
        master.answer_calls = lambda media, calls: (202, {}, b"")
        master.hang_up()
        await master.until(lambda: master.calls[-1].type == "REVIVE")
        assert len(master.subscribed) == 2

    beside(script)


def test_the_leader_is_followed() -> None:
    async def main() -> None:
        async with HttpMaster() as follower, HttpMaster() as leader:
            follower.answer_subscribe = lambda: (307, {"Location": f"//127.0.0.1:{leader.port}/api/v1/scheduler"}, b"")
            scheduler = Plain({}, "plain-1", 0.0)
            framework = Framework(scheduler, MemoryStore(), [follower.url], credential=Credential("ops", "s3"))
            running = asyncio.create_task(framework.run())
            await leader.until(lambda: bool(leader.calls))
            assert {headers["authorization"] for headers in leader.headers} == {"Basic b3BzOnMz"}
            assert not follower.calls
            framework.end()
            await running

    asyncio.run(main())


def test_masters_are_tried_in_turn() -> None:
    async def main() -> None:
        async with HttpMaster() as master:
            running = asyncio.create_task(
                run_framework(Plain, MemoryStore(), ["http://127.0.0.1:1", master.url], name="plain", ready=frameworks.append)
            )
            await master.until(lambda: bool(master.calls))
            frameworks[0].end()
            await running

    frameworks: list[Framework] = []
    asyncio.run(main())


@pytest.mark.parametrize(("status", "text"), [(401, "asks for a principal"), (400, "answered 400: bad name")])
def test_a_refusal_ends_the_framework(status: int, text: str) -> None:
    async def main() -> None:
        async with HttpMaster() as master:
            master.answer_subscribe = lambda: (status, {}, b"bad name")
            await run_framework(Plain, MemoryStore(), [master.url], name="plain")

    with pytest.raises(FrameworkStopped, match=text):
        asyncio.run(main())


def test_an_error_event_ends_the_framework() -> None:
    async def main() -> None:
        async with HttpMaster() as master:
            made: list[Framework] = []
            running = asyncio.create_task(run_framework(Plain, MemoryStore(), [master.url], name="plain", ready=made.append))
            await master.until(lambda: bool(master.calls))
            master.send(Event(type="ERROR", error=Error("Framework failed over")))
            await running

    with pytest.raises(FrameworkStopped, match="failed over"):
        asyncio.run(main())


def test_the_last_calls_leave_before_the_end() -> None:
    async def main() -> None:
        async with HttpMaster() as master:
            made: list[Framework] = []
            running = asyncio.create_task(run_framework(Plain, MemoryStore(), [master.url], name="plain", ready=made.append))
            await master.until(lambda: bool(master.calls))
            status = TaskStatus(TaskID("x"), TaskState.TASK_FINISHED, agent_id=AgentID("a1"), uuid=b"u" * 16)
            master.send(Event(type="UPDATE", update=Update(status)))
            await made[0].submit(End())
            await running
            assert master.calls  # Whatever was decided before the end is not lost on the way.

    asyncio.run(main())
