"""The metrics as Prometheus reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kernel.net.prometheus import exposition, labelled


def test_names_become_valid_and_frameworks_become_labels() -> None:
    numbers = {
        "master/tasks_running": 3.0,
        "allocator/mesos/allocation_run_ms/p99": 1.5,
        "master/frameworks/my%20jobs/f-1/calls": 7.0,
        "master/frameworks/other/f-2/calls": 8.0,
    }
    body, media = exposition(numbers, None)
    assert media.startswith("text/plain")
    samples = {
        (sample.name, sample.labels.get("framework_id")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples == {
        ("meseta_master_tasks_running", None): 3.0,
        ("meseta_allocator_mesos_allocation_run_ms_p99", None): 1.5,
        ("meseta_framework_calls", "f-1"): 7.0,
        ("meseta_framework_calls", "f-2"): 8.0,
    }


@pytest.mark.parametrize(
    ("name", "expected", "labels"),
    [
        ("allocator/mesos/roles/eng/web/shares/dominant", "role_shares_dominant", {"role": "eng/web"}),
        ("allocator/mesos/roles/*/resources/cpus/allocated", "role_allocated", {"role": "*", "resource": "cpus"}),
        ("allocator/mesos/roles/eng/web/allocation_latency_ms", "role_allocation_latency_ms", {"role": "eng/web"}),
        ("allocator/mesos/roles/eng/web/allocation_latency_ms/p99", "role_allocation_latency_ms_p99", {"role": "eng/web"}),
        ("allocator/mesos/quota/roles/eng/resources/mem/headroom", "role_quota_headroom", {"role": "eng", "resource": "mem"}),
        ("allocator/mesos/offer_filters/roles/eng/active", "role_offer_filters_active", {"role": "eng"}),
        (
            "master/frameworks/f/id/roles/eng/web/suppressed",
            "framework_role_suppressed",
            {"framework": "f", "framework_id": "id", "role": "eng/web"},
        ),
        (
            "master/frameworks/f/id/roles/eng/resources/cpus/offered",
            "framework_role_offered",
            {"framework": "f", "framework_id": "id", "role": "eng", "resource": "cpus"},
        ),
        ("allocator/mesos/resources/cpus/total", "allocator_mesos_resources_cpus_total", {}),
    ],
)
def test_what_is_of_a_role_is_one_metric_of_all(name: str, expected: str, labels: dict[str, str]) -> None:
    assert labelled(name) == (f"meseta_{expected}", labels)


def test_the_newer_format_is_given_to_who_asks_for_it() -> None:
    assert exposition({}, "application/openmetrics-text; version=1.0.0")[1].startswith("application/openmetrics-text")
