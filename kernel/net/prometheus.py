"""The metrics of `/metrics/snapshot` in the form Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_OF_FRAMEWORK = re.compile(r"(?:master/)?frameworks/(?P<framework>[^/]+)/(?P<framework_id>[^/]+)/(?P<rest>.+)")
# Roles may have slashes: what can follow one is known.
_OF_ROLE = re.compile(
    r"(?P<before>|(?:allocator/mesos/)?(?:quota/|offer_filters/)?)roles/(?P<role>.+)/"
    r"(?:resources/(?P<resource>[^/]+)/(?P<amount>[a-z_]+)|(?P<rest>shares/dominant|weight|active|suppressed|preempted(?:_for)?|[a-z_]+_ms(?:/[a-z0-9]+)?))"
)
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]+")


def exposition(numbers: Mapping[str, float], accept: str | None) -> tuple[bytes, str]:
    """Return the body and its content type, the newest format that Accept allows.

    `master/tasks_running` becomes `meseta_master_tasks_running`; the metrics of one framework, role or resource of a role become one
    metric of all, labelled: `meseta_role_allocated{role, resource}`, `meseta_framework_calls{framework, framework_id}`.
    """
    from prometheus_client.exposition import choose_encoder  # Lazily: most masters are never asked.
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(numbers))
    encode, media = choose_encoder(accept or "")
    return encode(registry), media


def labelled(name: str) -> tuple[str, dict[str, str]]:
    """The name and the labels of a metric."""
    labels: dict[str, str] = {}
    kind = ""
    found = _OF_FRAMEWORK.fullmatch(name)
    if found is not None:
        labels, kind, name = {"framework": found["framework"], "framework_id": found["framework_id"]}, "framework/", found["rest"]
    found = _OF_ROLE.fullmatch(name)
    if found is not None:
        labels["role"] = found["role"]
        kind += f"role/{found['before'].removeprefix('allocator/mesos/')}"
        name = found["rest"] or found["amount"]
        if found["resource"] is not None:
            labels["resource"] = found["resource"]
    return "meseta_" + _NOT_IN_NAMES.sub("_", kind + name), labels


class _Snapshot:
    def __init__(self, numbers: Mapping[str, float]) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        families: dict[str, GaugeMetricFamily] = {}
        for name, value in self._numbers.items():
            name, labels = labelled(name)
            family = families.get(name)
            if family is None:
                family = families[name] = GaugeMetricFamily(name, name, labels=list(labels))
            family.add_metric(list(labels.values()), value)
        return families.values()
