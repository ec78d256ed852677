"""Three masters and three ZooKeeper servers, any of which may die, stop or be cut off while work runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.net.client import Client
from tests.cluster import eventually
from tests.e2e.processes import alive
from tests.e2e.test_chaos import Witness, statuses
from tests.quorum import Master, Quorum, Watch, answers, framework
from tests.zookeeper import Zookeeper

pytestmark = pytest.mark.e2e

LONGS = 4


@pytest.fixture
def start_quorum(tmp_path: Path, ensemble: Zookeeper) -> Iterator[Callable[[float], Quorum]]:
    """Starts the masters and the agent, with the session's time in seconds."""
    with contextlib.ExitStack() as ends:

        def start(session_s: float) -> Quorum:
            made = Quorum(tmp_path, ensemble, session_s)
            ends.callback(made.stop)
            eventually(made.active_agents, 60, f"the agent is active{made.logs()}")
            return made

        yield start


class Work:
    """Long tasks of a framework that follows the masters; they end when the gate opens. A context."""

    def __init__(self, quorum: Quorum, folder: Path) -> None:
        self.quorum = quorum
        self.witness = Witness(folder / "witness")
        self.file, plan = folder / "recorder.db", folder / "plan.json"
        self.names = [f"long-{number}" for number in range(LONGS)]
        plan.write_text(json.dumps({name: self.witness.long(name, 0) for name in self.names}))
        self.framework = framework(quorum, self.file, plan)
        try:
            eventually(self._begun, 60, "all tasks run")
        except BaseException:
            self.__exit__()
            raise
        self.pids = {name: self.witness.begun(name)[0] for name in self.names}

    def _begun(self) -> bool:
        assert self.framework.poll() is None, self.framework.communicate()[1]
        return all(self.witness.begun(name) for name in self.names)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.witness.gate.touch()
        self.framework.kill()
        self.framework.communicate()

    def check(self) -> None:
        """All run on, and the leader says so and never gave one up."""
        assert all(alive(pid) for pid in self.pids.values())
        found = Client([self.quorum.leader().url]).call({"type": "GET_TASKS"})["get_tasks"]
        running = {task["task_id"]["value"] for task in found["tasks"] if task["state"] == "TASK_RUNNING"}
        assert running == set(self.names), self.quorum.logs()
        assert not found.get("unreachable_tasks")
        metrics = json.loads(Client([self.quorum.leader().url]).get_bytes("/metrics/snapshot"))
        assert metrics["master/slave_removals"] == 0, self.quorum.logs()

    def end(self) -> None:
        """Let them end, and see that each ran once and is reported finished once."""
        self.check()
        self.witness.gate.touch()
        _, errors = self.framework.communicate(timeout=60)
        assert self.framework.returncode == 0, errors
        assert {name: self.witness.begun(name) for name in self.names} == {name: [pid] for name, pid in self.pids.items()}
        ended = statuses(self.file, "ended")  # Readable now: the store is its process's own.
        assert {name: [text.split()[0] for text in texts] for name, texts in ended.items()} == {
            name: ["TASK_FINISHED"] for name in self.names
        }


class Hoarder:
    """A framework that listens to one master only, whoever leads, and takes whatever it is told for granted."""

    def __init__(self, master: Master) -> None:
        self.master = master
        self._connection = http.client.HTTPConnection("127.0.0.1", master.port)
        self._answer = self._post(
            {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "u", "name": "hoarder"}}}, self._connection
        )
        self._stream = self._answer.getheader("Mesos-Stream-Id", "")
        self.framework_id = self._record()["subscribed"]["framework_id"]
        while (event := self._record())["type"] != "OFFERS":
            pass
        self.offer_ids = [offer["id"] for offer in event["offers"]["offers"]]

    def decline(self, refuse_s: float) -> None:
        """Return the offer; the master would offer it again after so many seconds."""
        call = {"type": "DECLINE", "framework_id": self.framework_id}
        call["decline"] = {"offer_ids": self.offer_ids, "filters": {"refuse_seconds": refuse_s}}
        connection = http.client.HTTPConnection("127.0.0.1", self.master.port)
        assert self._post(call, connection, {"Mesos-Stream-Id": self._stream}).status == 202
        connection.close()

    def rest(self) -> list[str]:
        """The types of all events until the stream ends."""
        types = []
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while True:
                types.append(self._record()["type"])
        self._connection.close()
        return types

    def _record(self) -> dict[str, object]:
        length = int(self._answer.readline())  # ValueError at the end.
        found: dict[str, object] = json.loads(self._answer.read(length))
        return found

    def _post(
        self, call: object, connection: http.client.HTTPConnection, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        body = json.dumps(call).encode()
        connection.request("POST", "/api/v1/scheduler", body, {"Content-Type": "application/json", **(headers or {})})
        return connection.getresponse()


def frameworks(quorum: Quorum) -> set[str]:
    """The names of all frameworks that the leader knows."""
    found = Client([quorum.leader().url]).call({"type": "GET_FRAMEWORKS"})["get_frameworks"]
    kept = [*found.get("frameworks", []), *found.get("completed_frameworks", []), *found.get("recovered_frameworks", [])]
    return {entry["framework_info"]["name"] for entry in kept if "framework_info" in entry}


def test_work_goes_on_whoever_dies(start_quorum: Callable[[float], Quorum], tmp_path: Path) -> None:
    """The leader is killed; the next is stopped and wakes up as a stale one; the whole ensemble goes away and comes back."""
    quorum = start_quorum(4.0)
    with Watch(quorum.masters) as watch, Work(quorum, tmp_path) as work:
        followers_redirect(quorum)

        killed = quorum.leader()
        killed.process.kill()
        killed.process.wait()
        print(f"leader killed: new task after {quorum.new_task_s():.1f} s")
        work.check()
        quorum.start(killed)

        stale = quorum.leader()
        assert stale is not killed
        stale_leader_does_nothing(quorum, stale)
        work.check()
        quorum.start(stale)

        leader = quorum.leader()
        quorum.zookeeper.kill()
        eventually(lambda: not answers(leader), 30, "the leader acts no more")
        time.sleep(5)  # Longer than an agent or a master may be silent, together with the time its lease lasted.
        assert all(master.running for master in quorum.masters)
        quorum.zookeeper.start()
        print(f"ensemble back: new task after {quorum.new_task_s():.1f} s")
        assert quorum.leader() is leader, "sessions outlive the ensemble"
        work.end()
    assert not watch.interleaved()


def followers_redirect(quorum: Quorum) -> None:
    leader = quorum.leader()
    for master in quorum.masters:
        if master is not leader:
            connection = http.client.HTTPConnection("127.0.0.1", master.port)
            connection.request("GET", "/state")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("Location")) == (307, f"//127.0.0.1:{leader.port}/state")
            connection.close()


def stale_leader_does_nothing(quorum: Quorum, stale: Master) -> None:
    """It is stopped with an offer about to be made and a framework about to subscribe, and wakes up when another leads."""
    hoarder = Hoarder(stale)
    hoarder.decline(refuse_s=2.0)
    stale.process.send_signal(signal.SIGSTOP)
    late = http.client.HTTPConnection("127.0.0.1", stale.port)
    subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "u", "name": "too-late"}}}
    late.request("POST", "/api/v1/scheduler", json.dumps(subscribe).encode(), {"Content-Type": "application/json"})
    print(f"leader stopped: new task after {quorum.new_task_s():.1f} s")
    stale.process.send_signal(signal.SIGCONT)
    assert stale.process.wait(30) == 1
    assert set(hoarder.rest()) <= {"HEARTBEAT"}
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert late.getresponse().status == 503
    late.close()
    assert {"hoarder", "too-late"} & frameworks(quorum) == {"hoarder"}


# ---- The bar --------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_times_each(start_quorum: Callable[[float], Quorum], tmp_path: Path) -> None:
    """The leader killed; the ensemble's leader killed; the two parted; the leader parted from the whole ensemble: each
    twenty times, in random order. Prints how long a new task took; the bar is the session's time and two seconds."""
    quorum = start_quorum(10.0)
    rng = random.Random(3)
    took: dict[str, list[float]] = {}
    with Watch(quorum.masters) as watch, Work(quorum, tmp_path) as work:
        for blow in rng.sample(list(BLOWS) * 20, len(BLOWS) * 20):
            leader = quorum.leader()
            eventually(quorum.active_agents, 60)
            # What the last blow killed may be next in the line as long as its session lasts, as in any election by ZooKeeper.
            eventually(lambda: quorum.candidates() == len(quorum.masters), 60)
            time.sleep(rng.random())
            mend = BLOWS[blow](quorum, leader)
            took.setdefault(blow, []).append(quorum.new_task_s())
            mend()
            work.check()
            for master in quorum.masters:
                restart_when_ended(quorum, master, must_end=not answers(master) and master is leader)
        work.end()
    for blow, times in took.items():
        print(
            f"{blow}: new task after {min(times):.1f} to {max(times):.1f} s, {sum(time > 12 for time in times)} of {len(times)} over 12 s"
        )
    assert not watch.interleaved()
    assert max(max(times) for times in took.values()) < 40


def restart_when_ended(quorum: Quorum, master: Master, *, must_end: bool) -> None:
    if must_end:
        with contextlib.suppress(subprocess.TimeoutExpired):
            master.process.wait(15)
    if not master.running:
        quorum.start(master)


def kill_the_leader(quorum: Quorum, leader: Master) -> Callable[[], None]:
    leader.process.kill()
    leader.process.wait()
    return lambda: None


def kill_the_ensembles_leader(quorum: Quorum, leader: Master) -> Callable[[], None]:
    quorum.zookeeper.leader().kill()
    return quorum.zookeeper.start


def part_the_leaders(quorum: Quorum, leader: Master) -> Callable[[], None]:
    link = leader.links[quorum.zookeeper.servers.index(quorum.zookeeper.leader())]
    link.cut()
    return link.mend


def part_the_leader_from_all(quorum: Quorum, leader: Master) -> Callable[[], None]:
    leader.cut()
    return leader.mend


BLOWS: dict[str, Callable[[Quorum, Master], Callable[[], None]]] = {
    "leader killed": kill_the_leader,
    "ensemble's leader killed": kill_the_ensembles_leader,
    "leaders parted": part_the_leaders,
    "leader parted from all": part_the_leader_from_all,
}
