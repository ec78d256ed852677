"""What a framework keeps comes back as it was."""

from __future__ import annotations

from msgspec.structs import replace

from frameworks.sdk import state
from frameworks.sdk.tasks import Shape, TaskRecord, resources, task
from kernel.wire.offer import AttributeConstraint, ConstraintGroup, Exists, Predicate, RoleConstraints, Selector
from kernel.wire.resources import Resources
from kernel.wire.task import TaskState

RACK = RoleConstraints((ConstraintGroup((AttributeConstraint(Selector(attribute_name="rack"), Predicate(exists=Exists())),)),))


def test_tasks_ids_and_own_keys_come_back() -> None:
    wants = Resources.parse("cpus:0.5;mem:64;ports:[31000-31001]")
    waiting = TaskRecord(
        task("w", ["sleep", "1"], labels={"a": "b"}, kill_grace_s=2), Shape(wants, "web", RACK, "a1", 3, "shape"), note=b"n"
    )
    waiting.info = replace(waiting.info, resources=wants.messages())
    live = TaskRecord(task("l", "true"), Shape(resources(), "*"), TaskState.TASK_RUNNING, "a1", "host", "http://h:5051", b"u" * 16, True, 2)
    kept = {
        state.keep_id("f-1").key: b"f-1",
        **{record.key: record.value or b"" for record in (state.keep_task(waiting), state.keep_task(live))},
        "mine": b"1",
    }
    restored = state.restore(kept)
    assert (restored.framework_id, restored.tasks, restored.own) == ("f-1", (waiting, live), {"mine": b"1"})


def test_a_task_that_got_something_reserved_wants_no_more_than_before() -> None:
    """When its launch comes to nothing it takes what any agent has."""
    wants = resources(cpus=1, mem=64)
    record = TaskRecord(task("t", "true"), Shape(wants, "eng"), TaskState.TASK_STAGING, "a1")
    got = Resources.parse("cpus(eng):1;mem:64")
    record.info = replace(record.info, resources=got.messages("eng"))
    (restored,) = state.restore({state.keep_task(record).key: state.keep_task(record).value or b""}).tasks
    assert restored == record
    assert (restored.shape.wants, Resources.of(restored.info.resources)) == (wants, got)


def test_an_empty_store_is_a_new_framework() -> None:
    assert state.restore({}) == state.Kept(None, (), {})


def test_a_forgotten_task_is_removed() -> None:
    assert (state.forget_task("t").key, state.forget_task("t").value) == ("tasks/t", None)
