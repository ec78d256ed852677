"""CronJob manifests of Kubernetes (batch/v1): one container that runs to its end becomes a job; what a pod has beyond that is noted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from chronos.importers import Collector, Imported
from chronos.importers.expansion import Variables
from chronos.importers.yaml import Document, read_yaml
from kernel.errors import CallError

_OVERLAP = {"Allow": "allow", "Forbid": "skip", "Replace": "replace"}
_BACKOFF = {"delay": "10s", "factor": 2.0, "delayMax": "6m"}  # As Kubernetes does it.
_BACKOFF_LIMIT = 6
_UNITS = {"": 1.0, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)")
_OF_SUBPATHS = frozenset(["subPath", "subPathExpr"])
_ZONE_PREFIX = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)")

# What is looked at; all else is noted.
# fmt: off
_OF_CRONJOB = frozenset(
    [
        "schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds",
        "suspend", "jobTemplate", "successfulJobsHistoryLimit", "failedJobsHistoryLimit",
    ]
)
_OF_JOB = frozenset(
    [
        "backoffLimit", "activeDeadlineSeconds", "template", "ttlSecondsAfterFinished",
    ]
)
_OF_POD = frozenset(
    [
        "containers", "restartPolicy", "nodeSelector", "volumes",
        "terminationGracePeriodSeconds", "dnsPolicy", "schedulerName",
    ]
)
_OF_CONTAINER = frozenset(
    [
        "name", "image", "command", "args", "env", "resources",
        "workingDir", "imagePullPolicy", "volumeMounts", "terminationMessagePath", "terminationMessagePolicy",
    ]
)
# fmt: on


def read_cronjobs(text: str, source: str, taken: Iterable[str] = ()) -> Imported:
    """Read manifests, several documents and Lists of them, too. taken: names that jobs have already.

    Raises nothing: what cannot be read is a note.
    """
    collector = Collector(source, taken)
    try:
        documents = read_yaml(text)
    except CallError as error:
        collector.lost(0, str(error))
        return collector.imported()
    for document in documents:
        if isinstance(document.value, dict) and document.value.get("kind") in ("List", "CronJobList"):
            items = document.value.get("items")
            for index in range(len(items) if isinstance(items, list) else 0):
                _Reader(collector, document, ("items", index)).take()
        elif document.value is not None:
            _Reader(collector, document, ()).take()
    return collector.imported()


class _Reader:
    """One manifest, at a path of its document."""

    def __init__(self, collector: Collector, document: Document, path: tuple[str | int, ...]) -> None:
        self.collector = collector
        self.document = document
        self.path = path
        self.name = ""

    def part(self, *path: str | int) -> Any:
        """What lies at a path; an empty object where nothing does."""
        value = self.document.value
        for step in (*self.path, *path):
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                value = None
        return {} if value is None else value

    def table(self, *path: str | int) -> dict[str, Any]:
        value = self.part(*path)
        return value if isinstance(value, dict) else {}

    def items(self, *path: str | int) -> list[Any]:
        value = self.part(*path)
        return value if isinstance(value, list) else []

    def line(self, *path: str | int) -> int:
        return self.document.line_of(*self.path, *path)

    def lost(self, text: str, *path: str | int) -> None:
        self.collector.lost(self.line(*path), text, self.name)

    def rest(self, known: Iterable[str], *path: str | int) -> None:
        """Note each field of an object that nobody has looked at."""
        for field in self.table(*path):
            if field not in known:
                self.lost(f"{'.'.join(map(str, (*path, field)))} is not carried over: there is nothing like it here", *path, field)

    def take(self) -> None:
        kind = self.part("kind")
        if kind != "CronJob":
            self.collector.lost(self.line("kind"), f"kind {str(kind or '')[:100]!r} is no CronJob")
            return
        job_path = ("spec", "jobTemplate", "spec")
        pod_path = (*job_path, "template", "spec")
        named = str(self.part("metadata", "name") or "cronjob")
        containers = self.items(*pod_path, "containers")
        if len(containers) != 1 or self.items(*pod_path, "initContainers"):
            count = len(containers) + len(self.items(*pod_path, "initContainers"))
            self.lost(f"{named}: it has {count} containers: a job is one, and more cannot be carried over", *pod_path)
            return
        self.name = self.collector.name(named)
        more: dict[str, Any] = {}
        fields: dict[str, Any] = {"name": self.name, "description": f"CronJob {named} of {self.collector.source}", "meseta": more}
        self._when(fields, more)
        self._attempts(fields, more, job_path)
        self._pod(fields, pod_path)
        self._container(fields, more, (*pod_path, "containers", 0))
        for path, known in (
            (("spec",), _OF_CRONJOB),
            (job_path, _OF_JOB),
            (pod_path, _OF_POD),
            ((*pod_path, "containers", 0), _OF_CONTAINER),
        ):
            self.rest(known, *path)
        self.collector.add(fields, self.line("spec", "schedule"))

    def _when(self, fields: dict[str, Any], more: dict[str, Any]) -> None:
        schedule, zone = str(self.part("spec", "schedule") or ""), str(self.part("spec", "timeZone") or "")
        prefixed = _ZONE_PREFIX.fullmatch(schedule)
        if prefixed is not None:
            zone, schedule = prefixed[1], prefixed[2]
        fields |= {"schedule": schedule, "scheduleTimeZone": zone, "disabled": self.part("spec", "suspend") is True}
        policy = self.part("spec", "concurrencyPolicy") or "Allow"
        more["overlap"] = _OVERLAP.get(str(policy), "allow")
        fields["concurrent"] = more["overlap"] == "allow"
        if policy not in _OVERLAP:
            self.lost(f"concurrencyPolicy {policy!r} is unknown: Allow is taken", "spec", "concurrencyPolicy")
        deadline = self.part("spec", "startingDeadlineSeconds")
        if deadline != {}:
            more["catchUpDeadline"] = deadline
        labels = dict(self.table("metadata", "labels"))
        if namespace := self.part("metadata", "namespace"):
            labels["namespace"] = namespace
        if labels:
            more["labels"] = labels
        for limit in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            if self.part("spec", limit) != {}:
                self.collector.differs(
                    self.line("spec", limit), f"{limit}: how much history is kept is a setting of the scheduler", self.name
                )

    def _attempts(self, fields: dict[str, Any], more: dict[str, Any], path: tuple[str | int, ...]) -> None:
        limit = self.part(*path, "backoffLimit")
        fields["retries"] = _BACKOFF_LIMIT if limit == {} else limit
        more["retry"] = dict(_BACKOFF)
        deadline = self.part(*path, "activeDeadlineSeconds")
        if deadline != {}:
            more["timeout"] = deadline
            self.collector.differs(
                self.line(*path, "activeDeadlineSeconds"),
                "activeDeadlineSeconds: here it holds for each attempt, not for all together",
                self.name,
            )

    def _pod(self, fields: dict[str, Any], path: tuple[str | int, ...]) -> None:
        selector = self.table(*path, "nodeSelector")
        if selector:
            fields["constraints"] = [[str(key), "EQUALS", str(value)] for key, value in selector.items()]
            self.collector.differs(
                self.line(*path, "nodeSelector"), "nodeSelector: agents are to have attributes of the names of the labels", self.name
            )

    def _container(self, fields: dict[str, Any], more: dict[str, Any], path: tuple[str | int, ...]) -> None:
        container: dict[str, Any] = {"type": "DOCKER", "image": str(self.part(*path, "image") or ""), "network": "BRIDGE"}
        container["forcePullImage"] = self.part(*path, "imagePullPolicy") == "Always"
        container["volumes"] = self._volumes(path)
        variables = Variables(others=bool(self.items(*path, "envFrom")))
        fields["environmentVariables"] = self._environment(variables, path)
        argv, arguments = self._words(variables, *path, "command"), self._words(variables, *path, "args")
        # A command takes the place of the image's entry point (an option of `docker run`), arguments alone go to it.
        options = {"entrypoint": argv[0] if argv else "", "workdir": str(self.part(*path, "workingDir") or "")}
        container["parameters"] = [{"key": key, "value": value} for key, value in options.items() if value]
        fields |= {"container": container, "shell": False, "command": "", "arguments": [*argv[1:], *arguments]}
        self._resources(fields, more, path)
        if "securityContext" not in self.table(*path):
            self.collector.differs(
                self.line(*path), "it runs as `runAsUser`, by default root, where Kubernetes takes the user of the image", self.name
            )

    def _environment(self, variables: Variables, path: tuple[str | int, ...]) -> list[dict[str, str]]:
        """What the job gets. variables: take in all, one after the other."""
        values: dict[str, str] = {}  # Of equal names the last counts.
        for index, variable in enumerate(self.items(*path, "env")):
            name = str(variable.get("name", "")) if isinstance(variable, dict) else str(variable)
            if isinstance(variable, dict) and "valueFrom" not in variable:
                value, known = self._expanded(variables, str(variable.get("value") or ""), f"env {name}", *path, "env", index)
                values[name] = value
                variables.put(name, value if known else None)
            else:
                self.lost(f"env {name}: its value comes from the cluster (valueFrom); give it to the job", *path, "env", index)
                values.pop(name, None)
                variables.put(name, None)
        return [{"name": name, "value": value} for name, value in values.items()]

    def _words(self, variables: Variables, *path: str | int) -> list[str]:
        words = [str(word) for word in self.items(*path)]
        return [self._expanded(variables, word, repr(word[:100]), *path, index)[0] for index, word in enumerate(words)]

    def _expanded(self, variables: Variables, text: str, what: str, *path: str | int) -> tuple[str, bool]:
        """A text with its variables put in, and whether all were known. What was not is noted, and stands as it did."""
        try:
            expanded = variables.expand(text)
        except CallError as error:
            self.lost(f"{what}: {error}", *path)
            return text, False
        if expanded.unknown:
            names = ", ".join(f"$({name})" for name in expanded.unknown)[:200]
            self.lost(f"{what}: {names} stays as it is, as its value is not known here (valueFrom, envFrom, a Service)", *path)
        return expanded.text, not expanded.unknown

    def _volumes(self, path: tuple[str | int, ...]) -> list[dict[str, Any]]:
        known = {volume.get("name"): volume for volume in self.items(*path[:-2], "volumes") if isinstance(volume, dict)}
        volumes = []
        for index, mount in enumerate(self.items(*path, "volumeMounts")):
            named = mount.get("name") if isinstance(mount, dict) else None
            host_path = known.get(named, {}).get("hostPath") if isinstance(named, str) else None
            if isinstance(host_path, dict) and isinstance(mount, dict) and not mount.keys() & _OF_SUBPATHS:
                mode = "RO" if mount.get("readOnly") is True else "RW"
                volumes.append({"containerPath": str(mount.get("mountPath", "")), "hostPath": str(host_path.get("path", "")), "mode": mode})
            else:
                self.lost(f"volume {named}: only hostPath is carried over", *path, "volumeMounts", index)
        return volumes

    def _resources(self, fields: dict[str, Any], more: dict[str, Any], path: tuple[str | int, ...]) -> None:
        asked = self.table(*path, "resources", "limits") | self.table(*path, "resources", "requests")
        for name, text in asked.items():
            found = _QUANTITY.fullmatch(str(text))
            amount = float(found[1]) * _UNITS[found[2]] if found is not None else None
            if amount is None:
                self.lost(f"resources: {name} {str(text)[:100]!r} cannot be read", *path, "resources")
            elif name == "cpu":
                fields["cpus"] = amount
            elif name == "memory":
                fields["mem"] = round(amount / 2**20, 3)
            elif name == "ephemeral-storage":
                fields["disk"] = round(amount / 2**20, 3)
            elif name == "nvidia.com/gpu":
                more["gpus"] = amount
            else:
                self.lost(f"resources: {name} is not carried over: there is nothing like it here", *path, "resources")
