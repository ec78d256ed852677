"""Reading workloads and clusters: what is taken, and that what is refused is named."""

from __future__ import annotations

import pytest

from kernel.errors import CallError
from kernel.planning.amounts import parse_amounts
from kernel.planning.trace import parse_cluster, read_trace

HEADER = "arrival,role,framework,shape,duration,tasks"


def test_a_line_is_a_job() -> None:
    (job,) = read_trace([HEADER, '1.5,eng/batch,spark,"cpus=0.5,mem=2g",60,3'])
    assert (job.arrival_s, job.role, job.framework, job.duration_s, job.tasks, job.kind) == (1.5, "eng/batch", "spark", 60, 3, "spark")
    assert (job.shape.cpus, job.shape.mem) == (500, 2_048_000)


def test_a_job_follows_another_that_is_named_before_it() -> None:
    jobs = read_trace([HEADER + ",kind,job,after", "0,a,f,cpus=1,5,1,first,one,", "2,a,f,cpus=1,5,1,then,,one"])
    assert [(job.kind, job.after) for job in jobs] == [("first", None), ("then", 0)]


def test_the_tasks_of_a_job_may_have_to_start_together() -> None:
    jobs = read_trace([HEADER + ",gang", "0,a,f,cpus=1,5,3,yes", "0,a,f,cpus=1,5,3,no", "0,a,f,cpus=1,5,3,"])
    assert [job.gang for job in jobs] == [True, False, False]
    with pytest.raises(CallError, match="line 2: gang: 'maybe' is not allowed; yes or no"):
        read_trace([HEADER + ",gang", "0,a,f,cpus=1,5,3,maybe"])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("x,a,f,cpus=1,5,1", "line 2: arrival: 'x'"),
        ("-1,a,f,cpus=1,5,1", "line 2: arrival: '-1'"),
        ("nan,a,f,cpus=1,5,1", "line 2: arrival: 'nan'"),
        ("0,a b,f,cpus=1,5,1", "line 2: role"),
        ("0,a,,cpus=1,5,1", "line 2: framework"),
        ("0,a,f,cpus,5,1", "line 2: shape: 'cpus'"),
        ("0,a,f,cpus=0,5,1", "line 2: shape"),
        ("0,a,f,cpus=1,0,1", "line 2: duration: '0'"),
        ("0,a,f,cpus=1,5,1.5", "line 2: tasks: '1.5'"),
        ("0,a,f,cpus=1,5,0", "line 2: tasks: '0'"),
        ("0,a,f,cpus=1,5", "line 2: has another number of columns"),
        ("0,a,f,cpus=1,5,1,9", "line 2: has another number of columns"),
    ],
)
def test_a_wrong_line_is_refused_by_line_and_column(line: str, named: str) -> None:
    with pytest.raises(CallError, match="^" + named.replace("(", r"\(")):
        read_trace([HEADER, line])


@pytest.mark.parametrize("spread", ["-0.1", "1", "wide"])
def test_a_spread_is_a_part(spread: str) -> None:
    with pytest.raises(CallError, match=f"line 2: spread: '{spread}' is not allowed; a number from 0 to 0.9"):
        read_trace([HEADER + ",spread", f"0,a,f,cpus=1,5,1,{spread}"])


def test_a_job_cannot_follow_one_that_comes_later() -> None:
    with pytest.raises(CallError, match=r"line 2: after: no job before this line is called 'one'"):
        read_trace([HEADER + ",job,after", "0,a,f,cpus=1,5,1,,one", "0,a,f,cpus=1,5,1,one,"])


def test_columns_are_named_when_they_are_missing_or_unknown() -> None:
    with pytest.raises(CallError, match="has no column tasks"):
        read_trace(["arrival,role,framework,shape,duration"])
    with pytest.raises(CallError, match="unknown columns: colour"):
        read_trace([HEADER + ",colour"])


def test_amounts_have_units_where_they_are_sizes() -> None:
    assert parse_amounts("cpus=0.5, mem=1.5g; disk=512k", "x") == {"cpus": 500, "mem": 1_536_000, "disk": 500}


@pytest.mark.parametrize("text", ["cpus=1g", "cpus=-1", "cpus=1,cpus=2", "=1", "", "cpus=inf", "cpus=1e3", "mem=1x"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(CallError, match=r"^here"):
        parse_amounts(text, "here")


def test_a_cluster_is_counted_out() -> None:
    agents = parse_cluster(["2*cpus=4,mem=1g", "cpus=8"])
    assert [agent.cpus for agent in agents] == [4000, 4000, 8000]


@pytest.mark.parametrize("parts", [[], ["0*cpus=1"], ["100001*cpus=1"], ["60000*cpus=1", "60000*cpus=1"], ["2*"]])
def test_a_cluster_has_agents_but_not_too_many(parts: list[str]) -> None:
    with pytest.raises(CallError, match="cluster"):
        parse_cluster(parts)
