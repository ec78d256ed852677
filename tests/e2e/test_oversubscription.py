"""Lending and taking back with real processes (tests named in docs/conformance.md: oversubscription)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e import processes
from tests.e2e.scheduler import Scheduler, scalar, task_info

pytestmark = pytest.mark.e2e

# It idles until a file appears, then takes what cpus there are.
PATIENT = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)\nwhile True: pass"


@pytest.fixture
def lender(start_cluster: Callable[..., Cluster]) -> Cluster:
    """One agent of 1 cpu, which looks each second at what its tasks use. What it counts as busy is little, for other tests may keep
    the machine from its tasks."""
    parameters = {"share": 1.0, "margin": 0.0, "warm_up_s": 2, "window_s": 6}
    settings = {
        "MESETA_RESOURCES": "cpus:1;mem:2048",
        "MESETA_RESOURCE_ESTIMATOR": "usage",
        "MESETA_RESOURCE_ESTIMATOR_PARAMETERS": json.dumps(parameters),
        "MESETA_QOS_CONTROLLER_PARAMETERS": json.dumps({"busy": 0.1, "calm_s": 3}),
        "MESETA_OVERSUBSCRIBED_RESOURCES_INTERVAL": "1secs",
    }
    return start_cluster(agents=1, only="master,agent", environ=settings)


@pytest.fixture
def patient(lender: Cluster, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A task that was given the whole cpu, and the file at which it begins to use it."""
    go = tmp_path / "go"
    command = [*MESETA, "run", "--name", "patient", "--cpus", "1", "--mem", "64", "--", sys.executable, "-S", "-E", "-c", PATIENT, str(go)]
    running = lender.spawn(command)
    try:
        yield running, go
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate()


def shown(cluster: Cluster) -> dict[str, Any]:
    """The agent as `/slaves` shows it."""
    (agent,) = cluster.get("/slaves")["slaves"]
    found: dict[str, Any] = agent
    return found


def revocable(offer: dict[str, Any]) -> float:
    return sum(each["scalar"]["value"] for each in offer["resources"] if each["name"] == "cpus" and "revocable" in each)


@pytest.mark.parametrize("preempted", ["TASK_GONE", "TASK_LOST"])
def test_a_task_runs_on_what_another_does_not_use_until_that_does(
    lender: Cluster, patient: tuple[subprocess.Popen[str], Path], preempted: str
) -> None:
    can = ("MULTI_ROLE", "REVOCABLE_RESOURCES", *("PARTITION_AWARE",) * (preempted == "TASK_GONE"))
    scheduler = Scheduler(lender, "best-effort", capabilities=[{"type": capability} for capability in can])
    try:
        resources = [{**scalar("cpus", 0.9), "revocable": {}}, scalar("mem", 64)]

        def launch(offer: dict[str, Any]) -> list[dict[str, Any]]:
            task = {**task_info("r", f"{sys.executable} -S -E -c 'while True: pass'", offer), "resources": resources}
            return [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]

        scheduler.accept(lambda offer: revocable(offer) >= 0.9, launch)
        scheduler.status("r", "TASK_RUNNING")
        used = eventually(lambda: shown(lender)["used_resources"].get("cpus_revocable"))
        assert used == 0.9
        assert shown(lender)["resources"]["cpus"] == 1.0
        assert "revocable" in str(processes.ask(lender, "GET_AGENTS")["agents"][0]["total_resources"])
        patient[1].touch()

        def ended(event: dict[str, Any]) -> bool:
            return event["type"] == "UPDATE" and event["update"]["status"]["state"] in ("TASK_GONE", "TASK_LOST")

        scheduler.next(ended)
        (end,) = [status for status in scheduler.statuses if status["state"] in ("TASK_GONE", "TASK_LOST")]
        assert (end["state"], end["reason"], end["source"]) == (preempted, "REASON_CONTAINER_PREEMPTED", "SOURCE_AGENT")
        assert "preempted: tasks that may not be preempted use" in end["message"]
        assert lender.get("/metrics/snapshot", "agent-1")["slave/executors_preempted"] == 1
        assert patient[0].poll() is None
    finally:
        scheduler.close()


def test_meseta_run_takes_what_is_lent_and_says_when_it_is_taken_back(lender: Cluster, patient: tuple[subprocess.Popen[str], Path]) -> None:
    command = [*MESETA, "run", "--name", "spare", "--revocable", "--cpus", "0.9", "--mem", "64", "--", "sh", "-c", "echo up; sleep 1000"]
    spare = lender.spawn(command, stderr=subprocess.PIPE)
    try:
        assert spare.stdout is not None
        assert spare.stdout.readline() == "up\n"
        patient[1].touch()
        _, told = spare.communicate(timeout=60)
        assert spare.returncode == 125
        assert "preempted: tasks that may not be preempted use" in told
    finally:
        spare.kill()
        spare.communicate()


def test_a_restarted_agent_goes_on_with_what_runs_on_slack(lender: Cluster, patient: tuple[subprocess.Popen[str], Path]) -> None:
    command = [*MESETA, "run", "--name", "spare", "--revocable", "--cpus", "0.9", "--mem", "64", "--", "sh", "-c", "echo up; sleep 1000"]
    spare = lender.spawn(command, stderr=subprocess.PIPE)
    try:
        assert spare.stdout is not None
        assert spare.stdout.readline() == "up\n"
        lender.kill("agent-1")
        processes.settled(lender)
        eventually(lambda: shown(lender)["resources"].get("cpus_revocable"), 60, "it lends again")
        assert shown(lender)["used_resources"]["cpus_revocable"] == 0.9
        patient[1].touch()
        _, told = spare.communicate(timeout=60)
        assert "preempted: tasks that may not be preempted use" in told
    finally:
        spare.kill()
        spare.communicate()
