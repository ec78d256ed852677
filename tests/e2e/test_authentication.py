"""A cluster that anybody could call, of real processes: nobody is let in without credentials, everything works with them, and
what proves who someone is shows nowhere."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kernel.net.auth import Credential
from kernel.net.client import Client, Refused
from kernel.wire.recordio import Decoder
from tests.cluster import MESETA
from tests.hostile.daemons import LIMIT_S, Daemon

pytestmark = pytest.mark.e2e

OPS = Credential("ops", "0ps-s3cret-71c1")
AGENT = Credential("agent1", "4gent-s3cret-9f02")
SCHEDULER = Credential("sched", "sch3d-s3cret-e5aa")
STRANGER = Credential("ops", "gu3ss")
ANYWHERE = ("--ip", "0.0.0.0")
EXECUTOR = Path(__file__).with_name("executor_of_test.py")
ROOT = Path(__file__).parents[2]


class Locked:
    """A master and an agent on all addresses, with credentials in files of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files = {credential.principal: self._write(credential.principal, _plain(credential)) for credential in (OPS, AGENT, SCHEDULER)}
        self.stranger = self._write("stranger", _plain(STRANGER))
        self.credentials = self._write("credentials", {"credentials": [_plain(OPS), _plain(AGENT), _plain(SCHEDULER)]})
        self.readers = self._write("readers", {"credentials": [_plain(OPS)]})
        self.master = Daemon("master", home / "master", *ANYWHERE, "--credentials", self.credentials, credential=OPS)
        assert self.master.said("leading with"), self.master.log
        self.agent = self.start_agent()
        assert self.agent.said("registered as"), self.agent.log

    def start_agent(self, *arguments: str) -> Daemon:
        return Daemon(
            "agent",
            self.home / "agent",
            *ANYWHERE,
            *("--master", self.master.url, "--credential", self.files["agent1"], "--http-credentials", self.readers),
            *("--authenticate-http-executors", "--advertise-ip", "127.0.0.1", "--resources", "cpus:2;mem:1024;disk:1024"),
            *arguments,
            credential=OPS,
        )

    def _write(self, name: str, content: Any) -> str:
        path = self.home / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(content, file)
        return str(path)

    def meseta(self, *arguments: str, credential: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        kept |= {"MESETA_MASTER": self.master.url, "XDG_STATE_HOME": str(self.home / "state"), **environ}
        if credential:
            kept["MESETA_CREDENTIAL"] = credential
        return subprocess.run([*MESETA, *arguments], env=kept, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)


def _plain(credential: Credential) -> dict[str, str]:
    return {"principal": credential.principal, "secret": credential.secret}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    started = Locked(tmp_path_factory.mktemp("locked"))
    try:
        yield started
    finally:
        started.agent.end(signal.SIGUSR1)
        started.master.end()


class Subscription:
    """A scheduler's stream, and its calls."""

    def __init__(self, daemon: Daemon, credential: Credential, **info: Any) -> None:
        self.daemon, self.credential = daemon, credential
        self._connection = self._open()
        framework = {
            "user": "root" if os.geteuid() == 0 else os.environ.get("USER", "user"),
            "name": "test",
            "failover_timeout": 60.0,
            **info,
        }
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": framework}}
        self._connection.request("POST", "/api/v1/scheduler", json.dumps(body), self._headers())
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self._stream_id = self._answer.getheader("Mesos-Stream-Id") or ""
        self._decoder, self._events = Decoder(2**30), list[Any]()
        self.framework_id = self.next("SUBSCRIBED")["subscribed"]["framework_id"]["value"]

    def _open(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.daemon.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=LIMIT_S)

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Authorization": self.credential.header()}

    def next(self, kind: str) -> Any:
        """The next event of a kind; others are passed over."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if event["type"] == kind:
                    return event
            self._events += [json.loads(record) for record in self._decoder.feed(self._answer.read1(65536))]

    def call(self, kind: str, credential: Credential | None = None, **body: Any) -> int:
        """Post a call; return its status."""
        connection = self._open()
        headers = {**self._headers(), "Mesos-Stream-Id": self._stream_id}
        if credential is not None:
            headers["Authorization"] = credential.header()
        call = {"framework_id": {"value": self.framework_id}, "type": kind, **body}
        connection.request("POST", "/api/v1/scheduler", json.dumps(call), headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def acknowledge(self, status: Any) -> None:
        body = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
        assert self.call("ACKNOWLEDGE", acknowledge=body) == 202

    def close(self) -> None:
        self.call("TEARDOWN")
        self._connection.close()


# ---- Starting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "192.0.2.1"])
@pytest.mark.parametrize(("kind", "flag"), [("master", "--credentials"), ("agent", "--http-credentials")])
def test_nobody_starts_for_everybody_without_credentials(tmp_path: Path, kind: str, flag: str, ip: str) -> None:
    daemon = Daemon(kind, tmp_path, "--ip", ip)
    assert daemon.ended() == 2
    assert daemon.log.splitlines()[-1] == f"Error: --ip: {ip} can be reached by others: give {flag}, or --insecure to let everyone in"
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("kind", ["master", "agent"])
def test_the_insecure_may(tmp_path: Path, kind: str) -> None:
    daemon = Daemon(kind, tmp_path, *ANYWHERE, "--insecure")
    try:
        assert daemon.port
        assert daemon.process.poll() is None
    finally:
        daemon.end()


def test_loopback_is_all_of_it(tmp_path: Path) -> None:
    daemon = Daemon("master", tmp_path, "--ip", "127.0.0.2", ip="127.0.0.2")
    try:
        assert daemon.said("leading with"), daemon.log
        assert daemon.client.get("/state")["id"]
    finally:
        daemon.end()


def test_credentials_count_on_loopback_too(tmp_path: Path, locked: Locked) -> None:
    daemon = Daemon("master", tmp_path, "--credentials", locked.credentials)
    try:
        assert daemon.said("leading with"), daemon.log
        with pytest.raises(Refused) as refused:
            daemon.client.get("/state")
        assert refused.value.status == 401
    finally:
        daemon.end()


# ---- Masters and agents ---------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", ["none", "stranger"])
def test_an_agent_that_is_not_known_is_not_taken(locked: Locked, tmp_path: Path, credential: str) -> None:
    shown = [] if credential == "none" else ["--credential", locked.stranger]
    agent = Daemon("agent", tmp_path, "--master", locked.master.url, *shown)
    try:
        assert agent.said("401"), agent.log
        assert "registered as" not in agent.log
        assert len(locked.master.client.call({"type": "GET_AGENTS"})["get_agents"]["agents"]) == 1
    finally:
        agent.end()
    assert STRANGER.secret not in agent.log


@pytest.mark.parametrize("credential", [None, STRANGER])
@pytest.mark.parametrize("kind", ["master", "agent"])
def test_strangers_read_and_change_nothing(locked: Locked, kind: str, credential: Credential | None) -> None:
    daemon = locked.master if kind == "master" else locked.agent
    client = Client([daemon.url], credential)
    reads = ["/state", "/flags", "/metrics/snapshot", "/metrics", "/files/debug", "/files/browse?path=/x", "/logging/toggle"]
    reads += ["/tasks", "/frameworks", "/slaves", "/roles"] if kind == "master" else ["/containers", "/monitor/statistics"]
    for path in reads:
        with pytest.raises(Refused) as refused:
            client.get_bytes(path)
        assert (refused.value.status, refused.value.text) == (401, "Authentication required"), path
    for call in (
        {"type": "GET_STATE"},
        {"type": "GET_FLAGS"},
        {"type": "READ_FILE", "read_file": {"path": "/x", "offset": 0}},
        {"type": "NO"},
    ):
        with pytest.raises(Refused) as refused:
            client.call(call)
        assert refused.value.status == 401
    assert client.get("/version")["version"]
    assert client.get_bytes("/health") == b""


def test_a_principal_of_one_daemon_is_none_of_another_that_does_not_know_it(locked: Locked) -> None:
    with pytest.raises(Refused) as refused:
        Client([locked.agent.url], SCHEDULER).get("/state")
    assert refused.value.status == 401
    assert Client([locked.agent.url], OPS).get("/state")["id"]


# ---- Frameworks -----------------------------------------------------------------------------------------


def test_a_framework_must_be_known_and_stays_who_it_is(locked: Locked) -> None:
    for credential in (None, STRANGER):
        with pytest.raises(Refused) as refused:
            next(Client([locked.master.url], credential).records({"type": "SUBSCRIBE"}, "/api/v1/scheduler"))
        assert refused.value.status == 401
    framework = Subscription(locked.master, SCHEDULER)
    try:
        info = locked.master.client.call({"type": "GET_FRAMEWORKS"})["get_frameworks"]["frameworks"][-1]["framework_info"]
        assert info["principal"] == "sched"
        assert framework.call("SUPPRESS", STRANGER) == 401
        assert framework.call("SUPPRESS", OPS) != 202
        assert framework.call("SUPPRESS") == 202
        claimed = {"user": "u", "name": "n", "principal": "ops"}
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": claimed}}
        with pytest.raises(Refused) as refused:
            next(Client([locked.master.url], SCHEDULER).records(call, "/api/v1/scheduler"))
        assert refused.value.status == 400
    finally:
        framework.close()


@pytest.mark.parametrize("credential", ["", "stranger"])
def test_run_without_a_credential_says_so(locked: Locked, credential: str) -> None:
    done = locked.meseta("run", "--", "true", credential=locked.stranger if credential else "")
    assert done.returncode == 125
    assert "Traceback" not in done.stderr
    assert STRANGER.secret not in done.stderr + done.stdout
    assert "asks for a principal and its secret, or does not know ours" in done.stderr


def test_run_with_one_works_output_and_all(locked: Locked) -> None:
    done = locked.meseta("run", "--", "sh", "-c", "echo hello; exit 3", credential=locked.files["ops"])
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr


@pytest.mark.parametrize("command", [("node", "list"), ("task", "list"), ("framework", "list"), ("role", "list"), ("status",)])
def test_client_commands_need_one_too(locked: Locked, command: tuple[str, ...]) -> None:
    refused = locked.meseta(*command)
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False), refused.stderr
    done = locked.meseta(*command, "--json", credential=locked.files["ops"])
    assert done.returncode == 0, done.stderr


# ---- Executors ------------------------------------------------------------------------------------------


def launch_custom(framework: Subscription, end: Path, task_id: str) -> dict[str, str]:
    """Run a task of a custom executor until a file is there; return its agent's id."""
    (offer, *_) = framework.next("OFFERS")["offers"]["offers"]
    command = {"shell": False, "value": sys.executable, "arguments": [sys.executable, "-P", str(EXECUTOR), str(end)]}
    command["environment"] = {"variables": [{"name": "PYTHONPATH", "value": str(ROOT)}]}
    needs = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (("cpus", 0.1), ("mem", 64))]
    executor = {"executor_id": {"value": "custom"}, "command": command, "resources": needs}
    task = {"name": "t", "task_id": {"value": task_id}, "agent_id": offer["agent_id"], "resources": needs, "executor": executor}
    accept = {"offer_ids": [offer["id"]], "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]}
    assert framework.call("ACCEPT", accept=accept) == 202
    agent_id: dict[str, str] = offer["agent_id"]
    return agent_id


def next_state(framework: Subscription) -> Any:
    status = framework.next("UPDATE")["update"]["status"]
    framework.acknowledge(status)
    return status


def test_a_custom_executor_proves_itself_and_nobody_else_can_speak_for_it(locked: Locked, tmp_path: Path) -> None:
    """Also across a restart of its agent, which keeps the key."""
    framework = Subscription(locked.master, SCHEDULER, checkpoint=True)
    try:
        launch_custom(framework, tmp_path / "end", "t")
        assert next_state(framework)["state"] == "TASK_RUNNING"
        ids = {"framework_id": {"value": framework.framework_id}, "executor_id": {"value": "custom"}}
        status = {"task_id": {"value": "t"}, "state": "TASK_FAILED", "source": "SOURCE_EXECUTOR", "uuid": "MDEyMzQ1Njc4OWFiY2RlZg=="}
        calls = [{**ids, "type": "SUBSCRIBE", "subscribe": {}}, {**ids, "type": "UPDATE", "update": {"status": status}}]
        for credential in (None, OPS, STRANGER):
            for call in calls:
                with pytest.raises(Refused) as refused:
                    Client([locked.agent.url], credential).call(call, "/api/v1/executor")
                assert refused.value.status == 401
        port = locked.agent.port
        locked.agent.end()
        locked.agent = locked.start_agent("--port", str(port))  # Where its executors look for it.
        assert locked.agent.said("registered as"), locked.agent.log
        (tmp_path / "end").touch()
        ended = next_state(framework)
        assert (ended["state"], ended["message"]) == ("TASK_FINISHED", "with a token")
    finally:
        framework.close()


# ---- Secrets --------------------------------------------------------------------------------------------


def test_secrets_show_nowhere(locked: Locked, tmp_path: Path) -> None:
    """Neither in logs, answers and command lines nor in what tasks see, nor in any file but those that are for them."""
    done = locked.meseta("run", "--", "sh", "-c", "env; cat /proc/$PPID/cmdline", credential=locked.files["ops"])
    assert done.returncode == 0, done.stderr
    texts = {"what a task sees": done.stdout + done.stderr, "the master's log": locked.master.log, "the agent's log": locked.agent.log}
    for daemon in (locked.master, locked.agent):
        for path in ("/flags", "/state", "/metrics/snapshot", "/files/debug"):
            texts[f"{daemon.kind} {path}"] = daemon.client.get_bytes(path).decode()
        for call in ("GET_FLAGS", "GET_STATE"):
            texts[f"{daemon.kind} {call}"] = json.dumps(daemon.client.call({"type": call}))
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    texts[f"command line of {name}"] = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    pass  # It ended.
    key = (locked.home / "agent" / "meta" / "executor_key").read_text()
    secrets = [OPS.secret, AGENT.secret, SCHEDULER.secret, key]
    secrets += [credential.header().partition(" ")[2] for credential in (OPS, AGENT, SCHEDULER)]
    for where, text in texts.items():
        assert not [secret for secret in secrets if secret in text], where
    told = [locked.home / "master", locked.home / "agent"]
    for path in (path for folder in told for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        held = [secret for secret in secrets if secret.encode() in path.read_bytes()]
        assert held == ([key] if path.name == "executor_key" else []), path
        assert not held or path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_file_of_secrets_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text('{"credentials": [{"principal": "ops", "secret": "s3cret-5e1f", "more"')
    path.chmod(0o600)
    for kind, flag in (("master", "--credentials"), ("agent", "--http-credentials"), ("agent", "--credential")):
        daemon = Daemon(kind, tmp_path / kind, flag, str(path))
        assert daemon.ended() == 2
        assert f"Error: credentials: {path} is not as it must be: " in daemon.log.splitlines()[-1]
        assert "s3cret-5e1f" not in daemon.log
