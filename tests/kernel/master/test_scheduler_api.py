"""The scheduler API's HTTP rules (spec: mesos-v1, sections 1.2-1.5, 2.1, 13.1): what the edge refuses, answers and streams."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.election.election import Leader
from kernel.errors import CallError, Forbidden
from kernel.mainloop import Batch
from kernel.master import scheduler_api
from kernel.master.effects import CloseStream, SchedulerCall, StreamClosed, SubscribeFramework, ToStream
from kernel.master.rate_limits import Limit, RateLimits
from kernel.net.auth import Authenticator, Credential
from kernel.wire import scheduler
from kernel.wire.ids import FrameworkID
from kernel.wire.recordio import Decoder, frame
from tests.kernel.master.edge import Edge, edge, run

API = "/api/v1/scheduler"
SUBSCRIBE = b'{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}'


def call(kind: str, **parts: Any) -> bytes:
    return json.dumps({"framework_id": {"value": "f1"}, "type": kind, **parts}).encode()


def quiet(message: Any) -> Sequence[Any]:
    return ()


def subscribing(message: Any) -> Sequence[Any]:
    """Welcomes every subscriber, without heartbeats of the edge's own."""
    if isinstance(message, SubscribeFramework):
        return [
            ToStream(message.stream, scheduler.Event("SUBSCRIBED", subscribed=scheduler.Subscribed(FrameworkID("f1")))),
            ToStream(message.stream, scheduler.Event("HEARTBEAT")),
        ]
    return ()


# ---- Refusals, in their order ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (call("TEARDOWN"), {"Content_Type": ""}, 400, "Expecting 'Content-Type' to be present"),
        (call("TEARDOWN"), {"Content_Type": "text/plain"}, 415, "Expecting 'Content-Type' of"),
        (b"", {}, 400, "not valid JSON"),
        (b"malformed", {}, 400, "not valid JSON"),
        (b"[]", {}, 400, "expected an object"),
        (b'{"type": 5, "framework_id": {"value": "f1"}, "kill": {}}', {}, 400, "kill.task_id: required"),
        (b"{}", {}, 400, "Expecting 'type' to be present"),
        (call("NO_SUCH_CALL"), {}, 400, "Expecting 'type' to be present"),
        (b'{"type":"TEARDOWN"}', {}, 400, "Expecting 'framework_id' to be present"),
        (call("ACCEPT"), {}, 400, "Expecting 'accept' to be present"),
        (call("KILL", kill=None), {}, 400, "Expecting 'kill' to be present"),
        (b'{"type":"SUBSCRIBE"}', {}, 400, "Expecting 'subscribe' to be present"),
        (b'{"type":"UNKNOWN"}', {}, 400, "Expecting 'framework_id' to be present"),
        (SUBSCRIBE, {"Mesos_Stream_Id": "s"}, 400, "should not include the 'Mesos-Stream-Id' header"),
        (SUBSCRIBE, {"Accept": "text/html"}, 406, "Expecting 'Accept' to allow"),
        (call("RECONCILE_OPERATIONS", reconcile_operations={}), {"Accept": "text/html"}, 406, "Expecting 'Accept' to allow"),
        (call("TEARDOWN"), {"Mesos_Stream_Id": "s" * 129}, 400, "longer than 128 bytes"),
        (b" " * (8 * 1024 * 1024 + 1), {}, 413, "larger than 8388608 bytes"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(body: bytes, headers: dict[str, str], status: int, text: str) -> None:
    async def test() -> None:
        async with edge(quiet) as master:
            got, told = await master.post(API, body, **headers)
            assert got == status
            assert text in told
            assert master.core.inputs == []

    run(test)


def test_other_methods_are_refused() -> None:
    async def test() -> None:
        async with edge(quiet) as master, master.client.get(master.url + API) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")

    run(test)


def test_without_credentials_nobody_passes_where_they_are_asked_for() -> None:
    async def test() -> None:
        authenticator = Authenticator([Credential("p", "s")], ["mesos-master-scheduler"])
        async with edge(quiet, authenticator=authenticator) as master:
            assert (await master.post(API, call("TEARDOWN"), Content_Type=""))[0] == 401
            assert (await master.post(API, call("TEARDOWN"), Authorization=Credential("p", "s").header()))[0] == 202
            assert [message.principal for message in master.core.inputs] == ["p"]

    run(test)


@pytest.mark.parametrize("path", [API, "/master" + API, API + "/", "/api/v1?x=y", "/state", "/teardown", "/agent-link"])
def test_a_master_that_does_not_lead_sends_to_the_one_that_does(path: str) -> None:
    async def test() -> None:
        async with (
            edge(quiet, leads=False, leader=Leader("m2", "other", "10.0.0.2", 5051)) as master,
            master.client.post(master.url + path, data=b"", allow_redirects=False) as answer,
        ):
            assert (answer.status, answer.headers["Location"]) == (307, f"//other:5051{path}")

    run(test)


@pytest.mark.parametrize(("leader", "text"), [(None, "No leader elected"), (Leader("m1", "127.0.0.1", "", 5050), "not finished recovery")])
def test_without_a_leader_that_is_ready_clients_are_to_come_again(leader: Leader | None, text: str) -> None:
    async def test() -> None:
        async with edge(quiet, leads=False, leader=leader) as master:
            status, told = await master.post(API, SUBSCRIBE)
            assert status == 503
            assert text in told

    run(test)


# ---- Calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (call("UNKNOWN"), scheduler.Unknown, 202),
        (call("TEARDOWN"), scheduler.Teardown, 202),
        (call("REVIVE"), scheduler.Revive, 202),
        (call("SUPPRESS", suppress={"roles": "web"}), scheduler.Suppress, 202),
        (call("ACCEPT", accept={"offer_ids": [{"value": "o"}]}), scheduler.Accept, 202),
        (call("DECLINE", decline={}), scheduler.Decline, 202),
        (call("RECONCILE", reconcile={"tasks": []}), scheduler.Reconcile, 202),
        (call("RECONCILE_OPERATIONS", reconcile_operations={}), scheduler.ReconcileOperations, 202),
        (call("REQUEST", request={"requests": []}), scheduler.Request, 202),
        (
            call("ACKNOWLEDGE", acknowledge={"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "AAAA"}),
            scheduler.Acknowledge,
            202,
        ),
        (call("UPDATE_FRAMEWORK", update_framework={"framework_info": {"user": "u", "name": "n"}}), scheduler.UpdateFramework, 200),
    ],
)
def test_a_call_is_handed_on_with_its_sender(body: bytes, kind: type[Any], status: int) -> None:
    async def test() -> None:
        async with edge(quiet) as master:
            assert await master.post(
                API, body, MESOS_STREAM_ID="s1", Accept="text/html" if status == 202 and b"OPERATIONS" not in body else "*/*"
            ) == (
                status,
                "",
            )
            (message,) = master.core.inputs
            assert (message.framework_id, message.stream_id, message.principal) == ("f1", "s1", None)
            assert type(message.body) is kind

    run(test)


@pytest.mark.parametrize(
    ("error", "status"), [(CallError("Framework cannot be found"), 400), (Forbidden("Framework is not subscribed"), 403)]
)
def test_what_the_core_refuses_is_told(error: Exception, status: int) -> None:
    def refuse(message: Any) -> Sequence[Any]:
        raise error

    async def test() -> None:
        async with edge(refuse) as master:
            assert await master.post(API, call("TEARDOWN")) == (status, str(error))

    run(test)


# ---- Batches --------------------------------------------------------------------------------------------

RECORDIO = "application/recordio"


def refuse_kills(message: Any) -> Sequence[Any]:
    if isinstance(message, SchedulerCall) and isinstance(message.body, scheduler.Kill):
        raise Forbidden("no kills here")
    return ()


KILL = call("KILL", kill={"task_id": {"value": "t"}})


@pytest.mark.parametrize(
    ("calls", "status", "text", "handed_on"),
    [
        ([call("REVIVE")] * 3, 202, "", 3),
        ([call("REVIVE"), KILL, call("REVIVE")], 403, "call 1: no kills here", 2),
        ([call("REVIVE"), b"{}", call("REVIVE")], 400, "call 1: Failed to validate", 1),
        ([call("REVIVE"), KILL, b"{}"], 403, "call 1: no kills here", 2),
        ([b"nonsense"], 400, "call 0: ", 0),
        ([call("REVIVE"), SUBSCRIBE], 400, "call 1: SUBSCRIBE cannot be part of a batch", 1),
        ([], 400, "a batch has 1 to", 0),
    ],
)
def test_a_batch_is_taken_up_to_the_first_call_that_is_refused(calls: list[bytes], status: int, text: str, handed_on: int) -> None:
    async def test() -> None:
        async with edge(refuse_kills) as master:
            got, told = await master.post(API, b"".join(map(frame, calls)), Content_Type=RECORDIO, Mesos_Stream_Id="s1")
            assert got == status
            assert told.startswith(text)
            assert len(master.core.inputs) == handed_on
            assert all(message.stream_id == "s1" and not isinstance(message, Batch) for message in master.core.inputs)

    run(test)


@pytest.mark.parametrize("body", [b"5\nabc", b"x", b"0\n", frame(call("REVIVE")) + b"99999999999999999999999", b"-1\nx"])
def test_what_is_no_recordio_is_refused(body: bytes) -> None:
    async def test() -> None:
        async with edge(quiet) as master:
            assert (await master.post(API, body, Content_Type=RECORDIO))[0] == 400

    run(test)


# ---- Streams --------------------------------------------------------------------------------------------


async def records(master: Edge, wanted: int, **headers: str) -> tuple[Any, list[Any]]:
    """Subscribe and read so many events; leaves the stream."""
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    decoder = Decoder(1_000_000)
    events: list[Any] = []
    async with master.client.post(master.url + API, data=SUBSCRIBE, headers=named) as answer:
        assert answer.status == 200
        while len(events) < wanted and (piece := await answer.content.readany()):
            events += [json.loads(record) for record in decoder.feed(piece)]
        return answer.headers, events


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Connection": "close"}])
def test_a_subscriber_gets_its_stream(headers: dict[str, str]) -> None:
    async def test() -> None:
        async with edge(subscribing) as master:
            answered, events = await records(master, 2, **headers)
            assert [event["type"] for event in events] == ["SUBSCRIBED", "HEARTBEAT"]
            assert answered["Transfer-Encoding"] == "chunked"
            assert answered["Content-Type"] == "application/json"
            (subscribed,) = master.told(SubscribeFramework)
            assert answered["Mesos-Stream-Id"] == subscribed.stream
            assert re.fullmatch(r"[0-9a-f-]{36}", subscribed.stream)

    run(test)


def test_each_subscription_has_an_id_of_its_own_and_ends_with_its_connection() -> None:
    async def test() -> None:
        async with edge(subscribing) as master:
            first, _ = await records(master, 2)
            second, _ = await records(master, 2)
            assert first["Mesos-Stream-Id"] != second["Mesos-Stream-Id"]
            await master.until(lambda: len(master.told(StreamClosed)) == 2)
            assert [closed.stream for closed in master.told(StreamClosed)] == [first["Mesos-Stream-Id"], second["Mesos-Stream-Id"]]

    run(test)


def test_heartbeats_come_as_promised() -> None:
    def answer(message: Any) -> Sequence[Any]:
        if isinstance(message, SubscribeFramework):
            subscribed = scheduler.Subscribed(FrameworkID("f1"), heartbeat_interval_seconds=0.02)
            return [ToStream(message.stream, scheduler.Event("SUBSCRIBED", subscribed=subscribed))]
        return ()

    async def test() -> None:
        async with edge(answer) as master:
            _, events = await records(master, 4)
            assert [event["type"] for event in events] == ["SUBSCRIBED", "HEARTBEAT", "HEARTBEAT", "HEARTBEAT"]

    run(test)


def test_a_fault_of_the_content_is_one_error_event_and_the_end() -> None:
    def answer(message: Any) -> Sequence[Any]:
        if isinstance(message, SubscribeFramework):
            error = scheduler.Event("ERROR", error=scheduler.Error("Framework has been removed"))
            return [ToStream(message.stream, error), CloseStream(message.stream)]
        return ()

    async def test() -> None:
        async with edge(answer) as master:
            _, events = await records(master, 99)
            assert events == [{"type": "ERROR", "error": {"message": "Framework has been removed"}}]

    run(test)


def test_a_fault_before_the_stream_is_a_plain_answer() -> None:
    def answer(message: Any) -> Sequence[Any]:
        if isinstance(message, SubscribeFramework):
            raise CallError("'framework_id' differs from 'subscribe.framework_info.id'")
        return ()

    async def test() -> None:
        async with edge(answer) as master:
            status, told = await master.post(API, SUBSCRIBE)
            assert (status, told) == (400, "'framework_id' differs from 'subscribe.framework_info.id'")

    run(test)


# ---- Too many calls -------------------------------------------------------------------------------------


def test_the_requests_of_one_framework_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_api, "WAITING_MAX", 5)

    async def test() -> None:
        async with edge(quiet, rate_limits=RateLimits((Limit("core"),), aggregate_default_qps=0.001)) as master:
            assert (await master.post(API, call("REVIVE")))[0] == 202, "the first goes on at once"
            flood = [asyncio.create_task(master.post(API, call("REVIVE"))) for _ in range(6)]
            done, waiting = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
            assert [await answer for answer in done] == [(503, "5 requests of this framework wait already; try again")]
            assert len(master.told(SchedulerCall)) == 1
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

    run(test)


def test_the_rate_is_that_of_the_principal_a_framework_calls_itself() -> None:
    """Where nobody is asked who he is."""

    async def test() -> None:
        limits = RateLimits((Limit("batch", qps=0.001, capacity=1),))
        async with edge(subscribing, rate_limits=limits) as master:
            named = SUBSCRIBE.replace(b'"user"', b'"principal":"batch","user"', 1)
            async with master.client.post(master.url + API, data=named, headers={"Content-Type": "application/json"}) as stream:
                ours = {"Mesos_Stream_Id": stream.headers["Mesos-Stream-Id"]}
                assert (await master.post(API, call("REVIVE"), **ours))[0] == 202
                waits = [asyncio.create_task(master.post(API, call("REVIVE"), **ours)) for _ in range(3)]
                done, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                refusal = "principal 'batch' may make 0.001 calls a second, and 1 wait already; try again later"
                assert {await answer for answer in done} == {(503, refusal)}
                assert (await master.post(API, call("REVIVE")))[0] == 202, "another one"
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waits)

    run(test)


# ---- Whatever comes -------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "type", "tasks", "offer_ids", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPES = ["SUBSCRIBE", "ACCEPT", "KILL", "RECONCILE", "REQUEST", "MESSAGE", "UPDATE_FRAMEWORK", "ACKNOWLEDGE", "UNKNOWN", "x"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies=st.lists(st.tuples(st.sampled_from(TYPES), JSON_VALUES, st.binary(max_size=30)), min_size=1, max_size=20))
def test_no_body_breaks_the_server(bodies: list[tuple[str, Any, bytes]]) -> None:
    async def test() -> None:
        async with edge(quiet) as master:
            for kind, part, noise in bodies:
                body = json.dumps({"framework_id": {"value": "f1"}, "type": kind, kind.lower(): part}).encode()
                if kind != "SUBSCRIBE":
                    assert (await master.post(API, body))[0] in (200, 202, 400, 501)
                assert (await master.post(API, body[: len(noise)] + noise))[0] == 400
                assert (await master.post(API, noise + body, Content_Type=RECORDIO))[0] in (202, 400, 501)

    run(test)
