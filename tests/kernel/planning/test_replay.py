"""Workloads replayed on the allocator: everybody gets what is due, and time is reckoned right."""

from __future__ import annotations

import pytest

from kernel.master.allocator import Quota
from kernel.planning.replay import Outcome, Policy, Replay
from kernel.planning.report import apart, completion_s, figures
from kernel.planning.trace import parse_cluster, read_trace

HEADER = "arrival,role,framework,shape,duration,tasks,kind,job,after,gang,spread"


def replay(cluster: str, *lines: str, policy: Policy | None = None) -> Outcome:
    jobs = read_trace([HEADER, *(line + "," * (10 - line.count(",")) for line in lines)])
    return Replay(parse_cluster([cluster]), jobs, policy or Policy()).run()


def test_tasks_start_at_once_where_there_is_room() -> None:
    outcome = replay("2*cpus=2", "3,a,f,cpus=1,10,4")
    assert outcome.courses[0].first_s == 3
    assert outcome.courses[0].end_s == 13
    assert outcome.waits == {"a": [(0, 2), (0, 2)]}


def test_tasks_wait_for_those_before_them() -> None:
    outcome = replay("cpus=2", "0,a,f,cpus=1,10,4")
    assert outcome.courses[0].end_s == 20
    assert outcome.courses[0].waited_s == 20
    assert figures(outcome)["utilisation"]["cpus"] == 1


def test_small_jobs_do_not_wait_behind_the_large_ones_of_their_framework() -> None:
    outcome = replay("2*cpus=2", "0,a,f,cpus=1,10,40,large", "5,a,f,cpus=1,10,1,small")
    assert outcome.courses[1].end_s == 20


def test_two_roles_share_by_their_weights() -> None:
    lines = ["0,a,f,cpus=1,10,300", "0,b,g,cpus=1,10,300"]
    even = replay("10*cpus=3", *lines)
    assert even.courses[0].end_s == even.courses[1].end_s
    weighted = replay("10*cpus=3", *lines, policy=Policy(weights={"a": 2.0}))
    assert weighted.courses[0].end_s == 150
    assert weighted.courses[1].end_s == 200


def test_a_job_that_follows_another_arrives_when_that_has_ended() -> None:
    outcome = replay("cpus=1", "0,a,f,cpus=1,10,1,,first,", "2,a,f,cpus=1,10,1,,,first")
    assert outcome.courses[1].arrived_s == 12
    assert outcome.courses[1].end_s == 22


def test_the_tasks_of_a_gang_start_together() -> None:
    lines = ["0,a,f,cpus=1,10,2", "0,a,f,cpus=1,12,1", "0,a,f,cpus=1,15,1", "1,b,g,cpus=1,10,3,,,,{}"]
    apart, together = (replay("2*cpus=2", *(line.format(gang) for line in lines)) for gang in ("no", "yes"))
    assert {waited_s for waited_s, _ in apart.waits["b"]} == {9, 11}
    assert {waited_s for waited_s, _ in together.waits["b"]} == {11}


def test_a_gang_that_fits_nowhere_whole_is_stuck() -> None:
    outcome = replay("2*cpus=2", "0,a,f,cpus=1,10,5,,,,yes")
    assert outcome.courses[0].stuck == "fewer tasks fit than are to start together"


def test_tasks_take_longer_or_shorter_within_their_spread_and_the_same_each_time() -> None:
    def ends() -> tuple[float, float]:
        outcome = replay("1000*cpus=1", "0,a,f,cpus=1,10,1000,,,,,0.5")
        (course,) = outcome.courses
        assert course.end_s is not None
        return course.end_s, outcome.used["cpus"].mean(course.end_s) * course.end_s

    end_s, mean_s = ends()
    assert 14.9 < end_s <= 15
    assert mean_s == pytest.approx(10, rel=0.01)
    assert ends() == (end_s, mean_s)


def test_what_follows_a_job_of_its_kind_at_once_is_one_job_with_it() -> None:
    lines = ["5,a,f,cpus=1,10,2,x,maps,", "0,a,f,cpus=1,20,1,x,reduces,maps", "3,a,f,cpus=1,10,1,x,next,reduces"]
    found = figures(replay("2*cpus=1", *lines))
    assert found["kinds"]["x"] == {"jobs": 2, "tasks": 4, "completion_s": 20, "wait_mean_s": 0}


def test_quotas_are_kept_from_the_start() -> None:
    lines = ["0,a,f,cpus=1,10,8", "1,b,g,cpus=1,10,2"]
    kept = replay("4*cpus=1", *lines, policy=Policy(quotas={"b": Quota({"cpus": 2000})}))
    assert kept.courses[1].waited_s == 0
    limited = replay("4*cpus=1", *lines, policy=Policy(quotas={"a": Quota(limits={"cpus": 1000})}))
    assert limited.courses[0].end_s == 80


def test_what_fits_nowhere_is_said_to_be_stuck_and_the_rest_goes_on() -> None:
    outcome = replay("2*cpus=2", "0,a,f,cpus=3,10,1", "0,a,g,cpus=1,10,1")
    assert outcome.courses[0].stuck == "no agent is large enough"
    assert outcome.courses[1].end_s == 10
    assert figures(outcome)["stuck"][0]["line"] == 2


def test_the_wait_for_what_never_starts_is_no_time_in_which_the_cluster_idles() -> None:
    outcome = replay("2*cpus=2", "0,a,f,cpus=3,10,1", "0,a,g,cpus=1,10,4")
    assert figures(outcome)["end_s"] == 10
    assert figures(outcome)["utilisation"]["cpus"] == 1


def test_large_tasks_are_not_starved_by_small_ones() -> None:
    small = [f"{second},a,f,cpus=1,9,2" for second in range(600)]
    outcome = replay("2*cpus=4", *small, "30,b,g,cpus=4,10,1")
    assert outcome.courses[-1].end_s is not None
    assert outcome.courses[-1].end_s < 200


def test_kinds_and_roles_are_summed_up() -> None:
    found = figures(replay("cpus=2", "0,a,f,cpus=1,10,2,x", "0,b,g,cpus=1,10,2,y"))
    assert found["kinds"]["x"] == {"jobs": 1, "tasks": 2, "completion_s": 20, "wait_mean_s": 5}
    assert found["roles"]["b"] == {
        "mean_share": 0.5, "tasks": 2, "wait_mean_s": 5, "wait_p50_s": 0, "wait_p95_s": 10, "wait_max_s": 10,
    }  # fmt: skip


def test_alone_each_framework_has_its_part_of_the_agents() -> None:
    jobs = read_trace([HEADER, "0,a,f,cpus=1,10,8,x,,,,", "0,b,g,cpus=1,10,1,y,,,,"])
    agents = parse_cluster(["4*cpus=1"])
    assert apart(agents, jobs) == {"x": 40, "y": 10}
    shared = Replay(agents, jobs, Policy()).run()
    assert completion_s(shared.courses[:1]) == pytest.approx(30)
