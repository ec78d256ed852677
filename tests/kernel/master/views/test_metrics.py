"""The numbers of `/metrics/snapshot` (spec: mesos-v1, section 5.4)."""

from __future__ import annotations

import itertools

from kernel.master import effects as e
from kernel.master import registry, views
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.master.waits import ROLES_MAX, FrameworkWaits, Waits
from kernel.wire import operator, scheduler
from kernel.wire.agent import AgentHeartbeat, ExecutorExited, Goodbye
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.nodes import MasterInfo
from kernel.wire.offer import Filters
from kernel.wire.task import TaskState
from kernel.wire.values import Scalar
from tests.builders import accept, at, framework_id, framework_info, register, resources, task
from tests.kernel.master.conductor import Conductor
from tests.kernel.master.views.scene import cluster

# All that the reference names for a master, but what the process adds (system/, registrar/, queues, uptime).
ALWAYS = """
    master/cpus_total master/cpus_used master/cpus_percent master/gpus_total master/mem_percent master/disk_used
    master/cpus_revocable_total master/disk_revocable_percent
    master/slaves_active master/slaves_connected master/slaves_disconnected master/slaves_inactive master/slaves_unreachable
    master/slave_registrations master/slave_reregistrations master/slave_removals master/slave_removals/reason_registered
    master/slave_removals/reason_unhealthy master/slave_removals/reason_unregistered master/slave_unreachable_scheduled
    master/slave_unreachable_canceled master/slave_unreachable_completed master/slave_shutdowns_scheduled
    master/slave_shutdowns_canceled master/slave_shutdowns_completed master/recovery_slave_removals
    master/frameworks_active master/frameworks_connected master/frameworks_disconnected master/frameworks_inactive
    master/outstanding_offers
    master/tasks_staging master/tasks_starting master/tasks_running master/tasks_killing master/tasks_unreachable
    master/tasks_finished master/tasks_failed master/tasks_killed master/tasks_lost master/tasks_error master/tasks_dropped
    master/tasks_gone master/tasks_gone_by_operator
    master/messages_register_framework master/messages_reregister_framework master/messages_unregister_framework
    master/messages_deactivate_framework master/messages_kill_task master/messages_status_update_acknowledgement
    master/messages_operation_status_update_acknowledgement master/messages_resource_request master/messages_launch_tasks
    master/messages_decline_offers master/messages_revive_offers master/messages_suppress_offers
    master/messages_reconcile_tasks master/messages_reconcile_operations master/messages_framework_to_executor
    master/messages_executor_to_framework master/messages_register_slave master/messages_reregister_slave
    master/messages_unregister_slave master/messages_update_slave master/messages_status_update
    master/messages_exited_executor master/messages_authenticate master/dropped_messages
    master/valid_status_updates master/invalid_status_updates master/valid_status_update_acknowledgements
    master/invalid_status_update_acknowledgements master/valid_framework_to_executor_messages
    master/invalid_framework_to_executor_messages master/valid_executor_to_framework_messages
    master/invalid_executor_to_framework_messages master/valid_operation_status_updates
    master/invalid_operation_status_updates master/valid_operation_status_update_acknowledgements
    master/invalid_operation_status_update_acknowledgements
    master/operator_event_stream_subscribers master/http_cache_hits
    master/operations/total master/operations/pending master/operations/recovering master/operations/unreachable
    master/operations/finished master/operations/failed master/operations/error master/operations/dropped
    master/operations/gone_by_operator
    allocator/mesos/resources/cpus/total allocator/mesos/resources/cpus/offered_or_allocated allocator/mesos/allocation_runs
    allocator/mesos/event_queue_dispatches allocator/event_queue_dispatches
"""


def numbers(c: Conductor) -> dict[str, float]:
    """Those of the state, all parts together; none is told twice."""
    found: dict[str, float] = {}
    for part in views.render(c.core.state, "metrics"):
        assert not found.keys() & part.keys()
        found |= part
    return found


def test_all_names_are_there_from_the_start():
    found = numbers(Conductor())
    assert set(ALWAYS.split()) - found.keys() == set()
    assert all(isinstance(value, float) for value in found.values())
    assert not any(found.values())


def test_gauges_of_the_cluster():
    found = numbers(cluster())
    expected = {
        "master/cpus_total": 6.0,
        "master/cpus_used": 2.1,
        "master/cpus_percent": 0.35,
        "master/mem_used": 128.0,
        "master/slaves_active": 2.0,
        "master/slaves_connected": 2.0,
        "master/frameworks_active": 1.0,
        "master/outstanding_offers": 1.0,
        "master/tasks_running": 1.0,
        "master/tasks_staging": 1.0,
        "master/messages_register_slave": 2.0,
        "master/messages_status_update": 1.0,
        "allocator/mesos/resources/cpus/total": 6.0,
        "allocator/mesos/resources/cpus/offered_or_allocated": 4.1,
    }
    assert {name: found[name] for name in expected} == expected


def test_agents_and_frameworks_that_are_away():
    c = cluster()
    c.give(e.StreamClosed("s"))
    c.give(e.LinkClosed(1))
    found = numbers(c)
    assert (found["master/slaves_connected"], found["master/slaves_disconnected"], found["master/slaves_inactive"]) == (1.0, 1.0, 1.0)
    assert (found["master/frameworks_disconnected"], found["master/frameworks_inactive"], found["master/frameworks_active"]) == (
        1.0,
        1.0,
        0.0,
    )
    c.wait(12)
    found = numbers(c)
    assert (found["master/slaves_unreachable"], found["master/tasks_unreachable"]) == (1.0, 2.0)
    assert found["master/slave_removals/reason_unhealthy"] == 1.0


def test_ends_are_counted_by_source_and_reason_with_the_old_words():
    c = Conductor()
    fid = c.subscribe(info=framework_info("f", FrameworkCapability.PARTITION_AWARE))
    aid = c.agent(1)
    (offer,) = c.offers()
    c.call(fid, accept([offer.id.value], task("t", aid)))
    c.give(e.MarkAgentGone(aid))
    found = numbers(c)
    assert found["master/tasks_gone_by_operator"] == 1.0
    assert found["master/task_gone_by_operator/source_master/reason_slave_removed_by_operator"] == 1.0


def test_messages_of_agents_that_leave_and_of_executors_that_end():
    c = cluster()
    c.give(e.FromAgent(1, ExecutorExited("M-0000", "x", 0)))
    c.give(e.FromAgent(1, Goodbye(final=True)))
    c.give(e.FromAgent(9, AgentHeartbeat()))  # Of a link that never registered.
    found = numbers(c)
    names = ("messages_exited_executor", "messages_unregister_slave", "slave_removals/reason_unregistered", "dropped_messages")
    assert [found[f"master/{name}"] for name in names] == [1.0, 1.0, 1.0, 1.0]


def test_agents_that_do_not_come_back_after_a_failover():
    c = Conductor(cluster().stored, "N")
    c.later(3600)
    found = numbers(c)
    assert found["master/recovery_slave_removals"] == found["master/slave_unreachable_completed"] == 2.0


def test_a_framework_that_knows_its_id_registers_again():
    c = Conductor()
    fid = c.subscribe()
    c.subscribe("later", framework_info(id=framework_id(fid)))
    found = numbers(c)
    assert (found["master/messages_register_framework"], found["master/messages_reregister_framework"]) == (1.0, 1.0)


def test_refusals_in_force_are_counted_by_role():
    c = Conductor()
    fid = c.subscribe(info=framework_info("f", FrameworkCapability.MULTI_ROLE, roles=("eng", "ops")))
    aids = [c.agent(link) for link in (1, 2)]
    offers = c.offers()
    assert {offer.agent_id.value for offer in offers} == set(aids)

    def active() -> list[float]:
        return [numbers(c)[f"allocator/mesos/offer_filters/roles/{role}/active"] for role in ("eng", "ops")]

    assert active() == [0.0, 0.0]
    for offer in offers:
        c.call(fid, scheduler.Decline((offer.id,), Filters(100.0)))
    assert sum(active()) == 2.0
    c.call(fid, scheduler.Revive())
    assert active() == [0.0, 0.0]
    for offer in c.offers():
        c.call(fid, scheduler.Decline((offer.id,), Filters(100.0)))
    before = sum(active())
    c.wait(101)
    assert (before, sum(active())) == (2.0, 0.0)


def test_allocations_are_timed_by_who_brings_a_stopwatch():
    ticks = itertools.count()
    info = MasterInfo(id="M", ip=0, port=5050, hostname="master")
    core = MasterCore(MasterConfig(), info, registry.load([]), at(0), views.render, lambda: next(ticks) / 1000)
    core.receive(e.SubscribeFramework("s", "", None, scheduler.Subscribe(framework_info())), at(1))
    core.receive(e.FromAgent(1, register("1")), at(2))
    core.settle(at(2.5), 100.0)
    found: dict[str, float] = next(iter(views.render(core.state, "metrics")))
    assert found["allocator/mesos/allocation_runs"] == 1.0
    assert found["allocator/mesos/allocation_run_ms"] > 0
    assert found["allocator/mesos/allocation_run_latency_ms"] == 1500.0


def test_each_framework_has_its_own():
    c = Conductor()
    fid = c.subscribe(info=framework_info("web site/1", principal="p"))
    aid = c.agent(1)
    (offer,) = c.offers()
    c.call(fid, accept([offer.id.value], task("t", aid), task("u", aid)))
    uuid = c.update(1, fid, "t", TaskState.TASK_FINISHED)
    c.call(fid, scheduler.Acknowledge(AgentID(aid), TaskID("t"), uuid))
    c.call(fid, scheduler.Suppress())
    found = numbers(c)
    prefix = f"master/frameworks/web%20site%2F1/{fid}/"
    expected = {
        "subscribed": 1.0,
        "calls": 4.0,
        "calls/subscribe": 1.0,
        "calls/accept": 1.0,
        "calls/acknowledge": 1.0,
        "calls/suppress": 1.0,
        "calls/kill": 0.0,
        "events/subscribed": 1.0,
        "events/update": 1.0,
        "offers/accepted": 1.0,
        "operations": 0.0,
        "tasks/active/task_staging": 1.0,
        "tasks/terminal/task_finished": 1.0,
        "roles/*/suppressed": 1.0,
    }
    assert {name: found[prefix + name] for name in expected} == expected
    assert found[f"{prefix}events"] == sum(value for name, value in found.items() if name.startswith(f"{prefix}events/"))
    assert found["frameworks/p/messages_received"] == found["frameworks/p/messages_processed"] == 4.0
    assert found["allocator/mesos/roles/*/shares/dominant"] == 1.0  # The rest is offered again.


class TestRolesAndFrameworks:
    """What each has, may still have, and waits."""

    def shared(self) -> tuple[Conductor, str]:
        """Of 4 cpus "eng/web" uses 1 and is offered 3; "eng" has a quota."""
        c = Conductor()
        config = operator.QuotaConfig("eng", {"cpus": Scalar(6.0)}, {"cpus": Scalar(10.0), "mem": Scalar(4096.0)})
        c.give(operator.UpdateQuota(True, (config,)))
        fid = c.subscribe(info=framework_info("f", FrameworkCapability.MULTI_ROLE, roles=("eng/web", "ops"), failover_timeout=100.0))
        c.call(fid, scheduler.Suppress(("ops",)))
        c.later(2)
        aid = c.agent(1, register("1", "cpus:4;mem:1024"))
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t", aid, "cpus:1;mem:64")))
        c.wait(6)  # The rest is offered again.
        return c, fid

    def test_what_they_have(self):
        c, fid = self.shared()
        found = numbers(c)
        of_framework = f"master/frameworks/f/{fid}/roles/eng/web/"
        for prefix in ("allocator/mesos/roles/eng/", "allocator/mesos/roles/eng/web/", of_framework):
            assert (found[f"{prefix}resources/cpus/allocated"], found[f"{prefix}resources/cpus/offered"]) == (1.0, 3.0)
            assert (found[f"{prefix}resources/mem/allocated"], found[f"{prefix}resources/mem/offered"]) == (64.0, 960.0)
            assert found[f"{prefix}shares/dominant"] == 1.0
        assert found[f"master/frameworks/f/{fid}/roles/ops/shares/dominant"] == 0.0
        assert found["allocator/mesos/roles/eng/weight"] == 1.0

    def test_what_is_reserved(self):
        c = Conductor()
        c.agent(1, register("1", "cpus(eng/web):2;cpus:2;mem:64"))
        found = numbers(c)
        assert [found[f"allocator/mesos/roles/{role}/resources/cpus/reserved"] for role in ("eng", "eng/web")] == [2.0, 2.0]

    def test_headroom_of_a_quota_counts_offers_and_limits_above(self):
        found = numbers(self.shared()[0])
        for role in ("eng", "eng/web"):
            prefix = f"allocator/mesos/quota/roles/{role}/resources/"
            assert (found[f"{prefix}cpus/headroom"], found[f"{prefix}mem/headroom"]) == (6.0, 3072.0)
        assert found["allocator/mesos/quota/roles/eng/resources/cpus/unmet"] == 5.0  # An offer may come back.
        assert "allocator/mesos/quota/roles/ops/resources/cpus/headroom" not in found

    def test_the_first_offer_is_waited_for_once_and_while_it_is_wanted(self):
        c, fid = self.shared()
        names = [f"master/frameworks/f/{fid}/roles/eng/web/first_offer_ms", "allocator/mesos/roles/eng/web/first_offer_ms"]
        c.wait(3)
        c.agent(2, register("2", "cpus:4;mem:1024"))
        assert [numbers(c)[name] for name in names] == [2000.0, 2000.0]
        assert f"master/frameworks/f/{fid}/roles/ops/first_offer_ms" not in numbers(c)
        c.call(fid, scheduler.Suppress(("eng/web",)))
        c.call(fid, scheduler.Revive(("ops",)))
        for offer in c.offers():
            c.call(fid, scheduler.Decline((offer.id,)))
        assert numbers(c)[f"master/frameworks/f/{fid}/roles/ops/first_offer_ms"] == 0.0

    def test_time_away_does_not_count(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", failover_timeout=100.0))
        c.give(e.StreamClosed("s"))
        c.later(50)
        c.subscribe("t", framework_info("f", id=framework_id(fid), failover_timeout=100.0))
        c.later(1)
        c.agent(1)
        assert numbers(c)[f"master/frameworks/f/{fid}/roles/*/first_offer_ms"] == 1000.0

    def test_demands_are_timed_from_when_they_were_made(self):
        c = Conductor()
        fid = c.subscribe()
        c.later(60)  # It wants nothing yet.
        c.call(fid, scheduler.Request((scheduler.ResourceRequest(resources=resources("cpus:4;mem:64"), name="job", count=2),)))
        prefixes = [f"master/frameworks/f/{fid}/roles/*/", "allocator/mesos/roles/*/"]
        assert not [name for name in numbers(c) if "first_offer" in name or "allocation_latency" in name]
        for link, seconds in ((1, 2), (2, 3)):
            c.wait(seconds)
            c.agent(link, register(str(link), "cpus:4;mem:1024"))
        found = numbers(c)
        for prefix in prefixes:
            assert found[f"{prefix}first_offer_ms"] == 2000.0
            assert (found[f"{prefix}allocation_latency_ms"], found[f"{prefix}allocation_latency_ms/count"]) == (5000.0, 2.0)
            assert found[f"{prefix}allocation_latency_ms/max"] == 5000.0
        assert found[f"{prefixes[0]}allocation_latency_ms/total"] == 7000.0
        assert found[f"{prefixes[1]}allocation_latency_ms/p50"] == 3500.0

    def test_a_demand_that_is_refused_waits_anew(self):
        c = Conductor()
        fid = c.subscribe()
        c.call(fid, scheduler.Request((scheduler.ResourceRequest(resources=resources("cpus:1;mem:64"), name="job"),)))
        c.later(10)
        c.agent(1)
        (offer,) = c.offers()
        c.call(fid, scheduler.Decline((offer.id,), Filters(5.0)))
        c.wait(6)
        name = f"master/frameworks/f/{fid}/roles/*/allocation_latency_ms"
        found = numbers(c)
        assert (found[f"{name}/count"], 5000.0 <= found[name] <= 6000.0) == (2.0, True)

    def test_what_is_remembered_of_roles_is_bounded(self):
        waits, framework = Waits(), FrameworkWaits()
        for number in range(ROLES_MAX + 10):
            waits.served(framework, f"role-{number}", 1.0, 1.0)
        assert len(list(waits)) == ROLES_MAX
        framework.want(["role-1"], ["role-1"], 2.0)
        assert list(framework.allocation) == ["role-1"]


def test_a_framework_that_left_has_none():
    c = cluster()
    c.give(e.TeardownFramework("M-0000"))
    assert not [name for name in numbers(c) if "M-0000" in name]
