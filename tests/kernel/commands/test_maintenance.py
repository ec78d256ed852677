"""`meseta node drain|undrain|gone` and `meseta maintenance`, against a made-up cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel import cli
from kernel.commands import maintenance as commands
from kernel.commands import node_drain
from tests.kernel.commands.cluster import Cluster, agent, running

Run = Callable[..., tuple[int, str, str]]
S = 10**9


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with running() as served:
        monkeypatch.setenv("MESETA_MASTER", served.url)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        yield served


@pytest.fixture
def meseta(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; returns exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(arguments)
        out, err = capfd.readouterr()
        return status, out, err

    return run


def sent(cluster: Cluster, kind: str) -> list[Any]:
    """The bodies of the calls of a type."""
    return [call[kind.lower()] for call in cluster.calls if call["type"] == kind]


def drains(state: str, **config: Any) -> dict[str, Any]:
    since = {"nanoseconds": 1_700_000_000 * S}
    return agent(
        "S0", "n1", drain_info={"state": state, "config": config}, deactivated=True, active=False, estimated_drain_start_time=since
    )


# ---- Draining -------------------------------------------------------------------------------------------


def test_drain_asks_the_master_and_says_what_is_left(cluster: Cluster, meseta: Run) -> None:
    cluster.agents[0] = drains("DRAINING")
    status, out, _ = meseta("node", "drain", "n1", "--grace", "1m30s")
    assert status == 0
    assert out == "n1:5051 (S0) is draining: 1 task left, which get at most 1m30s. `meseta node drain n1 --wait` waits for it.\n"
    assert sent(cluster, "DRAIN_AGENT") == [
        {"agent_id": {"value": "S0"}, "mark_gone": False, "max_grace_period": {"seconds": 90, "nanos": 0}},
    ]


def test_drain_without_a_grace_leaves_tasks_theirs(cluster: Cluster, meseta: Run) -> None:
    cluster.agents[0] = drains("DRAINED")
    assert meseta("node", "drain", "S0", "--mark-gone") == (0, "n1:5051 (S0) is drained.\n", "")
    assert sent(cluster, "DRAIN_AGENT") == [{"agent_id": {"value": "S0"}, "mark_gone": True}]


def test_ends_that_nobody_has_acknowledged_hold_a_drain_up(cluster: Cluster, meseta: Run) -> None:
    cluster.agents[0] = drains("DRAINING")
    cluster.tasks[0]["state"] = "TASK_KILLED"
    assert "is draining: all has ended, and is to be acknowledged" in meseta("node", "drain", "n1")[1]


def test_drain_in_json(cluster: Cluster, meseta: Run) -> None:
    cluster.agents[0] = drains("DRAINING")
    _, out, _ = meseta("node", "drain", "n1", "--json")
    assert json.loads(out) == {"agent_id": "S0", "state": "draining", "tasks": 1}


def test_drain_waits_until_nothing_is_left(cluster: Cluster, meseta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.agents[0] = drains("DRAINING")

    def sleep(_: float) -> None:
        cluster.agents[0] = drains("DRAINED")

    monkeypatch.setattr(node_drain.time, "sleep", sleep)
    assert meseta("node", "drain", "n1", "--wait") == (0, "n1:5051 (S0) is drained.\n", "")


def test_drain_with_mark_gone_waits_until_the_agent_is_no_more(cluster: Cluster, meseta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.agents[0] = drains("DRAINING", mark_gone=True)
    monkeypatch.setattr(node_drain.time, "sleep", lambda _: cluster.agents.clear())
    status, out, _ = meseta("node", "drain", "n1", "--wait", "--mark-gone")
    assert (status, out) == (0, "n1:5051 (S0) is not registered now. It is marked gone.\n")


def test_who_waits_for_an_agent_that_is_away_is_told(cluster: Cluster, meseta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.agents[0] = drains("DRAINING")
    monkeypatch.setattr(node_drain.time, "sleep", lambda _: cluster.agents.clear())
    status, _, err = meseta("node", "drain", "n1", "--wait")
    assert (status, "it goes on draining when it is back" in err) == (1, True)


def test_who_waits_while_another_reactivates_is_told(cluster: Cluster, meseta: Run) -> None:
    status, _, err = meseta("node", "drain", "n1", "--wait")
    assert (status, "somebody reactivated it" in err) == (1, True)


def test_an_unreachable_agent_is_named_by_its_id(cluster: Cluster, meseta: Run) -> None:
    status, out, _ = meseta("node", "drain", "m-S7")
    assert (status, out) == (0, "agent m-S7 is not registered now. It is drained when it is back.\n")
    status, _, err = meseta("node", "drain", "nowhere")
    assert (status, "there is no node 'nowhere'" in err) == (1, True)


@pytest.mark.parametrize("wrong", ["soon", "-5s", "5parsecs"])
def test_a_wrong_grace_is_wrong_usage(cluster: Cluster, meseta: Run, wrong: str) -> None:
    status, _, err = meseta("node", "drain", "n1", f"--grace={wrong}")
    assert status == 2
    assert "is not a duration: write 60s, 30m, 2h or 1h30m" in " ".join(err.split())
    assert cluster.calls == []


def test_undrain_offers_the_agent_again(cluster: Cluster, meseta: Run) -> None:
    assert meseta("node", "undrain", "n1") == (0, "n1:5051 (S0) is offered again.\n", "")
    assert sent(cluster, "REACTIVATE_AGENT") == [{"agent_id": {"value": "S0"}}]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ((400, "agent_id: agent 'S0' is still draining; it can"), 1, "is still draining; `meseta node drain n1 --wait` waits for it"),
        ((400, "agent_id: agent 'S0' is not deactivated"), 1, "is not deactivated"),
        ((409, "agent_id: agent 'S0' is not registered now; it is"), 0, "is not registered now; it is offered again when it is."),
    ],
)
def test_why_an_agent_is_not_offered_again(cluster: Cluster, meseta: Run, answer: tuple[int, str], status: int, words: str) -> None:
    cluster.refusals["REACTIVATE_AGENT"] = answer
    got, out, err = meseta("node", "undrain", "n1")
    assert (got, words in out + err) == (status, True)


def test_gone_is_for_good(cluster: Cluster, meseta: Run) -> None:
    assert meseta("node", "gone", "n1") == (0, "n1:5051 (S0) is gone for good.\n", "")
    assert sent(cluster, "MARK_AGENT_GONE") == [{"agent_id": {"value": "S0"}}]


def test_list_and_show_tell_of_drains_and_maintenance(cluster: Cluster, meseta: Run) -> None:
    cluster.agents[0] = drains("DRAINING", max_grace_period={"nanoseconds": 60 * S}, mark_gone=True)
    cluster.windows = [{"machine_ids": [{"hostname": "n2"}], "unavailability": {"start": {"nanoseconds": 1_800_000_000 * S}}}]
    _, out, _ = meseta("node", "list")
    assert [line.split("  ")[2].strip() for line in out.splitlines()[1:]] == ["draining", "active, maintenance"]
    _, out, _ = meseta("node", "show", "n1")
    assert "tasks get at most 1m, then marked gone" in out
    _, out, _ = meseta("node", "show", "n2")
    assert "maintenance:  2027-01-1" in out
    listed = json.loads(meseta("node", "list", "--json")[1])
    assert [one.get("unavailability") for one in listed] == [None, {"start": {"nanoseconds": 1_800_000_000 * S}}]


# ---- Maintenance ----------------------------------------------------------------------------------------


def test_set_plans_beside_what_is_planned(cluster: Cluster, meseta: Run) -> None:
    when = {"start": {"nanoseconds": 1}}
    cluster.windows = [{"machine_ids": [{"hostname": "n1", "ip": "10.0.0.1"}, {"hostname": "n9"}], "unavailability": when}]
    status, out, err = meseta("maintenance", "set", "n1", "10.0.0.5", "--start", "2026-12-01T02:00+00:00", "--duration", "2h")
    assert status == 0
    assert err == "No agent is on n1 (10.0.0.1) now.\nNo agent is on 10.0.0.5 now.\n"
    assert out.splitlines()[0].startswith("n1 (10.0.0.1) is planned for 2026-1")
    assert out.splitlines()[0].endswith(", 2h.")
    planned = {"start": {"nanoseconds": 1796090400 * S}, "duration": {"nanoseconds": 7200 * S}}
    assert cluster.windows == [
        {"machine_ids": [{"hostname": "n9"}], "unavailability": when},
        {"machine_ids": [{"hostname": "n1", "ip": "10.0.0.1"}, {"ip": "10.0.0.5"}], "unavailability": planned},
    ]


def test_a_wrong_start_is_wrong_usage(cluster: Cluster, meseta: Run) -> None:
    status, _, err = meseta("maintenance", "set", "n1", "--start", "tomorrow")
    assert (status, "is not a time: write 2026-12-01T02:00" in " ".join(err.split())) == (2, True)


def test_clear_takes_machines_out(cluster: Cluster, meseta: Run) -> None:
    when = {"start": {"nanoseconds": 1}}
    cluster.windows = [{"machine_ids": [{"hostname": "n1"}, {"hostname": "n2"}], "unavailability": when}]
    assert meseta("maintenance", "clear", "N1") == (0, "n1 is not planned any more.\n", "")
    assert cluster.windows == [{"machine_ids": [{"hostname": "n2"}], "unavailability": when}]
    assert meseta("maintenance", "clear", "--all")[0] == 0
    assert cluster.windows == []
    assert meseta("maintenance", "clear")[0] == 2


def test_clear_all_leaves_what_is_down(cluster: Cluster, meseta: Run) -> None:
    cluster.windows = [{"machine_ids": [{"hostname": "n1"}, {"hostname": "n2"}], "unavailability": {"start": {"nanoseconds": 1}}}]
    cluster.maintained = {"down_machines": [{"hostname": "n2"}]}
    meseta("maintenance", "clear", "--all")
    assert cluster.windows[0]["machine_ids"] == [{"hostname": "n2"}]


@pytest.mark.parametrize(("verb", "call"), [("down", "START_MAINTENANCE"), ("up", "STOP_MAINTENANCE")])
def test_down_and_up_name_machines_as_the_schedule_does(cluster: Cluster, meseta: Run, verb: str, call: str) -> None:
    machine = {"hostname": "n1", "ip": "10.0.0.1"}
    cluster.windows = [{"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 1}}}]
    status, out, _ = meseta("maintenance", verb, "10.0.0.1")
    assert (status, out.startswith(f"n1 (10.0.0.1) is {verb}")) == (0, True)
    assert sent(cluster, call) == [{"machines": [machine]}]
    status, _, err = meseta("maintenance", verb, "n2")
    assert (status, "no maintenance of n2 is planned; `meseta maintenance list` shows what is" in err) == (1, True)


def test_list_shows_what_frameworks_say(cluster: Cluster, meseta: Run) -> None:
    start = {"start": {"nanoseconds": 1796090400 * S}}
    cluster.windows = [
        {"machine_ids": [{"hostname": "n1"}], "unavailability": {**start, "duration": {"nanoseconds": 5400 * S}}},
        {"machine_ids": [{"hostname": "n2"}], "unavailability": start},
    ]
    answers = [{"status": status, "framework_id": {"value": "f"}} for status in ("ACCEPT", "ACCEPT", "DECLINE", "UNKNOWN")]
    cluster.maintained = {
        "draining_machines": [{"id": {"hostname": "n1"}, "statuses": answers}],
        "down_machines": [{"hostname": "n2"}],
    }
    _, out, _ = meseta("maintenance", "list")
    first, second = out.splitlines()[1:]
    assert (first.split()[0], "planned" in first, "1h30m" in first) == ("n1", True, True)
    assert first.endswith("2 will leave, 1 object, 1 asked")
    assert (second.split()[:2], second.endswith("-")) == (["n2", "down"], True)
    listed = json.loads(meseta("maintenance", "list", "--json")[1])
    assert [(one["machine"], one["state"], len(one["statuses"])) for one in listed] == [
        ({"hostname": "n1"}, "draining", 4),
        ({"hostname": "n2"}, "down", 0),
    ]


def test_nothing_planned_is_said(cluster: Cluster, meseta: Run) -> None:
    assert meseta("maintenance", "list") == (0, "", "No maintenance is planned.\n")


def test_an_agent_is_on_a_machine_whose_every_name_it_has() -> None:
    when = {"start": {"nanoseconds": 1}}
    machines = [({"hostname": "n1", "ip": "10.0.0.1"}, when), ({"ip": "10.0.0.2"}, when)]
    assert commands.matching(machines, "N1", "10.0.0.1") is when
    assert commands.matching(machines, "n1", "10.0.0.9") is None
    assert commands.matching(machines, "n7", "10.0.0.2") is when
