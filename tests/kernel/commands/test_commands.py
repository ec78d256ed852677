"""Client commands as a user types them, against a made-up cluster."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel import cli, supervisor
from kernel.commands import task_stats
from tests.kernel.commands.cluster import Cluster, agent, role, running, scalar, task


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    """The made-up cluster, found by MESETA_MASTER."""
    with running() as served:
        monkeypatch.setenv("MESETA_MASTER", served.url)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        yield served


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def meseta(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; returns exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(arguments)
        out, err = capfd.readouterr()
        return status, out, err

    return run


def columns(text: str) -> list[list[str]]:
    """The cells of an aligned table."""
    return [re.split(r"  +", line.rstrip()) for line in text.splitlines()]


# ---- Nodes ----------------------------------------------------------------------------------------------


def test_node_list_shows_what_is_used(cluster: Cluster, meseta: Run) -> None:
    status, out, _ = meseta("node", "list")
    heading, first, second = columns(out)
    assert status == 0
    assert heading == ["ID", "HOST", "STATE", "CPUS", "MEM", "GPUS", "AGE", "ATTRIBUTES"]
    assert first[:6] == ["S0", "n1:5051", "active", "1/4", "512M/20G", "-"]
    assert second[:4] == ["S1", "n2:5051", "active", "0/4"]


def test_json_is_the_apis_own_messages_with_ids_on_top(cluster: Cluster, meseta: Run) -> None:
    nodes = json.loads(meseta("node", "list", "--json")[1])
    assert nodes[0] == {"id": "S0", "hostname": "n1", "state": "active", **cluster.agents[0]}
    frameworks = json.loads(meseta("framework", "list", "--json")[1])
    assert frameworks[1] == {"id": "fw-2", "name": "run-sh", "state": "disconnected", **cluster.frameworks[1]}
    assert json.loads(meseta("task", "list", "--json")[1])[0] == {"id": "sh-1", **cluster.tasks[0]}


def test_a_node_goes_by_the_end_of_its_id(cluster: Cluster, meseta: Run) -> None:
    cluster.agents = [agent("12209a21-f704-S0", "n1"), agent("12209a21-f704-S1", "n2")]
    assert json.loads(meseta("node", "show", "S1", "--json")[1])["hostname"] == "n2"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"active": False}, "disconnected"),
        ({"deactivated": True}, "deactivated"),
        ({"drain_info": {"state": "DRAINING", "config": {}}}, "draining"),
    ],
)
def test_the_state_of_a_node_is_one_word(cluster: Cluster, meseta: Run, more: dict[str, Any], state: str) -> None:
    cluster.agents = [agent("S9", "n9", **more)]
    assert columns(meseta("node", "list")[1])[1][2] == state


def test_node_show_tells_all_of_one(cluster: Cluster, meseta: Run) -> None:
    _, out, _ = meseta("node", "show", "n1")
    assert "cpus:        1 used, 0 offered, 4 in all" in out
    assert "sh-1" in out
    assert "sleep-2" not in out
    shown = json.loads(meseta("node", "show", "S0", "--json")[1])
    assert [one["task_id"]["value"] for one in shown["tasks"]] == ["sh-1"]


def test_what_a_node_lends_is_shown_apart(cluster: Cluster, meseta: Run) -> None:
    lent = {**scalar("cpus", 0.5), "revocable": {}}
    total = [scalar("cpus", 4.0), {**scalar("cpus", 1.5), "revocable": {}}]
    cluster.agents = [agent("S0", "n1", total_resources=total, allocated_resources=[scalar("cpus", 1.0), lent])]
    assert "1/4" in meseta("node", "list")[1]
    _, shown, _ = meseta("node", "show", "S0")
    assert "1 used, 0 offered, 4 in all" in shown
    assert "0.5 used, 0 offered, 1.5 in all" in shown


def test_agents_that_share_a_machine_are_told_apart_by_port(cluster: Cluster, meseta: Run) -> None:
    cluster.agents[1]["agent_info"] |= {"hostname": "n1", "port": 15052}
    assert meseta("node", "show", "n1")[0] == 1
    assert json.loads(meseta("node", "show", "n1:15052", "--json")[1])["id"] == "S1"
    assert json.loads(meseta("task", "list", "--node", "n1:5051", "--json")[1])[0]["id"] == "sh-1"


def test_node_show_names_frameworks_and_leaves_out_what_has_ended(cluster: Cluster, meseta: Run) -> None:
    cluster.tasks.append(task("done-3", "fw-1", "S0", "TASK_FINISHED"))  # Its framework has not acknowledged its end.
    _, out, _ = meseta("node", "show", "S0")
    assert columns(out)[-1][:4] == ["sh-1", "sh", "chronos", "n1:5051"]
    assert "done-3" not in out


def test_agents_that_a_new_master_waits_for_are_shown(cluster: Cluster, meseta: Run) -> None:
    awaited = {"hostname": "n3", "id": {"value": "S2"}, "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 2.0}}]}
    cluster.recovered_agents = [awaited]
    assert columns(meseta("node", "list")[1])[3][:4] == ["S2", "n3:5051", "recovered", "0/2"]
    assert "registered" not in meseta("node", "show", "n3")[1]
    assert json.loads(meseta("status", "--json")[1])["agents"] == {"active": 2, "recovered": 1}


def test_no_nodes_are_said_to_be_none(cluster: Cluster, meseta: Run) -> None:
    cluster.agents = []
    assert meseta("node", "list") == (0, "", "No agent has registered yet.\n")
    assert meseta("node", "list", "--json") == (0, "[]\n", "")


# ---- Frameworks -----------------------------------------------------------------------------------------


def test_framework_list_shows_the_completed_when_asked(cluster: Cluster, meseta: Run) -> None:
    assert [row[:3] for row in columns(meseta("framework", "list")[1])[1:]] == [
        ["fw-1", "chronos", "active"],
        ["fw-2", "run-sh", "disconnected"],
    ]
    assert columns(meseta("framework", "list", "--all")[1])[-1][:3] == ["fw-0", "old", "completed"]
    assert len(json.loads(meseta("framework", "list", "--all", "--json")[1])) == 3


def test_framework_show_takes_a_name(cluster: Cluster, meseta: Run) -> None:
    _, out, _ = meseta("framework", "show", "chronos")
    assert re.search(r"^failover timeout: +10 s$", out, re.MULTILINE)
    assert "sh-1" in out


def test_framework_teardown_calls_the_master(cluster: Cluster, meseta: Run) -> None:
    assert meseta("framework", "teardown", "chronos")[0] == 0
    assert cluster.calls[-1] == {"type": "TEARDOWN", "teardown": {"framework_id": {"value": "fw-1"}}}


# ---- Tasks ----------------------------------------------------------------------------------------------


def test_task_list_shows_the_live_and_on_demand_the_rest(cluster: Cluster, meseta: Run) -> None:
    cluster.tasks.append(task("done-3", "fw-1", "S0", "TASK_FINISHED"))  # Its framework has not acknowledged its end.
    rows = columns(meseta("task", "list")[1])
    assert [row[:5] for row in rows[1:]] == [
        ["sh-1", "sh", "chronos", "n1:5051", "running"],
        ["sleep-2", "sleep", "run-sh", "n2:5051", "running"],
    ]
    assert [row[0] for row in columns(meseta("task", "list", "--all")[1])[1:]] == ["sh-1", "sleep-2", "done-3", "sh-0"]


@pytest.mark.parametrize("chosen", [("--framework", "chronos"), ("--framework", "fw-1"), ("--node", "n1"), ("--node", "S0")])
def test_task_list_can_be_narrowed(cluster: Cluster, meseta: Run, chosen: tuple[str, str]) -> None:
    assert [one["task_id"]["value"] for one in json.loads(meseta("task", "list", "--json", *chosen)[1])] == ["sh-1"]


def test_task_show_finds_by_the_beginning_of_the_id(cluster: Cluster, meseta: Run) -> None:
    _, out, _ = meseta("task", "show", "sle")
    assert re.search(r"^message: +as told$", out, re.MULTILINE)
    assert re.search(r"^host: +n2:5051$", out, re.MULTILINE)


def test_task_kill_asks_the_master_for_each(cluster: Cluster, meseta: Run) -> None:
    assert meseta("task", "kill", "sh-1", "sleep-2")[0] == 0
    kills = [call["kill_task"] for call in cluster.calls if call["type"] == "KILL_TASK"]
    assert kills == [
        {"framework_id": {"value": "fw-1"}, "task_id": {"value": "sh-1"}},
        {"framework_id": {"value": "fw-2"}, "task_id": {"value": "sleep-2"}},
    ]


def test_task_kill_kills_nothing_when_one_is_not_known(cluster: Cluster, meseta: Run) -> None:
    status, _, err = meseta("task", "kill", "sh-1", "nonsense")
    assert status == 1
    assert err == "Error: there is no task 'nonsense'; `meseta task list` shows what there is\n"
    assert [call for call in cluster.calls if call["type"] == "KILL_TASK"] == []


def test_task_kill_of_an_ended_task_says_so_and_takes_no_other(cluster: Cluster, meseta: Run) -> None:
    cluster.tasks.append(task("sh-01", "fw-1", "S0"))
    assert meseta("task", "kill", "sh-0") == (1, "", "Error: task 'sh-0' has ended already (failed); `meseta task list` shows what runs\n")


LATEST = "/frameworks/fw-1/executors/sh-1/runs/latest"


def test_task_logs_print_each_stream_where_it_belongs(cluster: Cluster, meseta: Run) -> None:
    cluster.files = {f"{LATEST}/stdout": b"x" * 100_000 + b"\n", f"{LATEST}/stderr": b"oops\n"}
    assert meseta("task", "logs", "sh-1") == (0, "x" * 100_000 + "\n", "oops\n")
    assert meseta("task", "logs", "--stderr", "sh-1") == (0, "", "oops\n")


def test_task_logs_of_an_ended_task_are_still_there(cluster: Cluster, meseta: Run) -> None:
    cluster.files = {"/frameworks/fw-1/executors/sh-0/runs/latest/stdout": b"last words\n"}
    assert meseta("task", "logs", "-f", "sh-0") == (0, "last words\n", "")


def test_task_logs_follow_until_the_task_ends(cluster: Cluster, meseta: Run) -> None:
    cluster.files = {f"{LATEST}/stdout": b"one\n"}
    answer, looks = cluster.answer, []

    def growing(call: dict[str, Any]) -> dict[str, Any] | None:
        if call["type"] == "GET_TASKS":
            looks.append(call)
            if len(looks) == 2:
                cluster.files[f"{LATEST}/stdout"] += b"two\n"
                cluster.tasks, cluster.completed_tasks = [], [task("sh-1", "fw-1", "S0", "TASK_FINISHED")]
        return answer(call)

    cluster.answer = growing  # type: ignore[method-assign]
    status, out, _ = meseta("task", "logs", "-f", "--json", "sh-1")
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"stream": "stdout", "data": "one\n"},
        {"stream": "stdout", "data": "two\n"},
    ]


def test_task_logs_of_a_group_come_from_the_tasks_own_sandbox(cluster: Cluster, meseta: Run) -> None:
    cluster.tasks = [task("t", "fw-1", "S0", executor_id={"value": "pod"})]
    cluster.files = {"/frameworks/fw-1/executors/pod/runs/latest/tasks/t/stdout": b"mine\n"}
    assert meseta("task", "logs", "t")[1] == "mine\n"


def test_task_logs_without_a_sandbox_say_what_to_think(cluster: Cluster, meseta: Run) -> None:
    status, _, err = meseta("task", "logs", "sh-1")
    assert status == 1
    assert "has no sandbox on its agent; it has not started yet" in err


def test_task_logs_of_a_lost_agent_say_so(cluster: Cluster, meseta: Run) -> None:
    cluster.agents = []
    assert "the agent of task sh-1 is not registered" in meseta("task", "logs", "sh-1")[2]


# ---- Roles, status --------------------------------------------------------------------------------------


def quotas(cluster: Cluster) -> None:
    cluster.roles = [
        role("eng", weight=2.0, limit={"cpus": 32.0}, allocated={"cpus": 4.5, "mem": 16384.0}, reserved={"disk": 10.0}),
        role("eng/batch", "fw-1", "fw-2", guarantee={"mem": 512.0, "cpus": 8.0}, allocated={"cpus": 4.5}, suppressed=["fw-2"]),
        role("web", "fw-1"),
    ]


def test_role_show_says_whose_tasks_end_for_guarantees(cluster: Cluster, meseta: Run) -> None:
    quotas(cluster)
    one = {"guarantee": "web", "framework": "batch", "role": "eng/batch", "tasks": ["t1", "t2"], "due": 4e9, "ending": False}
    other = {**one, "guarantee": "x", "role": "y", "tasks": ["t3"]}
    cluster.explained["preemptions"] = [{**one, "answer": "DECLINE"}, {**one, "tasks": ["t4"], "ending": True, "answer": "UNKNOWN"}, other]
    out = meseta("role", "show", "eng")[1]
    assert re.search(r"^t1 +batch +eng/batch +web +in \d+s +decline$", out, re.MULTILINE)
    assert re.search(r"^t4 +batch +eng/batch +web +now$", out, re.MULTILINE)
    assert "t3" not in out
    assert "guaranteed, which" not in out
    cluster.explained["unmet"] = [{"guarantee": "eng", "framework": "ci", "role": "eng"}]
    assert "Role eng has less than it is guaranteed, which framework ci wants; no more" in meseta("role", "show", "eng")[1]


def test_role_show_is_a_tree(cluster: Cluster, meseta: Run) -> None:
    quotas(cluster)
    status, out, _ = meseta("role", "show", "eng")
    assert status == 0
    about, tree, frameworks = out.split("\n\n")
    assert [line.split(":")[0] for line in about.splitlines()] == ["role", "weight", "share", "limit", "consumed", "allocated", "reserved"]
    assert columns(tree)[1] == ["eng", "2", "25%", "cpus 32", "cpus 4.5, mem 16G", "disk 10M", "0"]
    assert columns(tree)[2] == ["", "batch", "1", "25%", "cpus 8, mem 512M", "cpus 4.5", "2 (1 suppressed)"]
    assert columns(frameworks)[1:] == [["fw-1", "chronos", "eng/batch", "wanted"], ["fw-2", "run-sh", "eng/batch", "suppressed"]]
    told = json.loads(meseta("role", "show", "eng", "--json")[1])
    assert (told["name"], [one["name"] for one in told["roles"]]) == ("eng", ["eng/batch"])


def test_a_role_that_is_not_there_is_told_with_what_is_meant(cluster: Cluster, meseta: Run) -> None:
    quotas(cluster)
    assert meseta("role", "show", "batch")[::2] == (1, "Error: no role 'batch' is in use; is it eng/batch?\n")
    assert "`meseta role list` shows what there is" in meseta("role", "show", "x")[2]
    assert "role 'web' has no quota" in meseta("quota", "rm", "web")[2]


def test_role_weight(cluster: Cluster, meseta: Run) -> None:
    assert meseta("role", "weight", "analytics", "2") == (0, "Role analytics has weight 2.\n", "")
    assert cluster.calls == [{"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "analytics", "weight": 2.0}]}}]
    assert meseta("role", "weight", "analytics", "much")[0] == 2
    cluster.refuse = (400, "weight_infos[0].weight: 0.0 is not allowed; a number above 0 is")
    assert meseta("role", "weight", "analytics", "0")[::2] == (1, f"Error: {cluster.refuse[1]}\n")


def test_quota_list(cluster: Cluster, meseta: Run) -> None:
    quotas(cluster)
    assert columns(meseta("quota", "list")[1])[1:] == [
        ["eng", "cpus 32", "cpus 4.5"],
        ["eng/batch", "cpus 8, mem 512M", "cpus 4.5, mem 0M"],
    ]
    assert [one["role"] for one in json.loads(meseta("quota", "list", "--json")[1])] == ["eng", "eng/batch"]


def test_quota_set(cluster: Cluster, meseta: Run) -> None:
    status, out, _ = meseta("quota", "set", "eng/batch", "--guarantee", "cpus=8,mem=16g", "--limit", "cpus=32")
    assert (status, out) == (0, "Role eng/batch: guarantee cpus 8, mem 16G, limit cpus 32.\n")
    config = {
        "role": "eng/batch",
        "guarantees": {"cpus": {"value": 8.0}, "mem": {"value": 16384.0}},
        "limits": {"cpus": {"value": 32.0}},
    }
    assert cluster.calls[-1]["update_quota"] == {"force": False, "quota_configs": [config]}
    status, out, _ = meseta("quota", "set", "eng", "--limit", "cpus=0.5", "--force", "--dry-run")
    assert out == "Role eng: limit cpus 0.5; nothing was set.\n"
    assert cluster.calls[-1]["update_quota"]["force"]
    assert cluster.calls[-1]["update_quota"]["dry_run"]
    assert json.loads(meseta("quota", "set", "eng", "--limit", "cpus=2", "--json")[1])["limit"] == {"cpus": 2.0}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "give --guarantee, --limit or both"),
        (["--limit", "cpus"], "--limit: 'cpus' is no amount"),
        (["--limit", "cpus=-1"], "--limit: 'cpus=-1' is no amount"),
        (["--guarantee", "cpus=nan"], "is no amount"),
        (["--guarantee", "cpus=1.2345"], "--guarantee: 'cpus=1.2345' is too precise; thousandths are the least"),
        (["--guarantee", "cpus=1g"], "cpus has no unit"),
        (["--guarantee", "cpus=1,cpus=2"], "cpus is given twice"),
    ],
)
def test_quota_set_names_what_is_wrong(cluster: Cluster, meseta: Run, options: list[str], text: str) -> None:
    status, _, err = meseta("quota", "set", "eng", *options)
    assert status == 2
    assert text in err
    assert cluster.calls == []


def test_quota_rm(cluster: Cluster, meseta: Run) -> None:
    quotas(cluster)
    assert meseta("quota", "rm", "eng") == (0, "Role eng has no quota any more.\n", "")
    assert cluster.calls == [{"type": "REMOVE_QUOTA", "remove_quota": {"role": "eng"}}]


def test_role_list(cluster: Cluster, meseta: Run) -> None:
    assert columns(meseta("role", "list")[1])[1] == ["web", "2", "1", "1.5", "64M", "0"]
    assert json.loads(meseta("role", "list", "--json")[1]) == cluster.roles


def test_status_adds_up(cluster: Cluster, meseta: Run) -> None:
    _, out, _ = meseta("status")
    assert re.search(r"^agents: +2 active$", out, re.MULTILINE)
    assert re.search(r"^cpus: +1 of 8 allocated$", out, re.MULTILINE)
    summary = json.loads(meseta("status", "--json")[1])
    assert summary["frameworks"] == {"active": 1, "disconnected": 1}
    assert summary["tasks"] == {"TASK_RUNNING": 2}
    assert summary["resources"]["mem"] == {"total": 40960.0, "allocated": 1024.0}
    assert summary["daemons"] == []


DAEMON = {"name": "master", "state": "waiting", "pid": None, "restarts": 3, "last_error": "exit status 1: oh"}


def last_up(home: Path, url: str, supervisor_pid: int | None) -> None:
    """Write what an `up` says of its master; its own process is this one, or none."""
    (home / "meseta").mkdir()
    process = {"pid": supervisor_pid, "started": supervisor.start_time(os.getpid()), "boot_id": supervisor.boot_id()}
    (home / "meseta/up.json").write_text(json.dumps({"supervisor": process, "daemons": [{**DAEMON, "url": url, "argv": ["x"]}]}))


def test_status_shows_the_daemons_of_the_last_up(cluster: Cluster, meseta: Run, tmp_path: Path) -> None:
    last_up(tmp_path, cluster.url, os.getpid())
    assert "exit status 1: oh" in meseta("status")[1]
    shown = json.loads(meseta("status", "--json")[1])
    assert (shown["supervised"], shown["daemons"]) == (True, [{**DAEMON, "url": cluster.url}])


def test_status_shows_the_daemons_also_when_the_master_is_gone(cluster: Cluster, meseta: Run, tmp_path: Path) -> None:
    last_up(tmp_path, "http://127.0.0.1:1", os.getpid())
    status, out, err = meseta("status", "--master", "127.0.0.1:1")
    assert status == 1
    assert "exit status 1: oh" in out
    assert err.startswith("Error: cannot reach the master at http://127.0.0.1:1: ")
    assert err.endswith("log/master.log\n")


def test_that_nobody_supervises_any_more_is_told(cluster: Cluster, meseta: Run, tmp_path: Path) -> None:
    last_up(tmp_path, cluster.url, None)
    way_back = f"`meseta up --work-dir {tmp_path}/meseta`"
    assert way_back in meseta("status")[1]
    shown = json.loads(meseta("status", "--json")[1])
    assert (shown["supervised"], shown["daemons"][0]["state"]) == (False, "stopped")
    (tmp_path / "meseta/up.json").write_text((tmp_path / "meseta/up.json").read_text().replace(cluster.url, "http://127.0.0.1:1"))
    assert way_back in meseta("node", "list", "--master", "127.0.0.1:1")[2]


# ---- Which master, and errors ---------------------------------------------------------------------------


def test_the_master_of_the_last_up_is_found(cluster: Cluster, meseta: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MESETA_MASTER")
    work_dir = tmp_path / "w"
    work_dir.mkdir()
    (tmp_path / "meseta").mkdir()
    (tmp_path / "meseta/last").write_text(f"{work_dir}\n")
    (work_dir / "endpoints.json").write_text(json.dumps({"master": cluster.url}))
    assert meseta("node", "list")[0] == 0


def test_without_any_master_the_way_on_is_told(cluster: Cluster, meseta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESETA_MASTER")
    status, _, err = meseta("node", "list")
    assert status == 1
    assert err == "Error: no master is known; start one with `meseta up`, or give --master or MESETA_MASTER\n"


def test_an_unreachable_master_is_named(cluster: Cluster, meseta: Run) -> None:
    status, out, err = meseta("task", "list", "--json", "--master", "127.0.0.1:1")
    assert (status, out) == (1, "")
    error = json.loads(err)
    assert error["error"].startswith("cannot reach the master at http://127.0.0.1:1: connection refused")
    assert error["field"] == "--master"
    assert "`meseta up`" in error["hint"]
    assert error["hint"] not in error["error"]


def test_the_next_master_is_asked_when_the_first_does_not_answer(cluster: Cluster, meseta: Run) -> None:
    assert meseta("node", "list", "--master", f"127.0.0.1:1,{cluster.url}")[0] == 0


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:port"])
def test_what_is_no_master_is_refused(cluster: Cluster, meseta: Run, url: str) -> None:
    status, _, err = meseta("node", "list", "--master", url)
    assert status == 1
    assert "is not the URL of a master; write http://HOST:PORT" in err


def test_a_credential_is_shown_to_the_master(cluster: Cluster, meseta: Run, tmp_path: Path) -> None:
    file = tmp_path / "credential"
    file.write_text('{"principal": "ops", "secret": "s3"}')
    assert meseta("node", "list", "--credential", str(file))[0] == 0
    assert cluster.authorization == "Basic b3BzOnMz"


@pytest.mark.parametrize(("answer", "words"), [((401, "no"), "--credential"), ((503, "No leader"), "try again"), ((501, "later"), "later")])
def test_refusals_are_explained(cluster: Cluster, meseta: Run, answer: tuple[int, str], words: str) -> None:
    cluster.refuse = answer
    status, _, err = meseta("node", "list")
    assert status == 1
    assert words in err


def test_an_ambiguous_name_is_refused(cluster: Cluster, meseta: Run) -> None:
    status, _, err = meseta("task", "show", "s")
    assert status == 1
    assert err.startswith("Error: 's' may be any of ")


def test_wrong_usage_is_exit_status_2(cluster: Cluster, meseta: Run) -> None:
    assert meseta("task", "logs")[0] == 2
    assert meseta("node", "list", "--nonsense")[0] == 2


def test_what_a_task_uses_is_asked_of_its_agent(cluster: Cluster, meseta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_stats, "INTERVAL_S", 0.0)
    used = {"timestamp": 10.0, "cpus_user_time_secs": 2.0, "cpus_limit": 0.5, "mem_total_bytes": 8 << 20, "mem_limit_bytes": 64 << 20}
    ids = {"framework_id": {"value": "fw-1"}, "executor_id": {"value": "sh-1"}, "container_id": {"value": "c"}}
    cluster.containers = [{**ids, "resource_statistics": used}]
    status, out, _ = meseta("task", "stats", "sh-1")
    assert status == 0
    assert "8 of 64 MiB" in out
    assert "0.00 of 0.5" in out
    assert json.loads(meseta("task", "stats", "sh-1", "--json")[1])["mem_total_bytes"] == 8 << 20
    cluster.containers = []
    status, _, err = meseta("task", "stats", "sh-1")
    assert status == 1
    assert "nothing is measured of task sh-1" in err
