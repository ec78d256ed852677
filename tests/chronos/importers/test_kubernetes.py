"""CronJobs of Kubernetes become jobs in containers."""

from __future__ import annotations

from chronos.importers import Imported
from chronos.importers.kubernetes import read_cronjobs
from chronos.job import Job, KeyValue, Volume

BACKUP = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: backup
  namespace: data
  labels: {team: dba}
spec:
  schedule: "30 2 * * *"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 2
      activeDeadlineSeconds: 3600
      template:
        spec:
          restartPolicy: OnFailure
          serviceAccountName: backup
          nodeSelector: {disk: ssd}
          volumes:
            - name: data
              hostPath: {path: /srv/data}
            - name: scratch
              emptyDir: {}
          containers:
            - name: main
              image: postgres:16
              imagePullPolicy: Always
              command: ["/bin/sh", "-c"]
              args: ["pg_dump $DB > /data/dump"]
              workingDir: /data
              env:
                - {name: DB, value: prod}
                - name: PASSWORD
                  valueFrom: {secretKeyRef: {name: s, key: k}}
              volumeMounts:
                - {name: data, mountPath: /data, readOnly: true}
                - {name: scratch, mountPath: /tmp/x}
              resources:
                requests: {cpu: 250m, memory: 512Mi, ephemeral-storage: 1Gi}
                limits: {cpu: "2", memory: 1Gi, example.com/widget: 1}
"""


def only(read: Imported) -> Job:
    (job,) = read.jobs
    return job


def test_a_cronjob() -> None:
    job = only(read_cronjobs(BACKUP, "backup.yaml"))
    assert (job.name, job.schedule, job.schedule_time_zone, job.disabled) == ("backup", "30 2 * * *", "Europe/Berlin", False)
    assert (job.more.overlap, job.concurrent, job.more.catch_up, job.more.catch_up_deadline) == ("skip", False, "latest", 600)
    assert (job.retries, job.more.timeout, job.more.labels) == (2, 3600, {"team": "dba", "namespace": "data"})
    assert (job.shell, job.command, job.arguments) == (False, "", ("-c", "pg_dump $DB > /data/dump"))
    assert (job.cpus, job.mem, job.disk) == (0.25, 512, 1024)
    assert job.constraints == (("disk", "EQUALS", "ssd"),)
    assert [(variable.name, variable.value) for variable in job.environment_variables] == [("DB", "prod")]
    assert job.container
    assert (job.container.image, job.container.force_pull_image) == ("postgres:16", True)
    assert job.container.parameters == (KeyValue("entrypoint", "/bin/sh"), KeyValue("workdir", "/data"))
    assert job.container.volumes == (Volume("/data", "/srv/data", "RO"),)


def test_what_is_not_carried_over_is_noted_with_its_line() -> None:
    lost = {note.line: note.text for note in read_cronjobs(BACKUP, "backup.yaml").notes if note.lost}
    lines = BACKUP.splitlines()
    said = {
        next(number for number, line in enumerate(lines, 1) if words in line): text
        for words, text in (
            ("serviceAccountName", "serviceAccountName is not carried over"),
            ("- name: PASSWORD", "env PASSWORD: its value comes from the cluster"),
            ("{name: scratch", "volume scratch: only hostPath is carried over"),
            ("resources:", "resources: example.com/widget is not carried over"),
        )
    }
    assert lost.keys() == said.keys()
    assert all(text in lost[line] for line, text in said.items())


def manifest(spec: str, container: str = "image: i") -> str:
    pod = f"{{containers: [{{{container}}}]}}"
    return f"kind: CronJob\nmetadata: {{name: n}}\nspec: {{{spec}, jobTemplate: {{spec: {{template: {{spec: {pod}}}}}}}}}\n"


def test_defaults_are_those_of_kubernetes() -> None:
    job = only(read_cronjobs(manifest('schedule: "@hourly"'), "x"))
    assert (job.more.overlap, job.concurrent, job.retries, job.more.catch_up) == ("allow", True, 6, "latest")
    assert (job.command, job.arguments, job.shell) == ("", (), False)


def test_suspended_replaced_and_a_zone_in_the_schedule() -> None:
    job = only(read_cronjobs(manifest('schedule: "CRON_TZ=Asia/Tokyo 0 3 * * *", suspend: true, concurrencyPolicy: Replace'), "x"))
    assert (job.schedule, job.schedule_time_zone, job.disabled, job.more.overlap) == ("0 3 * * *", "Asia/Tokyo", True, "replace")


def test_arguments_go_to_the_entry_point_of_the_image() -> None:
    job = only(read_cronjobs(manifest('schedule: "@daily"', "image: i, args: [a, 5]"), "x"))
    assert (job.command, job.arguments) == ("", ("a", "5"))


CHAINED = """\
kind: CronJob
metadata: {name: n}
spec:
  schedule: "@daily"
  jobTemplate: {spec: {template: {spec: {containers: [{
    image: i,
    env: [
      {name: EARLY, value: "$(HOST) is not there yet"},
      {name: HOST, value: db},
      {name: URL, value: "pg://$(HOST)/$(NONE)"},
      {name: HOST, value: "$(HOST).example"},
      {name: PASSWORD, valueFrom: {secretKeyRef: {name: s, key: k}}},
      {name: SIGNED, value: "$(URL)?$(PASSWORD)"}
    ],
    command: ["/bin/$(HOST)", "$(URL)"],
    args: [
      "$$(HOST) $$HOME $(HOST)",
      "$(SIGNED) of $(HOST)",
      "$(NONE)",
      "$(KUBERNETES_SERVICE_HOST)",
    ]}]}}}}
"""


def test_variables_are_put_in_where_the_manifest_says_what_they_are() -> None:
    job = only(read_cronjobs(CHAINED, "x"))
    assert {variable.name: variable.value for variable in job.environment_variables} == {
        "EARLY": "$(HOST) is not there yet",
        "HOST": "db.example",
        "URL": "pg://db/$(NONE)",
        "SIGNED": "pg://db/$(NONE)?$(PASSWORD)",
    }
    assert job.container
    assert job.container.parameters == (KeyValue("entrypoint", "/bin/db.example"),)
    words = ("pg://db/$(NONE)", "$(HOST) $HOME db.example", "$(SIGNED) of db.example", "$(NONE)", "$(KUBERNETES_SERVICE_HOST)")
    assert (job.shell, job.command, job.arguments) == (False, "", words)


def test_what_only_the_cluster_knows_is_kept_and_noted_with_its_line() -> None:
    lost = {note.line: note.text for note in read_cronjobs(CHAINED, "x").notes if note.lost}
    lines = CHAINED.splitlines()
    assert [(lines[line - 1].split()[0], text.partition(" stays")[0]) for line, text in lost.items()] == [
        ("{name:", "env PASSWORD: its value comes from the cluster (valueFrom); give it to the job"),
        ("{name:", "env SIGNED: $(PASSWORD)"),
        ('"$(SIGNED)', "'$(SIGNED) of $(HOST)': $(SIGNED)"),
        ('"$(KUBERNETES_SERVICE_HOST)",', "'$(KUBERNETES_SERVICE_HOST)': $(KUBERNETES_SERVICE_HOST)"),
    ]
    others = read_cronjobs(manifest('schedule: "@daily"', "image: i, envFrom: [{secretRef: {name: s}}], args: [$(NONE), $$(NONE)]"), "x")
    assert only(others).arguments == ("$(NONE)", "$(NONE)")
    assert [note.text.partition(" stays")[0] for note in others.notes if note.lost and "envFrom is" not in note.text] == [
        "'$(NONE)': $(NONE)"
    ]


def test_variables_that_multiply_are_noted() -> None:
    chain = ", ".join(f"{{name: A{number + 1}, value: {f'$(A{number})' * 10}}}" for number in range(30))
    job = only(
        read := read_cronjobs(manifest('schedule: "@daily"', f"image: i, env: [{{name: A0, value: xx}}, {chain}], args: [$(A9)]"), "x")
    )
    assert job.arguments == ("$(A9)",)
    assert "too long" in next(note.text for note in read.notes if note.lost)
    assert sum(len(variable.value) for variable in job.environment_variables) < 200_000


def test_a_part_of_a_volume_is_not_all_of_it() -> None:
    for field in ("subPath", "subPathExpr"):
        mount = f"image: i, volumeMounts: [{{name: v, mountPath: /v, {field}: $(A)}}]}}], volumes: [{{name: v, hostPath: {{path: /srv}}"
        read = read_cronjobs(manifest('schedule: "@daily"', mount), "x")
        assert only(read).container.volumes == ()  # type: ignore[union-attr]
        assert any("only hostPath" in note.text for note in read.notes)


def test_several_containers_are_no_job() -> None:
    read = read_cronjobs(manifest('schedule: "@daily"', "image: i}, {image: j"), "x")
    assert read.jobs == ()
    assert "it has 2 containers" in read.notes[0].text


def test_lists_documents_and_other_kinds() -> None:
    good, bad = manifest('schedule: "@daily"'), manifest('schedule: "61 * * * *"')
    text = f"kind: Service\n---\n{good}---\n{bad}"
    read = read_cronjobs(text, "x")
    assert [job.name for job in read.jobs] == ["n"]
    assert [note.line for note in read.notes if note.lost] == [1, 9]
    items = '{"kind": "List", "items": [{"kind": "CronJob"}, 5]}'
    assert len([note for note in read_cronjobs(items, "x").notes if note.lost]) == 2


def test_nonsense_is_noted() -> None:
    for text in (
        "[",
        "5",
        "kind: CronJob",
        "kind: CronJob\nspec: []",
        manifest("schedule: [1]"),
        manifest('schedule: "@daily", x: 1', "image: {}"),
    ):
        read = read_cronjobs(text, "x")
        assert read.jobs == ()
        assert any(note.lost for note in read.notes)
    for container in (
        "image: i, env: 5, volumeMounts: [5], resources: [], command: {}",
        "image: i, env: [5, {}], resources: {limits: {cpu: x}}",
    ):
        read_cronjobs(manifest('schedule: "@daily"', container), "x")
