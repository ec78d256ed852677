"""Jobs of Chronos in containers of a real Docker engine, which is where Chronos ran those that do not say otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import eventually
from tests.docker import IMAGE, DockerEngine
from tests.e2e.docked import cluster_beside
from tests.e2e.http import ask

pytestmark = pytest.mark.e2e


def test_jobs_run_in_an_image_with_what_they_mount_and_their_output_is_kept(docker_engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("from the host")
    volumes = [{"containerPath": "/in", "hostPath": str(tmp_path / "given"), "mode": "RO"}, {"containerPath": "/out", "hostPath": "out"}]
    common = {"schedule": "R1//PT1M", "retries": 0, "cpus": 0.1, "mem": 32, "disk": 0, "container": {"image": IMAGE, "volumes": volumes}}
    jobs = {
        "shell": {"command": "cat /in/file > /out/x && cat $MESOS_SANDBOX/out/x"},
        "argv": {"shell": False, "command": "/bin/cat", "arguments": ["/in/file"]},
    }
    cluster = cluster_beside(docker_engine, tmp_path / "cluster", only="master,agent,chronos")
    cluster.up()
    try:
        chronos = cluster.urls["chronos"]

        def runs(name: str) -> Any:
            return ask(chronos, f"/v1/meseta/runs?job={name}").json()["runs"]

        for name, job in jobs.items():
            answer = ask(chronos, "/scheduler/iso8601", "POST", json.dumps({"name": name, **common, **job}).encode())
            assert answer.status == 204, answer.body
        for name in jobs:
            (run,) = eventually(lambda name=name: runs(name), 60, f"{name} is over")
            assert run["state"] == "succeeded", run
            output = f"/v1/meseta/runs/{run['id']}/output"
            eventually(lambda output=output: ask(chronos, output).json()["kept"], 30, "its output is kept")
            assert ask(chronos, output).json()["stdout"] == "from the host"
    finally:
        cluster.down()
    eventually(lambda: not docker_engine.names(), 30, "all containers are removed")
