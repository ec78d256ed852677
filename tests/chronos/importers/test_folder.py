"""Job files: Chronos' own, in YAML, JSON and TOML."""

from __future__ import annotations

import json

import pytest

from chronos.importers.folder import read_folder
from chronos.job import write_job
from tests.chronos.test_job import EXAMPLES

SYNC = {
    "scheduled/report.yaml": """\
name: report
command: |
  set -e
  ./report.sh
owner: ops@example.org
cpus: 0.5
disk: 100
mem: 64
runAsUser: nobody
schedule: R/2026-01-05T02:30:00.000Z/P1D
meseta:
  start: 2026-01-01
  notify:
    - when: [failure]
      mail: [ops@example.org]
""",
    "dependent/publish.yml": "name: publish\ncommand: ./publish.sh\nparents: [report]\n",
    "README.md": "not a job",
    ".hidden.yaml": "not: a job",
}


def test_the_folders_of_chronos_sync() -> None:
    read = read_folder(SYNC)
    assert read.notes == ()
    publish, report = read.jobs
    assert publish.parent_names == ("report",)
    assert (report.command, report.more.start) == ("set -e\n./report.sh\n", "2026-01-01")


def test_every_example_is_read_from_each_format_as_over_http() -> None:
    answer = "[" + ",".join(json.dumps(fields) for fields in EXAMPLES) + "]"
    jobs = read_folder({"jobs.json": answer}).jobs
    assert [job.name for job in jobs] == [fields["name"] for fields in EXAMPLES]
    stored = "[" + ",".join(write_job(job).decode() for job in jobs) + "]"
    assert read_folder({"again.json": stored}).jobs == jobs


def test_toml_and_several_documents() -> None:
    toml = '[[jobs]]\nname = "a"\nschedule = "@daily"\n[jobs.meseta]\nstart = 2026-01-01\n[[jobs]]\nname = "b"\nparents = ["a"]\n'
    assert [job.name for job in read_folder({"x.toml": toml}).jobs] == ["a", "b"]
    read = read_folder({"x.yaml": "name: a\nschedule: '@daily'\n---\nname: b\nparents: [a]\n---\n"})
    assert [(found.job.name, found.line) for found in read.found] == [("a", 1), ("b", 4)]


def test_words_of_yaml_stay_words() -> None:
    (job,) = read_folder({"x.yaml": "name: on\ncommand: no\nshell: false\nschedule: '@daily'\nowner: yes\n"}).jobs
    assert (job.name, job.command, job.shell, job.owner) == ("on", "no", False, "yes")


def test_what_is_wrong_is_noted_with_its_line_and_stops_nothing_else() -> None:
    read = read_folder(
        {
            "a.yaml": "- {name: good, parents: [x]}\n- {name: bad, schedule: 61 * * * *}\n- {name: odd, comment: x, parents: [x]}\n- 5\n",
            "b.yaml": "name: [",
            "c.toml": "name =",
            "d.json": '{"name": "good", "schedule": "@hourly"}',
            "scheduled/e.yaml": "name: e\nparents: [good]\n",
        }
    )
    assert [job.name for job in read.jobs] == ["good", "odd"]
    said = {(note.source, note.line, note.lost): note.text for note in read.notes}
    assert "the minute '61' is not allowed" in said["a.yaml", 2, True]
    assert said["a.yaml", 3, False] == "comment: unknown field, ignored; did you mean command?"
    assert ("a.yaml", 4, True) in said
    assert "not YAML" in said["b.yaml", 0, True]
    assert ("c.toml", 0, True) in said
    assert said["d.json", 1, True] == "name: good is in a.yaml, line 1, too"
    assert "schedule: required" in said["scheduled/e.yaml", 1, True]


def test_yaml_makes_no_objects_and_does_not_swell() -> None:
    laughs = "a: &a [x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9))
    for text in ("!!python/object/apply:os.system ['true']", laughs, "&a [*a]", "[" * 10_000):
        read = read_folder({"x.yaml": text})
        assert read.jobs == ()
        assert all(note.lost for note in read.notes)
        assert read.notes


@pytest.mark.parametrize("schedule", ["*/5 * * * *", "@daily", "* * * * *"])
def test_a_schedule_without_quotes_is_told_to_need_them(schedule: str) -> None:
    (note,) = read_folder({"a.yaml": f"name: a\nschedule: {schedule}\n"}).notes
    assert ("line 2: not YAML" in note.text, "in quotes" in note.text) == (True, True)
    (other,) = read_folder({"a.yaml": "name: a\nschedule: '@daily'\n\tretries: 1\n"}).notes
    assert "quotes" not in other.text


def test_variables_as_an_object_are_told_to_be_a_list() -> None:
    (note,) = read_folder({"a.yaml": "name: a\ncommand: x\nenvironmentVariables: {A: b}\n"}, strict=True).notes
    assert "a list of" in note.text
