"""The metrics as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kernel.net.prometheus import exposition


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


def test_the_newer_format_is_given_to_who_asks_for_it() -> None:
    assert exposition({}, "application/openmetrics-text; version=1.0.0")[1].startswith("application/openmetrics-text")
