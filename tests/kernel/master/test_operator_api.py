"""The operator API and the older endpoints as the edge answers them, over a scripted core (spec: mesos-v1, sections 1, 4, 5)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from kernel.errors import CallError
from kernel.mainloop import Reply
from kernel.master.effects import (
    DeactivateAgent,
    DrainAgent,
    KillTaskByOperator,
    MarkAgentGone,
    ReactivateAgent,
    StartMaintenance,
    StopMaintenance,
    StreamClosed,
    SubscribeOperator,
    TeardownFramework,
    ToStream,
    UpdateSchedule,
    View,
)
from kernel.net.auth import Authenticator, Credential
from kernel.wire import operator
from kernel.wire.common import DurationInfo, TimeInfo
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.recordio import Decoder
from kernel.wire.values import Scalar
from tests.kernel.master.edge import edge, run


def viewing(message: Any) -> Sequence[Any]:
    """Answers every view with its name, metrics with a number, subscribers with one event."""
    if isinstance(message, View):
        return [Reply([{"master/slaves_active": 7.0}] if message.name == "metrics" else [b'{"view":"', message.name.encode(), b'"}'])]
    if isinstance(message, SubscribeOperator):
        return [ToStream(message.stream, operator.Event("SUBSCRIBED", subscribed=operator.Subscribed(heartbeat_interval_seconds=15.0)))]
    return ()


def call(kind: str, **parts: Any) -> bytes:
    return json.dumps({"type": kind, **parts}).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (call("GET_STATE"), {"Content_Type": ""}, 400, "Expecting 'Content-Type' to be present"),
        (call("GET_STATE"), {"Content_Type": "application/xml"}, 415, "Expecting 'Content-Type' of"),
        (b"{", {}, 400, "not valid JSON"),
        (b"{}", {}, 400, "Expecting 'type' to be present"),
        (call("NO_SUCH_CALL"), {}, 400, "Expecting 'type' to be present"),
        (call("TEARDOWN"), {}, 400, "Expecting 'teardown' to be present"),
        (call("GET_METRICS"), {}, 400, "Expecting 'get_metrics' to be present"),
        (call("TEARDOWN", teardown={}), {}, 400, "teardown.framework_id: required"),
        (call("GET_STATE"), {"Accept": "text/html"}, 406, "Expecting 'Accept' to allow"),
        (call("SUBSCRIBE"), {"Accept": "text/html"}, 406, "Expecting 'Accept' to allow"),
        (call("UPDATE_QUOTA"), {}, 400, "Expecting 'update_quota' to be present"),
        (call("UPDATE_QUOTA", update_quota={"quota_configs": [{}]}), {}, 400, "update_quota.quota_configs[0].role: required"),
        (call("UPDATE_WEIGHTS", update_weights={"weight_infos": [{"weight": "x"}]}), {}, 400, "update_weights.weight_infos[0].weight"),
        (call("DRAIN_AGENT"), {}, 400, "Expecting 'drain_agent' to be present"),
        (call("DRAIN_AGENT", drain_agent={}), {}, 400, "drain_agent.agent_id: required"),
        (call("DRAIN_AGENT", drain_agent={"agent_id": {"value": "a"}, "max_grace_period": "soon"}), {}, 400, "max_grace_period"),
        (call("DEACTIVATE_AGENT", deactivate_agent={}), {}, 400, "deactivate_agent.agent_id: required"),
        (call("REACTIVATE_AGENT", reactivate_agent={}), {}, 400, "reactivate_agent.agent_id: required"),
        (call("UNKNOWN"), {}, 501, ""),
        (call("UPDATE_MAINTENANCE_SCHEDULE"), {}, 400, "Expecting 'update_maintenance_schedule' to be present"),
        (call("UPDATE_MAINTENANCE_SCHEDULE", update_maintenance_schedule={"schedule": {"windows": [{}]}}), {}, 400, "unavailability"),
        (call("START_MAINTENANCE"), {}, 400, "Expecting 'start_maintenance' to be present"),
        (call("STOP_MAINTENANCE", stop_maintenance={"machines": 7}), {}, 400, "stop_maintenance.machines"),
        (call("LIST_FILES", list_files={"path": "/etc"}), {}, 404, "not shown"),
        (call("READ_FILE", read_file={"path": "/etc/passwd", "offset": 0}), {}, 404, "not shown"),
        (call("SET_LOGGING_LEVEL", set_logging_level={"level": 9, "duration": {"nanoseconds": 1}}), {}, 400, "level: 9 is not allowed"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(body: bytes, headers: dict[str, str], status: int, text: str) -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            got, told = await master.post("/api/v1", body, **headers)
            assert got == status
            assert text in told
            assert master.core.inputs == []

    run(test)


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/operator", "/master/api/v1/"])
@pytest.mark.parametrize(
    "kind", ["GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_OPERATIONS", "GET_TASKS", "GET_ROLES", "GET_MASTER"]
)
def test_reads_are_views(path: str, kind: str) -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            assert await master.post(path, call(kind)) == (200, f'{{"view":"{kind.lower()}"}}')

    run(test)


def test_a_master_tells_about_itself() -> None:
    async def test() -> None:
        async with edge(viewing) as master:

            async def answer(kind: str, **parts: Any) -> Any:
                status, text = await master.post("/api/v1", call(kind, **parts))
                assert status == 200
                return json.loads(text)[kind.lower()]

            assert await answer("GET_HEALTH") == {"healthy": True}
            assert (await answer("GET_VERSION"))["version_info"]["version"] == "1.11.0"
            assert {"name": "offer_hold", "value": "5secs"} in (await answer("GET_FLAGS"))["flags"]
            metrics = {metric["name"]: metric["value"] for metric in (await answer("GET_METRICS", get_metrics={}))["metrics"]}
            assert (metrics["master/elected"], metrics["master/slaves_active"]) == (1.0, 7.0)

    run(test)


def test_a_logging_level_holds_for_its_time() -> None:
    async def test() -> None:
        normal = logging.getLogger().level
        async with edge(viewing) as master:

            async def level() -> int:
                return json.loads((await master.post("/api/v1", call("GET_LOGGING_LEVEL")))[1])["get_logging_level"]["level"]

            assert await level() == 0
            body = call("SET_LOGGING_LEVEL", set_logging_level={"level": 2, "duration": {"nanoseconds": 60_000_000_000}})
            assert await master.post("/api/v1", body) == (200, "")
            assert await level() == 2
            assert logging.getLogger().level == logging.DEBUG
            await master.post("/api/v1", call("SET_LOGGING_LEVEL", set_logging_level={"level": 1, "duration": {"nanoseconds": 1}}))
            await master.until(lambda: logging.getLogger().level == normal)
            assert await level() == 0

    run(test)


def test_the_logging_level_is_toggled_the_old_way_too() -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            path = "/logging/toggle"
            assert await master.post(path + "?level=1&duration=10mins", b"") == (200, "")
            assert await master.post(path, b"") == (200, "1\n")
            for query in (
                "level=1",
                "level=x&duration=1secs",
                "level=1&duration=soon",
                "level=9&duration=1secs",
                "level=1&duration=-1secs",
            ):
                assert (await master.post(f"{path}?{query}", b""))[0] == 400
            async with master.client.get(f"{master.url}{path}?level=1&duration=1secs") as answer:
                assert answer.status == 405
            assert await master.post(path + "?level=0&duration=0secs", b"") == (200, "")

    run(test)


UPDATE = operator.UpdateQuota(True, (operator.QuotaConfig("eng", {}, {"cpus": Scalar(2.0)}),))
SET = operator.SetQuota(operator.QuotaRequest(role="eng"))
WEIGHTS = operator.UpdateWeights((operator.WeightInfo(2.0, "a"),))
QUOTA = {"quota_configs": [{"role": "eng", "limits": {"cpus": {"value": 2.0}}}], "force": True}


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "/api/v1", call("UPDATE_QUOTA", update_quota=QUOTA), UPDATE),
        ("POST", "/api/v1", call("REMOVE_QUOTA", remove_quota={"role": "eng"}), operator.RemoveQuota("eng")),
        ("POST", "/api/v1", call("SET_QUOTA", set_quota={"quota_request": {"role": "eng"}}), SET),
        ("POST", "/api/v1", call("UPDATE_WEIGHTS", update_weights={"weight_infos": [{"role": "a", "weight": 2}]}), WEIGHTS),
        ("PUT", "/weights", b'[{"role":"a","weight":2}]', WEIGHTS),
        ("POST", "/quota", b'{"role":"eng","force":true}', operator.SetQuota(operator.QuotaRequest(True, "eng"))),
        ("DELETE", "/quota/eng/batch", b"", operator.RemoveQuota("eng/batch")),
        ("DELETE", "/master/quota/eng", b"", operator.RemoveQuota("eng")),
    ],
)
def test_quotas_and_weights_are_for_the_core(method: str, path: str, body: bytes, message: Any) -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            headers = {"Content-Type": "application/json"}
            async with master.client.request(method, master.url + path, data=body, headers=headers) as answer:
                assert (answer.status, await answer.text()) == (200, "")
            assert master.core.inputs == [message]

    run(test)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/weights", b"{", 400),
        ("PUT", "/weights", b'[{"role":"a"}]', 400),
        ("POST", "/weights", b"[]", 405),
        ("PUT", "/quota", b"{}", 405),
        ("POST", "/quota", b"[", 400),
        ("DELETE", "/quota", b"", 400),
        ("GET", "/quota/eng", b"", 404),
    ],
)
def test_wrong_ways_to_set_them_are_refused(method: str, path: str, body: bytes, status: int) -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            async with master.client.request(method, master.url + path, data=body) as answer:
                assert answer.status == status, await answer.text()
            assert master.core.inputs == []

    run(test)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (call("TEARDOWN", teardown={"framework_id": {"value": "f"}}), TeardownFramework("f")),
        (call("MARK_AGENT_GONE", mark_agent_gone={"agent_id": {"value": "a"}}), MarkAgentGone("a")),
        (call("KILL_TASK", kill_task={"framework_id": {"value": "f"}, "task_id": {"value": "t"}}), KillTaskByOperator("f", "t")),
    ],
)
def test_what_operators_do_goes_to_the_core(body: bytes, message: Any) -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            assert await master.post("/api/v1", body) == (200, "")
            assert master.core.inputs == [message]

    run(test)


def test_an_operator_follows_events_until_it_leaves() -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            headers = {"Content-Type": "application/json"}
            async with master.client.post(master.url + "/api/v1", data=call("SUBSCRIBE"), headers=headers) as answer:
                assert answer.status == 200
                assert "Mesos-Stream-Id" not in answer.headers
                (record,) = Decoder(10_000).feed(await answer.content.readany())
                assert json.loads(record)["type"] == "SUBSCRIBED"
                (subscribed,) = master.told(SubscribeOperator)
            await master.until(lambda: master.told(StreamClosed) != [])
            assert master.told(StreamClosed) == [StreamClosed(subscribed.stream)]

    run(test)


# ---- The older endpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/health", 200, ""),
        ("/master/health/", 200, ""),
        ("/state", 200, '{"view":"state"}'),
        ("/master/state.json", 200, '{"view":"state"}'),
        ("/state-summary", 200, '{"view":"state-summary"}'),
        ("/master/slaves", 200, '{"view":"slaves"}'),
        ("/master/frameworks/", 200, '{"view":"frameworks"}'),
        ("/roles", 200, '{"view":"roles"}'),
        ("/tasks?jsonp=f", 200, 'f({"view":"tasks"});'),
        ("/quota", 200, '{"view":"quota"}'),
        ("/master/maintenance/schedule", 200, '{"view":"maintenance/schedule"}'),
        ("/quota/eng/dev", 404, "/quota/eng/dev is no endpoint; only DELETE names a role"),
        ("/files/browse", 400, "Expecting 'path=value' in query."),
        ("/files/read?path=/etc/passwd", 404, "path: '/etc/passwd' is not shown here"),
        ("/redirect/master", 404, "nothing is served at /redirect/master"),
        ("/nothing", 404, "nothing is served at /nothing"),
    ],
)
def test_reads_of_old_are_answered(path: str, status: int, body: str) -> None:
    async def test() -> None:
        async with edge(viewing) as master, master.client.get(master.url + path, allow_redirects=False) as answer:
            assert (answer.status, await answer.text()) == (status, body)

    run(test)


OF_THE_PROCESS = """
    master/elected master/uptime_secs master/event_queue_messages master/event_queue_dispatches master/event_queue_http_requests
    main_loop/turns main_loop/longest_turn_s
    system/cpus_total system/load_1min system/load_5min system/load_15min system/mem_total_bytes system/mem_free_bytes
"""


def test_metrics_are_those_of_the_state_and_of_the_process() -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            async with master.client.get(master.url + "/metrics/snapshot?timeout=5secs") as answer:
                found = await answer.json()
            assert set(OF_THE_PROCESS.split()) - found.keys() == set()
            assert (found["master/elected"], found["master/slaves_active"]) == (1.0, 7.0)
            async with master.client.get(master.url + "/metrics") as answer:
                assert "meseta_master_slaves_active 7.0" in await answer.text()
            async with master.client.get(master.url + "/metrics/snapshot?timeout=soon") as answer:
                assert answer.status == 400

    run(test)


def test_a_view_gets_the_query() -> None:
    async def test() -> None:
        async with edge(viewing) as master, master.client.get(master.url + "/tasks?limit=5&order=asc") as answer:
            assert answer.status == 200
            assert master.core.inputs == [View("tasks", {"limit": "5", "order": "asc"})]

    run(test)


def test_version_is_digits_and_dots_with_ours_beside_it() -> None:
    async def test() -> None:
        async with edge(viewing) as master, master.client.get(master.url + "/version") as answer:
            version = await answer.json()
            assert [int(part) for part in version["version"].split(".")] == [1, 11, 0]
            assert "meseta_version" in version

    run(test)


def test_redirect_leads_to_the_leader_even_from_itself() -> None:
    async def test() -> None:
        for leads in (True, False):
            async with edge(viewing, leads=leads) as master, master.client.get(master.url + "/redirect", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (307, "//127.0.0.1:5050")
        async with edge(viewing, leads=False, leader=None) as master, master.client.get(master.url + "/redirect") as answer:
            assert (answer.status, await answer.text()) == (503, "No leader elected")

    run(test)


def test_a_master_that_does_not_lead_still_tells_its_health() -> None:
    async def test() -> None:
        async with edge(viewing, leads=False, leader=None) as master:
            for path in ("/health", "/version", "/flags", "/metrics/snapshot", "/metrics"):
                async with master.client.get(master.url + path) as answer:
                    assert answer.status == 200

    run(test)


@pytest.mark.parametrize(("body", "status"), [(b"frameworkId=f1", 200), (b"", 400), (b"frameworkId=", 400), (b"frameworkId=unknown", 400)])
def test_a_framework_is_torn_down_by_a_form(body: bytes, status: int) -> None:
    def answer(message: Any) -> Sequence[Any]:
        if message == TeardownFramework("unknown"):
            raise CallError("framework_id: no framework 'unknown' is known")
        return ()

    async def test() -> None:
        async with edge(answer) as master:
            assert (await master.post("/master/teardown", body, Content_Type="application/x-www-form-urlencoded"))[0] == status

    run(test)


def test_realms_decide_who_must_be_known_where() -> None:
    async def test() -> None:
        authenticator = Authenticator([Credential("p", "s")], ["mesos-master-readonly", "mesos-master-readwrite"])
        async with edge(viewing, authenticator=authenticator) as master:
            for path, status in {"/health": 200, "/version": 200, "/redirect": 307, "/state": 401, "/flags": 401, "/metrics": 401}.items():
                async with master.client.get(master.url + path, allow_redirects=False) as answer:
                    assert (path, answer.status) == (path, status)
            assert (await master.post("/api/v1", call("GET_HEALTH")))[0] == 401
            assert (await master.post("/teardown", b"frameworkId=f"))[0] == 401
            assert (await master.post("/api/v1/scheduler", b"{}"))[0] == 400

    run(test)


@pytest.mark.parametrize("registered", [True, False])
def test_whether_a_reactivated_agent_is_there_decides_the_status(registered: bool) -> None:
    async def test() -> None:
        async with edge(lambda message: [Reply(registered)]) as master:
            status, text = await master.post("/api/v1", call("REACTIVATE_AGENT", reactivate_agent={"agent_id": {"value": "a"}}))
            assert (status, "is not registered now" in text) == ((200, False) if registered else (409, True))
            assert master.core.inputs == [ReactivateAgent("a")]

    run(test)


def test_draining_is_handed_on() -> None:
    async def test() -> None:
        async with edge(viewing) as master:
            for grace, status in (("90s", 200), ({"seconds": 90}, 200), ({"seconds": 89, "nanos": 10**9}, 400)):
                body = {"agent_id": {"value": "a"}, "max_grace_period": grace, "mark_gone": True}
                assert (await master.post("/api/v1", call("DRAIN_AGENT", drain_agent=body)))[0] == status
            await master.post("/api/v1", call("DEACTIVATE_AGENT", deactivate_agent={"agent_id": {"value": "a"}}))
            assert master.core.inputs == [DrainAgent("a", 90 * 10**9, True)] * 2 + [DeactivateAgent("a")]

    run(test)


def test_maintenance_is_planned_and_begun_in_the_new_way_and_in_the_old() -> None:
    machine, window = {"hostname": "n1", "ip": "10.0.0.4"}, {"start": {"nanoseconds": 7}, "duration": {"nanoseconds": 9}}
    schedule = {"windows": [{"machine_ids": [machine], "unavailability": window}]}
    read_machine = MachineID("n1", "10.0.0.4")
    read = operator.Schedule((operator.Window(Unavailability(TimeInfo(7), DurationInfo(9)), (read_machine,)),))

    async def test() -> None:
        async with edge(viewing) as master:
            new = [
                call("UPDATE_MAINTENANCE_SCHEDULE", update_maintenance_schedule={"schedule": schedule}),
                call("START_MAINTENANCE", start_maintenance={"machines": [machine]}),
                call("STOP_MAINTENANCE", stop_maintenance={"machines": [machine]}),
            ]
            for body in new:
                assert (await master.post("/api/v1", body))[0] == 200
            old = {"/maintenance/schedule": schedule, "/machine/down": [machine], "/master/machine/up": [machine]}
            for path, part in old.items():
                assert (await master.post(path, json.dumps(part).encode()))[0] == 200
            assert master.core.inputs == [UpdateSchedule(read), StartMaintenance((read_machine,)), StopMaintenance((read_machine,))] * 2
            master.core.inputs.clear()
            for path in ("/maintenance/schedule", "/maintenance/status"):
                async with master.client.get(master.url + path) as answer:
                    assert (answer.status, await answer.json()) == (200, {"view": path[1:]})
            for path, body in (("/machine/down", b'["n1"]'), ("/machine/up", b"no JSON"), ("/maintenance/schedule", b"[]")):
                assert (await master.post(path, body))[0] == 400, path
            assert (await master.post("/maintenance/status", b"{}"))[0] == 405

    run(test)
