"""The metrics of `/metrics/snapshot` in the form Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_OF_FRAMEWORK = re.compile(r"(?:master/)?frameworks/([^/]+)/([^/]+)/(.+)")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]+")


def exposition(numbers: Mapping[str, float], accept: str | None) -> tuple[bytes, str]:
    """Return the body and its content type, the newest format that Accept allows.

    `master/tasks_running` becomes `meseta_master_tasks_running`; the metrics of one framework become one
    metric of all, labelled with name and id.
    """
    from prometheus_client.exposition import choose_encoder  # Lazily: most masters are never asked.
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(numbers))
    encode, media = choose_encoder(accept or "")
    return encode(registry), media


class _Snapshot:
    def __init__(self, numbers: Mapping[str, float]) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        families: dict[str, GaugeMetricFamily] = {}
        for name, value in self._numbers.items():
            labels: dict[str, str] = {}
            matched = _OF_FRAMEWORK.fullmatch(name)
            if matched is not None:
                labels = {"framework": matched[1], "framework_id": matched[2]}
                name = f"framework/{matched[3]}"
            name = "meseta_" + _NOT_IN_NAMES.sub("_", name)
            family = families.get(name)
            if family is None:
                family = families[name] = GaugeMetricFamily(name, name, labels=list(labels))
            family.add_metric(list(labels.values()), value)
        return families.values()
