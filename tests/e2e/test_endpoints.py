"""Every endpoint and every operator call of the reference, asked of running daemons (spec: mesos-v1, sections 1.2, 4 and 5).

What is asserted is what a client can rely on: status, content type, and the keys on top. What an answer says is the matter of
the tests of views.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kernel.wire import agent_operator, operator
from tests.cluster import Cluster
from tests.e2e.http import JSON, Answer, ask, call, events

pytestmark = pytest.mark.e2e

LIST, TEXT, HTML, SCRIPT = "a list", "text/plain", "text/html", "text/javascript"
MASTER, AGENT = "master", "agent-1"
PREFIX = {MASTER: "/master", AGENT: "/slave(1)"}

STATE_KEYS = """
    version build_date build_time build_user start_time elected_time id pid hostname capabilities activated_slaves deactivated_slaves
    unreachable_slaves leader leader_info flags slaves recovered_slaves frameworks completed_frameworks orphan_tasks
    unregistered_frameworks
"""
AGENT_STATE_KEYS = """
    version build_date build_time build_user start_time id pid hostname capabilities resources reserved_resources unreserved_resources
    reserved_resources_full unreserved_resources_full reserved_resources_allocated unreserved_resources_allocated resource_providers
    attributes flags frameworks completed_frameworks
"""
VERSION_KEYS = "build_date build_time build_user version meseta_version"
STATS_KEYS = "cpus_total avg_load_1min avg_load_5min avg_load_15min mem_total_bytes mem_free_bytes"

# Snapshots in JSON, by path: their keys, all of them; or that it is a list.
MASTER_JSON = {
    "/state": STATE_KEYS,
    "/state-summary": "hostname slaves frameworks",
    "/slaves": "slaves recovered_slaves",
    "/slaves?slave_id=nobody": "slaves recovered_slaves",
    "/frameworks": "frameworks completed_frameworks unregistered_frameworks",
    "/frameworks?framework_id=nobody": "frameworks completed_frameworks unregistered_frameworks",
    "/tasks": "tasks",
    "/tasks?limit=x&offset=-1&order=asc&framework_id=nobody": "tasks",
    "/roles": "roles",
    "/weights": LIST,
    "/quota": "",  # Empty arrays of a message are not printed.
    "/maintenance/schedule": "",
    "/maintenance/status": "",
    "/version": VERSION_KEYS,
    "/flags": "flags",
    "/files/debug": None,
    "/metrics/snapshot": None,
    "/metrics/snapshot?timeout=2secs": None,
    "/system/stats.json": STATS_KEYS,
}
AGENT_JSON = {
    "/state": AGENT_STATE_KEYS,
    "/flags": "flags",
    "/version": VERSION_KEYS,
    "/metrics/snapshot": None,
    "/metrics/snapshot?timeout=2secs": None,
    "/monitor/statistics": LIST,
    "/containers": LIST,
    "/containers?container_id=nobody": LIST,
    "/containerizer/debug": "pending",
    "/files/debug": None,
    "/system/stats.json": STATS_KEYS,
}
SNAPSHOTS = [(MASTER, path, keys) for path, keys in MASTER_JSON.items()] + [(AGENT, path, keys) for path, keys in AGENT_JSON.items()]

# Everything else: daemon, method, path, status, media type of the body (empty: no body).
OTHERS = [
    (MASTER, "GET", "/health", 200, ""),
    (AGENT, "GET", "/health", 200, ""),
    (MASTER, "GET", "/redirect", 307, ""),
    (MASTER, "GET", "/redirect/anything", 404, TEXT),
    (MASTER, "GET", "/", 200, HTML),
    (MASTER, "GET", "/help", 200, HTML),
    (MASTER, "GET", "/metrics", 200, TEXT),
    (MASTER, "GET", "/logging/toggle", 200, TEXT),
    (MASTER, "GET", "/logging/toggle?level=1&duration=1secs", 405, TEXT),
    (MASTER, "POST", "/logging/toggle?level=1", 400, TEXT),
    (MASTER, "POST", "/logging/toggle?level=0&duration=1secs", 200, ""),
    (MASTER, "GET", "/files/browse", 400, TEXT),
    (MASTER, "GET", "/files/browse?path=/nowhere", 404, TEXT),
    (MASTER, "GET", "/files/read?path=/nowhere", 404, TEXT),
    (MASTER, "GET", "/files/download?path=/nowhere", 404, TEXT),
    (MASTER, "POST", "/teardown", 400, TEXT),
    (MASTER, "GET", "/teardown", 405, TEXT),
    (MASTER, "POST", "/state", 405, TEXT),
    (MASTER, "GET", "/api/v1", 405, TEXT),
    (MASTER, "GET", "/api/v1/scheduler", 405, TEXT),
    (MASTER, "PUT", "/weights", 400, TEXT),
    (MASTER, "POST", "/weights", 405, TEXT),
    (MASTER, "POST", "/quota", 400, TEXT),
    (MASTER, "DELETE", "/quota/eng", 400, TEXT),
    (MASTER, "GET", "/quota/eng", 404, TEXT),
    (MASTER, "POST", "/maintenance/schedule", 400, TEXT),
    (MASTER, "POST", "/machine/down", 400, TEXT),
    (MASTER, "POST", "/machine/up", 400, TEXT),
    (MASTER, "GET", "/machine/up", 405, TEXT),
    (MASTER, "POST", "/maintenance/status", 405, TEXT),
    (MASTER, "POST", "/reserve", 400, TEXT),
    (MASTER, "POST", "/unreserve", 400, TEXT),
    (MASTER, "POST", "/create-volumes", 400, TEXT),
    (MASTER, "POST", "/destroy-volumes", 400, TEXT),
    (MASTER, "GET", "/nothing", 404, TEXT),
    (AGENT, "GET", "/", 200, HTML),
    (AGENT, "GET", "/help", 200, HTML),
    (AGENT, "GET", "/metrics", 200, TEXT),
    (AGENT, "GET", "/logging/toggle", 200, TEXT),
    (AGENT, "POST", "/logging/toggle?level=0&duration=1secs", 200, ""),
    (AGENT, "GET", "/files/browse", 400, TEXT),
    (AGENT, "GET", "/files/browse?path=/nowhere", 404, TEXT),
    (AGENT, "GET", "/files/read?path=/nowhere", 404, TEXT),
    (AGENT, "GET", "/files/download?path=/nowhere", 404, TEXT),
    (AGENT, "GET", "/containers?executor_id=alone", 400, TEXT),
    (AGENT, "GET", "/api/v1", 405, TEXT),
    (AGENT, "GET", "/api/v1/executor", 405, TEXT),
    (AGENT, "GET", "/nothing", 404, TEXT),
]

NOBODY = {"value": "nobody"}
DURATION = {"nanoseconds": 1_000_000_000}
LIVE = "tasks unreachable_tasks completed_tasks"

# Operator calls: the body of the call's own part (None: it has none), status, keys of the answer's part (None: no answer).
MASTER_CALLS: dict[str, tuple[Any, int, str | None]] = {
    "GET_HEALTH": (None, 200, "healthy"),
    "GET_FLAGS": (None, 200, "flags"),
    "GET_VERSION": (None, 200, "version_info"),
    "GET_METRICS": ({"timeout": DURATION}, 200, "metrics"),
    "GET_LOGGING_LEVEL": (None, 200, "level"),
    "SET_LOGGING_LEVEL": ({"level": 0, "duration": DURATION}, 200, None),
    "LIST_FILES": ({"path": "/nowhere"}, 404, None),
    "READ_FILE": ({"path": "/nowhere", "offset": 0}, 404, None),
    "GET_STATE": (None, 200, "get_tasks get_executors get_frameworks get_agents"),
    "GET_AGENTS": (None, 200, "agents recovered_agents"),
    "GET_FRAMEWORKS": (None, 200, "frameworks completed_frameworks"),
    "GET_EXECUTORS": (None, 200, "executors"),
    "GET_OPERATIONS": (None, 200, ""),
    "GET_TASKS": (None, 200, LIVE),
    "GET_ROLES": (None, 200, None),  # `roles`, if there are any.
    "GET_WEIGHTS": (None, 200, None),  # `weight_infos`, if any was ever set.
    "GET_MASTER": (None, 200, "master_info start_time elected_time"),
    "GET_MAINTENANCE_STATUS": (None, 200, "status"),
    "GET_MAINTENANCE_SCHEDULE": (None, 200, "schedule"),
    "GET_QUOTA": (None, 200, "status"),
    "TEARDOWN": ({"framework_id": NOBODY}, 400, None),
    "MARK_AGENT_GONE": ({"agent_id": NOBODY}, 404, None),
    "KILL_TASK": ({"framework_id": NOBODY, "task_id": NOBODY}, 404, None),
    "UPDATE_WEIGHTS": ({"weight_infos": [{"role": "eng", "weight": 0.0}]}, 400, None),
    "RESERVE_RESOURCES": ({"agent_id": NOBODY, "resources": []}, 400, None),
    "UNRESERVE_RESOURCES": ({"agent_id": NOBODY, "resources": []}, 400, None),
    "CREATE_VOLUMES": ({"agent_id": NOBODY, "volumes": []}, 400, None),
    "DESTROY_VOLUMES": ({"agent_id": NOBODY, "volumes": []}, 400, None),
    "GROW_VOLUME": (
        {"agent_id": NOBODY, "volume": {"name": "disk", "type": "SCALAR"}, "addition": {"name": "disk", "type": "SCALAR"}},
        400,
        None,
    ),
    "SHRINK_VOLUME": ({"agent_id": NOBODY, "volume": {"name": "disk", "type": "SCALAR"}, "subtract": {"value": 1.0}}, 400, None),
    "UPDATE_MAINTENANCE_SCHEDULE": ({"schedule": {"windows": []}}, 200, None),
    "START_MAINTENANCE": ({"machines": []}, 400, None),
    "STOP_MAINTENANCE": ({"machines": []}, 400, None),
    "DRAIN_AGENT": ({"agent_id": NOBODY}, 400, None),
    "DEACTIVATE_AGENT": ({"agent_id": NOBODY}, 400, None),
    "REACTIVATE_AGENT": ({"agent_id": NOBODY}, 400, None),
    "UPDATE_QUOTA": ({"quota_configs": []}, 200, None),
    "SET_QUOTA": ({"quota_request": {"role": "eng"}}, 400, None),
    "REMOVE_QUOTA": ({"role": "eng"}, 400, None),
    "UNKNOWN": (None, 501, None),
}
CONTAINER = {"container_id": NOBODY}
NESTED = {"container_id": {"value": "nobody", "parent": {"value": "none"}}}
PROVIDER = {"info": {"type": "org.apache.mesos.rp.test", "name": "test"}}
AGENT_CALLS: dict[str, tuple[Any, int, str | None]] = {
    **{name: MASTER_CALLS[name] for name in list(MASTER_CALLS)[:8]},
    "GET_STATE": (None, 200, "get_tasks get_executors get_frameworks"),
    "GET_CONTAINERS": ({"show_nested": True}, 200, None),  # `containers`, if there are any.
    "GET_FRAMEWORKS": (None, 200, "frameworks completed_frameworks"),
    "GET_EXECUTORS": (None, 200, "executors completed_executors"),
    "GET_OPERATIONS": (None, 200, ""),
    "GET_TASKS": (None, 200, "pending_tasks queued_tasks launched_tasks terminated_tasks completed_tasks"),
    "GET_AGENT": (None, 200, "agent_info"),
    "GET_RESOURCE_PROVIDERS": (None, 200, ""),
    "WAIT_CONTAINER": (CONTAINER, 404, None),
    "KILL_CONTAINER": (CONTAINER, 404, None),
    "WAIT_NESTED_CONTAINER": (NESTED, 404, None),
    "KILL_NESTED_CONTAINER": (NESTED, 404, None),
    "LAUNCH_CONTAINER": (CONTAINER, 400, None),
    "REMOVE_CONTAINER": (CONTAINER, 404, None),
    "LAUNCH_NESTED_CONTAINER": (NESTED, 400, None),
    "REMOVE_NESTED_CONTAINER": (NESTED, 404, None),
    "LAUNCH_NESTED_CONTAINER_SESSION": (NESTED, 404, None),
    "ATTACH_CONTAINER_OUTPUT": (CONTAINER, 404, None),
    "ATTACH_CONTAINER_INPUT": (None, 415, None),
    "ADD_RESOURCE_PROVIDER_CONFIG": (PROVIDER, 501, None),
    "UPDATE_RESOURCE_PROVIDER_CONFIG": (PROVIDER, 501, None),
    "REMOVE_RESOURCE_PROVIDER_CONFIG": ({"type": "org.apache.mesos.rp.test", "name": "test"}, 501, None),
    "MARK_RESOURCE_PROVIDER_GONE": ({"resource_provider_id": NOBODY}, 501, None),
    "PRUNE_IMAGES": ({"excluded_images": []}, 200, None),
    "UNKNOWN": (None, 501, None),
}
CALLS = [(MASTER, name, *row) for name, row in MASTER_CALLS.items()] + [(AGENT, name, *row) for name, row in AGENT_CALLS.items()]


def keys_of(answer: Answer) -> set[str]:
    found = answer.json()
    assert isinstance(found, dict)
    return set(found)


# ---- The older endpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize(("daemon", "path", "keys"), SNAPSHOTS)
def test_a_snapshot_is_json_under_every_name_it_goes_by(cluster: Cluster, daemon: str, path: str, keys: str | None) -> None:
    bare, _, query = path.partition("?")
    suffix = f"?{query}" if query else ""
    for alias in (path, f"{PREFIX[daemon]}{path}", f"{bare}/{suffix}", f"{bare.removesuffix('.json')}.json{suffix}"):
        answer = ask(cluster.urls[daemon], alias)
        assert (answer.status, answer.media) == (200, JSON), alias
        if keys == LIST:
            assert isinstance(answer.json(), list)
        elif keys is None:
            assert isinstance(answer.json(), dict)
        else:
            assert keys_of(answer) == set(keys.split())


@pytest.mark.parametrize(("daemon", "path", "keys"), SNAPSHOTS)
def test_a_snapshot_comes_as_a_script_and_compressed_for_who_asks(cluster: Cluster, daemon: str, path: str, keys: str | None) -> None:
    url = cluster.urls[daemon]
    script = ask(url, f"{path}{'&' if '?' in path else '?'}jsonp=show")
    assert (script.status, script.media) == (200, SCRIPT)
    assert script.body.startswith(b"show(")
    assert script.body.endswith(b");")
    json.loads(script.body[5:-2])
    packed = ask(url, path, Accept_Encoding="gzip")
    plain = ask(url, path)
    assert packed.headers.get("content-encoding") == ("gzip" if len(plain.body) >= 1024 else None)
    packed.json()


@pytest.mark.parametrize(("daemon", "method", "path", "status", "media"), OTHERS)
def test_other_endpoints(cluster: Cluster, daemon: str, method: str, path: str, status: int, media: str) -> None:
    answer = ask(cluster.urls[daemon], path, method)
    assert (answer.status, answer.media) == (status, media), answer.body
    if status == 405:
        assert method not in answer.headers["allow"].split(", ") or "?" in path


def test_quotas_and_weights_are_set_told_and_removed(cluster: Cluster) -> None:
    """In both forms; nothing is left behind."""
    url = cluster.urls[MASTER]
    limited = {"role": "e2e/quota", "guarantees": {"cpus": {"value": 0.5}}, "limits": {"cpus": {"value": 1.5}}}
    assert call(url, "UPDATE_QUOTA", update_quota={"quota_configs": [limited]}).status == 200
    over = call(url, "UPDATE_QUOTA", update_quota={"quota_configs": [{**limited, "role": "e2e/b", "guarantees": {"cpus": {"value": 9e9}}}]})
    assert (over.status, over.media) == (400, TEXT)
    assert b"quota_configs[0].guarantees.cpus: 9000000000 is above the limit of 'e2e/b', 1.5" in over.body
    assert limited in call(url, "GET_QUOTA").json()["get_quota"]["status"]["configs"]
    older = json.dumps({"role": "e2e/older", "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 9e9}}]}).encode()
    assert ask(url, "/quota", "POST", older, Content_Type=JSON).status == 409
    assert ask(url, "/quota", "POST", older.replace(b"9000000000.0", b"0.25"), Content_Type=JSON).status == 200
    (role,) = [role for role in ask(url, "/roles").json()["roles"] if role["name"] == "e2e/older"]
    assert (role["quota"]["guarantee"], role["quota"]["limit"]) == ({"cpus": 0.25}, {"cpus": 0.25})
    for name in ("e2e/quota", "e2e/older"):
        assert ask(url, f"/quota/{name}", "DELETE").status == 200
        assert ask(url, f"/quota/{name}", "DELETE").status == 400
    assert ask(url, "/weights", "PUT", b'[{"role":"e2e/quota","weight":2.5}]', Content_Type=JSON).status == 200
    assert {"role": "e2e/quota", "weight": 2.5} in ask(url, "/weights").json()
    assert call(url, "UPDATE_WEIGHTS", update_weights={"weight_infos": [{"role": "e2e/quota", "weight": 1.0}]}).status == 200


def test_a_script_is_named_by_a_name_only(cluster: Cluster) -> None:
    assert ask(cluster.urls[MASTER], "/state?jsonp=alert(1)//").status == 400


@pytest.mark.parametrize("daemon", [MASTER, AGENT])
def test_the_page_leads_only_to_what_is_there(cluster: Cluster, daemon: str) -> None:
    """And /help names every endpoint that is asked for here."""
    url = cluster.urls[daemon]
    page = ask(url, "/").body.decode()
    links = [part.partition('"')[0] for part in page.split('href="')[1:]]
    assert len(links) > 5
    for link in links:
        assert ask(url, f"/{link}").status in (200, 307), link
    (process,) = ask(url, "/help?format=json").json()["processes"]
    told = {endpoint["name"] for endpoint in process["endpoints"]}
    asked = {path.partition("?")[0] for of, path, _ in SNAPSHOTS if of == daemon} | {
        path.partition("?")[0] for of, _, path, status, _ in OTHERS if of == daemon and status != 404
    }
    assert asked - told <= {"/", "/quota/eng"}
    assert all(endpoint["text"] for endpoint in process["endpoints"])


# ---- The operator API -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("daemon", "name", "body", "status", "keys"), CALLS)
def test_a_call_is_answered_in_its_own_part(cluster: Cluster, daemon: str, name: str, body: Any, status: int, keys: str | None) -> None:
    part = name.lower()
    answer = call(cluster.urls[daemon], name, **({part: body} if body is not None else {}))
    assert answer.status == status, answer.body
    if status != 200:
        assert answer.media == TEXT
        assert answer.body
    elif name in ("SET_LOGGING_LEVEL", "PRUNE_IMAGES", "UPDATE_MAINTENANCE_SCHEDULE", "UPDATE_QUOTA"):
        assert answer.body == b""
    else:
        assert answer.media == JSON
        found = answer.json()
        assert found["type"] == name
        assert found.keys() == {"type", part}
        if keys is not None:
            assert found[part].keys() == set(keys.split())


def test_there_is_a_row_for_every_call() -> None:
    def named(message: type[msgspec.Struct]) -> set[str]:
        return {field.name.upper() for field in msgspec.structs.fields(message)} - {"TYPE"}

    assert named(operator.Call) <= MASTER_CALLS.keys() | {"SUBSCRIBE"}
    assert named(agent_operator.Call) <= AGENT_CALLS.keys()


@pytest.mark.parametrize("daemon", [MASTER, AGENT])
@pytest.mark.parametrize("name", ["SET_LOGGING_LEVEL", "LIST_FILES", "READ_FILE", "GET_METRICS"])
def test_a_call_without_its_part_is_refused(cluster: Cluster, daemon: str, name: str) -> None:
    answer = call(cluster.urls[daemon], name)
    assert (answer.status, answer.media) == (400, TEXT)
    assert f"Expecting '{name.lower()}' to be present" in answer.body.decode()


@pytest.mark.parametrize("daemon", [MASTER, AGENT])
@pytest.mark.parametrize("name", ["GET_STATE", "GET_VERSION", "GET_METRICS", "LIST_FILES"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-protobuf"}, 415),  # Not built yet.
        ({"Accept": "*/*"}, 200),
        ({"Accept": "application/*;q=0.5, text/html"}, 200),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "application/json;q=0"}, 406),
        ({"Accept": "application/x-protobuf"}, 406),
    ],
)
def test_media_types(cluster: Cluster, daemon: str, name: str, headers: dict[str, str], status: int) -> None:
    parts = {"GET_METRICS": {}, "LIST_FILES": {"path": "/nowhere"}}
    body = {"type": name, name.lower(): parts[name]} if name in parts else {"type": name}
    answer = ask(cluster.urls[daemon], "/api/v1", "POST", json.dumps(body).encode(), **headers)
    assert answer.status == (404 if name == "LIST_FILES" and status == 200 else status)


@pytest.mark.parametrize("daemon", [MASTER, AGENT])
def test_a_call_without_a_content_type_is_refused(cluster: Cluster, daemon: str) -> None:
    answer = ask(cluster.urls[daemon], "/api/v1", "POST", b'{"type":"GET_HEALTH"}', Content_Type="")
    assert answer.status in (400, 415)


@pytest.mark.parametrize(
    ("daemon", "body", "headers", "status"),
    [
        (MASTER, b"{", {"Accept": "text/html"}, 400),  # The body first ...
        (MASTER, b'{"type":"GET_METRICS"}', {"Accept": "text/html"}, 400),
        (AGENT, b"{", {"Accept": "text/html"}, 406),  # ... on the agent the headers.
        (AGENT, b'{"type":"GET_METRICS"}', {"Accept": "text/html"}, 406),
        (MASTER, b"{", {"Content_Type": "text/plain"}, 415),
        (AGENT, b"{", {"Content_Type": "text/plain"}, 415),
    ],
)
def test_which_check_comes_first(cluster: Cluster, daemon: str, body: bytes, headers: dict[str, str], status: int) -> None:
    assert ask(cluster.urls[daemon], "/api/v1", "POST", body, **headers).status == status


def test_a_subscriber_begins_with_the_whole_state_and_a_heartbeat(cluster: Cluster) -> None:
    subscribed, heartbeat = events(cluster.urls[MASTER], 2)
    assert subscribed.keys() == {"type", "subscribed"}
    assert subscribed["subscribed"].keys() == {"get_state", "heartbeat_interval_seconds"}
    assert subscribed["subscribed"]["get_state"].keys() == {"get_tasks", "get_executors", "get_frameworks", "get_agents"}
    assert len(subscribed["subscribed"]["get_state"]["get_agents"]["agents"]) == 2
    assert heartbeat == {"type": "HEARTBEAT"}
