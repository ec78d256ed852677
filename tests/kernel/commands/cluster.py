"""A master and an agent for client commands: a real server on loopback with made-up answers."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def scalar(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


def agent(agent_id: str, hostname: str, *, cpus: float = 4.0, used: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "agent_info": {"hostname": hostname, "port": 5051, "id": {"value": agent_id}},
        "active": True,
        "deactivated": False,
        "version": "1.11.0",
        "pid": f"slave(1)@{hostname}:5051",
        "registered_time": {"nanoseconds": 1_700_000_000_000_000_000},
        "total_resources": [scalar("cpus", cpus), scalar("mem", 20480.0)],
        "allocated_resources": [scalar("cpus", used), scalar("mem", 512.0)],
        **more,
    }


def framework(framework_id: str, name: str, **more: Any) -> dict[str, Any]:
    info = {"user": "root", "name": name, "id": {"value": framework_id}, "failover_timeout": 10.0, "roles": ["*"]}
    return {"framework_info": info, "active": True, "connected": True, "recovered": False, **more}


def task(task_id: str, framework_id: str, agent_id: str, state: str = "TASK_RUNNING", **more: Any) -> dict[str, Any]:
    return {
        "name": task_id.partition("-")[0],
        "task_id": {"value": task_id},
        "framework_id": {"value": framework_id},
        "agent_id": {"value": agent_id},
        "state": state,
        "resources": [scalar("cpus", 0.5), scalar("mem", 64.0)],
        "statuses": [{"task_id": {"value": task_id}, "state": state, "timestamp": 1_700_000_000.0, "message": "as told"}],
        **more,
    }


def role(name: str, *frameworks: str, guarantee: Any = None, limit: Any = None, **more: Any) -> dict[str, Any]:
    quota = {"role": name, "guarantee": guarantee or {}, "limit": limit or {}, "consumed": more.get("allocated", {})}
    parts: dict[str, Any] = {"weight": 1.0, "share": 0.25, "allocated": {}, "offered": {}, "reserved": {}, "suppressed": []}
    return {"name": name, **parts, **more, "quota": quota, "frameworks": list(frameworks)}


class Cluster:
    """What is answered, by call; the calls that came. The agent listens where the master does."""

    def __init__(self) -> None:
        self.agents = [agent("S0", "n1"), agent("S1", "n2", used=0.0)]
        self.recovered_agents: list[dict[str, Any]] = []
        self.frameworks = [framework("fw-1", "chronos"), framework("fw-2", "run-sh", active=False, connected=False)]
        self.completed = [framework("fw-0", "old")]
        self.tasks = [task("sh-1", "fw-1", "S0"), task("sleep-2", "fw-2", "S1")]
        self.completed_tasks = [task("sh-0", "fw-1", "S0", "TASK_FAILED")]
        self.roles: list[dict[str, Any]] = [role("web", "fw-1", weight=2.0, allocated={"cpus": 1.5, "mem": 64.0})]
        self.explained: dict[str, Any] = {"demands": [], "more": 0, "silent": []}
        self.files: dict[str, bytes] = {}
        self.containers: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.windows: list[dict[str, Any]] = []
        self.maintained: dict[str, Any] = {}
        self.refuse: tuple[int, str] | None = None
        self.refusals: dict[str, tuple[int, str]] = {}  # Of single calls, by type.
        self.authorization: str | None = None
        self.url = ""

    def answer(self, call: dict[str, Any]) -> dict[str, Any] | None:
        kind = call["type"]
        if kind == "UPDATE_MAINTENANCE_SCHEDULE":
            self.windows = call["update_maintenance_schedule"]["schedule"]["windows"]
        parts: dict[str, Any] = {
            "GET_AGENTS": {"agents": self.agents, "recovered_agents": self.recovered_agents},
            "GET_FRAMEWORKS": {"frameworks": self.frameworks, "completed_frameworks": self.completed},
            "GET_TASKS": {"tasks": self.tasks, "unreachable_tasks": [], "completed_tasks": self.completed_tasks},
            "GET_CONTAINERS": {"containers": self.containers},
            "GET_MAINTENANCE_SCHEDULE": {"schedule": {"windows": self.windows}},
            "GET_MAINTENANCE_STATUS": {"status": self.maintained},
            "GET_MASTER": {"master_info": {"id": "m1", "ip": 0, "port": 5050}, "start_time": 1_700_000_000.0},
        }
        parts["GET_STATE"] = {"get_agents": parts["GET_AGENTS"], "get_frameworks": parts["GET_FRAMEWORKS"], "get_tasks": parts["GET_TASKS"]}
        return {"type": kind, kind.lower(): parts[kind]} if kind in parts else None


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster that answers for as long as the block runs; its agents are reached at its own address."""
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, json.dumps(cluster.explained if self.path.startswith("/explain") else {"roles": cluster.roles}).encode())

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            cluster.calls.append(call)
            cluster.authorization = self.headers.get("Authorization")
            if cluster.refuse is not None:
                self._send(cluster.refuse[0], cluster.refuse[1].encode())
            elif call["type"] in cluster.refusals:
                status, text = cluster.refusals[call["type"]]
                self._send(status, text.encode())
            elif call["type"] in ("READ_FILE", "LIST_FILES"):
                self._file(call["type"], call[call["type"].lower()])
            else:
                answer = cluster.answer(call)
                self._send(200, json.dumps(answer).encode() if answer is not None else b"")

        def _file(self, kind: str, body: dict[str, Any]) -> None:
            path = body["path"]
            if kind == "LIST_FILES":
                found = [{"path": known} for known in cluster.files if known.startswith(path + "/")]
                self._send(200 if found else 404, json.dumps({"type": kind, "list_files": {"file_infos": found}}).encode())
            elif path not in cluster.files:
                self._send(404, b"no such file")
            else:
                data = cluster.files[path]
                piece = base64.b64encode(data[body["offset"] : body["offset"] + min(body["length"], 65536)]).decode()
                self._send(200, json.dumps({"type": kind, "read_file": {"size": len(data), "data": piece}}).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    for one in cluster.agents:
        one["pid"] = f"slave(1)@127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
