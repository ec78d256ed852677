"""Quota: guarantees, limits, and what they leave to others (spec: mesos-v1, sections 7.2, 7.4 and 13.4)."""

from __future__ import annotations

from kernel.master.allocator import FrameworkOptions, Why
from tests.kernel.master.allocator.cluster import TestCluster, demand, given, who


def offered(cluster: TestCluster, role: str, name: str = "cpus") -> float:
    """What a role and those below it consume, in units."""
    return cluster.consumed(role).get(name, 0) / 1000


class TestGuarantees:
    def test_quota_provides_guarantee(self) -> None:
        """What a role declines stays free for it: a greedy role does not get it."""
        c = TestCluster()
        c.quota("q", "cpus:4;mem:1024")
        c.agent("a", "cpus:4;mem:1024")
        c.framework("Q", "q")
        (offer,) = c.allocate()
        c.decline(offer, refuse_s=1000)
        c.framework("greedy", "g")
        assert c.allocate() == []
        c.agent("b", "cpus:4;mem:1024")
        assert given(c.allocate()) == [("Q", "b", "cpus:4; mem:1024"), ("greedy", "a", "cpus:4; mem:1024")]

    def test_remove_quota_brings_fair_sharing_back(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:4;mem:1024")
        c.framework("greedy", "g")
        c.agent("a", "cpus:4;mem:1024")
        assert c.allocate() == []
        c.quota("q")
        assert given(c.allocate()) == [("greedy", "a", "cpus:4; mem:1024")]

    def test_multiple_frameworks_in_a_role_with_quota_share_it(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:8;mem:4096")
        c.framework("one", "q")
        c.framework("two", "q")
        for number in range(4):
            c.agent(f"a{number}", "cpus:2;mem:1024")
            c.allocate()
        assert sorted(who(c.offers)) == ["one", "one", "two", "two"]

    def test_quota_against_starvation(self) -> None:
        """The role with a guarantee comes first, although it has the higher share."""
        c = TestCluster()
        c.agent("a", "cpus:2;mem:1024")
        c.framework("Q", "q")
        c.launch(*c.allocate())
        c.framework("poor", "p")
        c.quota("q", "cpus:4;mem:2048")
        c.agent("b", "cpus:2;mem:1024")
        assert given(c.allocate()) == [("Q", "b", "cpus:2; mem:1024")]

    def test_drf_with_quota(self) -> None:
        """What is left beyond guarantees goes by shares, to all."""
        c = TestCluster()
        c.quota("q", "cpus:0.25;mem:128")
        c.agent("a", "cpus:1;mem:512")
        c.framework("Q", "q", demands=True)
        c.request("Q", demand("cpus:0.25;mem:128", 4, "q"))
        c.framework("one", "one", demands=True)
        c.request("one", demand("cpus:0.25;mem:128", 4, "one"))
        c.allocate()
        assert (offered(c, "q"), offered(c, "one")) == (0.5, 0.5)

    def test_quota_absent_framework_whole_agent(self) -> None:
        """Room is kept for a role nobody is in."""
        c = TestCluster()
        c.quota("q", "cpus:2;mem:1024")
        c.framework("other", "o")
        c.agent("a", "cpus:2;mem:1024")
        assert c.allocate() == []
        c.agent("b", "cpus:1;mem:512")
        assert given(c.allocate()) == [("other", "b", "cpus:1; mem:512")]

    def test_multi_quota_absent_frameworks(self) -> None:
        c = TestCluster()
        c.quota("q1", "cpus:1;mem:512")
        c.quota("q2", "cpus:2;mem:1024")
        c.agent("a", "cpus:2;mem:1024")
        c.agent("b", "cpus:2;mem:1024")
        c.framework("other", "o")
        assert given(c.allocate()) == [("other", "a", "cpus:1; mem:512")]

    def test_what_is_used_of_a_guarantee_is_not_kept_twice(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:2;mem:1024")
        c.framework("Q", "q")
        c.agent("a", "cpus:2;mem:1024")
        c.launch(*c.allocate())
        c.framework("other", "o")
        c.agent("b", "cpus:2;mem:1024")
        assert who(c.allocate()) == ["other"] or who(c.offers) == ["Q"]
        c.wait(10)
        assert offered(c, "q") + offered(c, "o") == 4

    def test_unguaranteed_resources_come_along_only_with_guaranteed_ones(self) -> None:
        """QuotaRoleAllocateNonQuotaResource: an agent that has nothing of what is guaranteed goes by shares."""
        c = TestCluster()
        c.agent("z", "cpus:1;mem:100;disk:100")
        c.framework("Q", "q")
        c.launch(*c.allocate())
        c.framework("other", "o")
        c.quota("q", "gpus:1")
        c.agent("a", "cpus:1;mem:100;disk:100")
        assert who(c.allocate()) == ["other"]
        c.agent("b", "cpus:1;mem:100;disk:100;gpus:1")
        c.allocate()
        c.allocator.update_framework("Q", ["q"], [], FrameworkOptions(gpu_aware=True))
        assert given(c.allocate()) == [("Q", "b", "cpus:1; mem:100; disk:100; gpus:1")]

    def test_disproportionate_quota_vs_allocation(self) -> None:
        """A role that has its mem but not its cpus holds up cpus alone."""
        c = TestCluster()
        c.agent("a", "cpus:1;mem:1000")
        c.framework("Q", "q")
        c.launch(*c.allocate())
        c.quota("q", "cpus:2;mem:1000")
        c.allocator.suppress("Q", [])
        c.framework("other", "o")
        c.agent("b", "cpus:3;mem:3000")
        assert given(c.allocate()) == [("other", "b", "cpus:2; mem:3000")]

    def test_a_demand_that_is_guaranteed_is_served_first(self) -> None:
        c = TestCluster()
        c.agent("a", "cpus:8;mem:8000")
        c.framework("Q", "q", demands=True)
        c.request("Q", demand("cpus:2;mem:100", 2, "q"))
        for offer in c.allocate():
            c.launch(offer, refuse_s=None)
        c.quota("q", "cpus:6")
        c.framework("poor", "p", demands=True)
        c.request("poor", demand("cpus:2;mem:100", 4, "p"))
        c.request("Q", demand("cpus:2;mem:100", 4, "q"))
        c.allocate()
        assert (offered(c, "q"), offered(c, "p")) == (6, 2)

    def test_an_old_offer_of_a_whole_agent_is_taken_back_for_a_guaranteed_demand(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:2")
        c.agent("a", "cpus:2;mem:1000")
        c.framework("Q", "q")
        c.launch(*c.allocate())
        c.framework("whole", "w")
        c.agent("b", "cpus:2;mem:1000")
        c.decline(*[offer for offer in c.allocate() if offer.framework_id == "Q"], refuse_s=1000)
        c.allocate()
        assert who(c.offers) == ["whole"]
        c.finish()
        c.framework("two", "q", demands=True)
        c.request("two", demand("cpus:2;mem:900", 1, "q", agent="b"))
        c.wait(10)
        assert ("two", "b") in [(offer.framework_id, offer.agent_id) for offer in c.offers]

    def test_more_is_looked_at_again_when_a_guarantee_is_met_elsewhere(self) -> None:
        """The agent where room was kept has not changed itself."""
        c = TestCluster()
        c.quota("q", "cpus:2")
        c.agent("a", "cpus:2;mem:1000")
        c.framework("other", "o", demands=True)
        c.request("other", demand("cpus:1;mem:100", 2, "o"))
        assert c.allocate() == []
        c.framework("Q", "q", demands=True)
        c.request("Q", demand("cpus:2;mem:2000", 1, "q"))
        assert c.allocate() == []
        c.agent("b", "cpus:2;mem:2000")
        c.allocate()
        assert {(offer.framework_id, offer.agent_id) for offer in c.offers} == {("Q", "b"), ("other", "a")}
        assert offered(c, "o") == 2

    def test_a_starving_demand_keeps_no_agent_that_guarantees_need(self) -> None:
        c = TestCluster()
        c.agent("a", "cpus:4;mem:1000")
        c.framework("small", "s", demands=True)
        c.request("small", demand("cpus:1;mem:10", 4, "s"))
        for offer in c.allocate():
            c.launch(offer, *["cpus:1;mem:10"] * 4)
        c.quota("q", "cpus:4")
        c.framework("large", "l", demands=True)
        c.request("large", demand("cpus:2;mem:10", 1, "l"))
        c.wait(70)
        c.finish()
        c.finish()
        c.framework("Q", "q", demands=True)
        c.request("Q", demand("cpus:1;mem:10", 4, "q"))
        c.allocate()
        assert offered(c, "q") == 2
        assert offered(c, "l") == 0

    def test_nothing_is_offered_while_paused(self) -> None:
        c = TestCluster()
        c.allocator.pause(True)
        c.agent("a", "cpus:4;mem:1000")
        c.framework("f", "*")
        assert not c.allocator.unsettled
        assert c.allocate() == []
        c.allocator.pause(False)
        assert c.allocator.unsettled
        assert who(c.allocate()) == ["f"]


class TestLimits:
    def test_quota_provides_limit(self) -> None:
        c = TestCluster()
        c.quota("*", limit="cpus:3;mem:1000")
        c.framework("f", "*")
        c.agent("a", "cpus:2;mem:600")
        c.agent("b", "cpus:2;mem:600")
        assert given(c.allocate()) == [("f", "a", "cpus:2; mem:600"), ("f", "b", "cpus:1; mem:400")]
        c.agent("c", "cpus:2;mem:600")
        assert c.allocate() == []

    def test_quota_allocation_granularity(self) -> None:
        """An agent is cut to the limit; the rest goes to others."""
        c = TestCluster()
        c.quota("q", limit="cpus:0.1;mem:100")
        c.agent("a", "cpus:4;mem:1024;ports:[1-9]")
        c.framework("Q", "q")
        c.framework("other", "r")
        assert given(c.allocate()) == [("Q", "a", "cpus:0.1; mem:100; ports:[1-9]"), ("other", "a", "cpus:3.9; mem:924")]

    def test_a_limit_holds_for_several_frameworks_in_one_pass(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:5")
        for number in range(4):
            c.framework(f"f{number}", "q" if number % 2 else "q/x", demands=True)
            c.request(f"f{number}", demand("cpus:2;mem:10", 3, "q" if number % 2 else "q/x"))
        for number in range(5):
            c.agent(f"a{number}", "cpus:4;mem:1000")
        c.allocate()
        assert offered(c, "q") == 4

    def test_it_is_exact_to_the_thousandth(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:1")
        c.framework("f", "q", demands=True)
        c.request("f", demand("cpus:0.001;mem:1", 2000, "q"))
        c.agent("a", "cpus:4;mem:9000")
        c.agent("b", "cpus:4;mem:9000")
        c.allocate()
        assert offered(c, "q") == 1.0

    def test_the_least_on_the_path_counts(self) -> None:
        c = TestCluster()
        c.quota("a", limit="cpus:4;mem:100")
        c.quota("a/b", limit="cpus:3")
        c.quota("a/b/c", limit="cpus:5;mem:70")
        c.framework("f", "a/b/c")
        c.agent("x", "cpus:8;mem:1000")
        assert given(c.allocate()) == [("f", "x", "cpus:3; mem:70")]

    def test_at_its_limit_a_role_still_gets_what_is_reserved_for_it(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:1;mem:100")
        c.framework("f", "q")
        c.agent("a", "cpus:1;mem:100")
        c.launch(*c.allocate())
        c.agent("b", "cpus:4;mem:400;cpus(q):2;ports:[1-9]")
        assert given(c.allocate()) == [("f", "b", "cpus(q):2; ports:[1-9]")]

    def test_reservations_count_even_beyond_the_limit(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:2;mem:100")
        c.agent("a", "cpus:4;mem:400;cpus(q):2;mem(q):500")
        c.framework("f", "q")
        assert given(c.allocate()) == [("f", "a", "cpus(q):2; mem(q):500")]

    def test_more_is_offered_when_something_ends(self) -> None:
        """Though no agent has changed where it fits."""
        c = TestCluster()
        c.quota("q", limit="cpus:2")
        c.framework("f", "q", demands=True)
        c.request("f", demand("cpus:2;mem:10", 2, "q"))
        c.agent("a", "cpus:2;mem:10")
        c.agent("b", "cpus:2;mem:10")
        (offer,) = c.allocate()
        c.launch(offer)
        c.wait(100)
        c.allocator.set_agent_active(offer.agent_id, False)
        c.finish()
        assert [one.agent_id for one in c.allocate()] == ["b" if offer.agent_id == "a" else "a"]

    def test_more_is_offered_when_a_limit_is_raised(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:1;mem:100")
        c.framework("f", "q")
        c.agent("a", "cpus:4;mem:400")
        c.allocate()
        c.quota("q", limit="cpus:3;mem:100")
        assert given(c.allocate()) == [("f", "a", "cpus:2")]

    def test_a_role_below_is_held_to_the_limit_above(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:2;mem:200")
        c.framework("deep", "q/x/y")
        c.framework("top", "q")
        c.agent("a", "cpus:4;mem:400")
        c.agent("b", "cpus:4;mem:400")
        c.allocate()
        assert (offered(c, "q"), offered(c, "q", "mem")) == (2, 200)

    def test_revocable_and_other_resources_are_outside_quota(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:0;mem:0")
        total = '[{"name":"cpus","type":"SCALAR","scalar":{"value":2},"revocable":{}},{"name":"mem","type":"SCALAR","scalar":{"value":90}}]'
        c.framework("f", "q", options=FrameworkOptions(revocable=True))
        c.agent("a", total)
        assert given(c.allocate()) == [("f", "a", "cpus{REV}:2")]


class TestDisks:
    MOUNT = '{"name":"disk","type":"SCALAR","scalar":{"value":%d},"disk":{"source":{"type":"MOUNT","mount":{"root":"/m%d"}}}}'
    PLAIN = '{"name":"%s","type":"SCALAR","scalar":{"value":%d}}'

    def total(self, cpus: int, mem: int, disk: int, *mounts: int) -> str:
        parts = [self.PLAIN % ("cpus", cpus), self.PLAIN % ("mem", mem)] + ([self.PLAIN % ("disk", disk)] if disk else [])
        return "[" + ",".join([*parts, *(self.MOUNT % (size, number) for number, size in enumerate(mounts))]) + "]"

    def test_an_unchoppable_resource_goes_whole_or_not_at_all(self) -> None:
        c = TestCluster()
        c.quota("q", limit="disk:100")
        c.framework("Q", "q")
        c.agent("a", self.total(1, 100, 0, 200))
        assert given(c.allocate()) == [("Q", "a", "cpus:1; mem:100")]
        c.agent("b", self.total(1, 100, 0, 60, 50))
        c.allocate()
        assert offered(c, "q", "disk") == 60
        c.agent("c", self.total(1, 100, 70, 40))
        c.allocate()
        assert offered(c, "q", "disk") == 100

    def test_a_guarantee_can_be_met_across_several_disks(self) -> None:
        c = TestCluster()
        c.quota("q", "disk:100;cpus:1;mem:100")
        c.framework("Q", "q")
        c.framework("other", "r")
        c.agent("a", self.total(1, 100, 40, 60))
        c.allocate()
        assert offered(c, "q", "disk") == 100


class TestReservations:
    def test_they_are_consumption_whether_allocated_or_not(self) -> None:
        """QuotaReservationUnallocated, Allocated and WithinQuota: nothing more is kept for what is reserved."""
        c = TestCluster()
        c.quota("q", "cpus:2;mem:200")
        c.framework("other", "r")
        c.agent("a", "cpus:2;mem:200;cpus(q):2;mem(q):200")
        assert given(c.allocate()) == [("other", "a", "cpus:2; mem:200")]
        c.framework("Q", "q")
        assert given(c.allocate()) == [("Q", "a", "cpus(q):2; mem(q):200")]
        c.agent("b", "cpus:2;mem:200")
        assert "other" in who(c.allocate()) or offered(c, "q") == 4

    def test_others_reservations_are_not_headroom(self) -> None:
        """QuotaSetAsideReservedResources."""
        c = TestCluster()
        c.quota("q", "cpus:4;mem:400")
        c.framework("other", "r")
        c.agent("a", "cpus:4;mem:400;cpus(r):4;mem(r):400")
        assert given(c.allocate()) == [("other", "a", "cpus(r):4; mem(r):400")]

    def test_a_role_without_quota_still_gets_its_reservations(self) -> None:
        """NonQuotaRoleReservationWithQuotaRole: though all else is kept."""
        c = TestCluster()
        c.quota("q", "cpus:9;mem:900")
        c.framework("other", "r", demands=True)
        c.request("other", demand("cpus:1;mem:100", 9, "r"))
        c.agent("a", "cpus:4;mem:400;cpus(r):2;mem(r):200")
        assert given(c.allocate()) == [("other", "a", "cpus(r):2; mem(r):200")]

    def test_surplus_reservations_do_not_inflate_headroom(self) -> None:
        """QuotaHeadroomWhenReservationsExceedQuota: one role's reservations beyond its guarantee are no other's."""
        c = TestCluster()
        c.quota("q", "cpus:1;mem:100")
        c.quota("p", "cpus:2;mem:200")
        c.framework("other", "r")
        c.agent("a", "cpus:3;mem:300;cpus(q):4;mem(q):400")
        assert given(c.allocate()) == [("other", "a", "cpus:1; mem:100")]

    def test_those_of_a_nested_role_count_for_the_parent(self) -> None:
        """QuotaWithNestedRoleReservation."""
        c = TestCluster()
        c.quota("q", "cpus:2;mem:200")
        c.framework("other", "r")
        c.agent("a", "cpus:2;mem:200;cpus(q/x):2;mem(q/x):200")
        assert given(c.allocate()) == [("other", "a", "cpus:2; mem:200")]

    def test_what_a_nested_role_uses_counts_for_the_parent(self) -> None:
        """QuotaWithNestedRoleAllocation."""
        c = TestCluster()
        c.quota("q", "cpus:2;mem:200")
        c.framework("nested", "q/x")
        c.agent("a", "cpus:2;mem:200")
        c.launch(*c.allocate())
        c.framework("other", "r")
        c.agent("b", "cpus:2;mem:200")
        c.allocator.suppress("nested", [])
        assert given(c.allocate()) == [("other", "b", "cpus:2; mem:200")]

    def test_those_of_an_ancestor_are_for_the_descendant_and_count_for_the_ancestor(self) -> None:
        """QuotaWithAncestorReservations."""
        c = TestCluster()
        c.quota("q", "cpus:2;mem:200", "cpus:2;mem:200")
        c.framework("nested", "q/x")
        c.agent("a", "cpus:2;mem:200;cpus(q):2;mem(q):200")
        assert given(c.allocate()) == [("nested", "a", "cpus(q):2; mem(q):200")]

    def test_a_reservation_made_later_counts_at_once(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:3;mem:300")
        c.agent("a", "cpus:4;mem:400")
        assert c.allocator.limit_passed("q/x", {"cpus": 3000}) is None
        passed = c.allocator.limit_passed("q/x", {"cpus": 3001})
        assert passed is not None
        assert (passed.role, passed.name, passed.limit, passed.consumed) == ("q", "cpus", 3000, 0)
        c.update_agent("a", "cpus:2;mem:400;cpus(q/x):2")
        c.framework("f", "q")
        assert given(c.allocate()) == [("f", "a", "cpus:1; mem:300")]


class TestNestedGuarantees:
    def test_a_childs_guarantee_is_kept_from_its_siblings(self) -> None:
        c = TestCluster()
        c.quota("eng", "cpus:4")
        c.quota("eng/a", "cpus:3")
        c.agent("x", "cpus:4;mem:1000")
        c.framework("B", "eng/b", demands=True)
        c.request("B", demand("cpus:1;mem:10", 4, "eng/b"))
        c.allocate()
        assert offered(c, "eng/b") == 1
        c.framework("A", "eng/a", demands=True)
        c.request("A", demand("cpus:1;mem:10", 4, "eng/a"))
        c.allocate()
        assert (offered(c, "eng/a"), offered(c, "eng/b")) == (3, 1)

    def test_a_sibling_has_no_advantage_by_what_is_owed_to_a_child(self) -> None:
        """eng/a is owed something it cannot use; eng/b has the higher share, and so comes after others."""
        c = TestCluster()
        c.agent("x", "cpus:2;mem:1000")
        c.framework("B", "eng/b", demands=True)
        c.request("B", demand("cpus:1;mem:10", 2, "eng/b"))
        for offer in c.allocate():
            c.launch(offer, "cpus:1;mem:10", "cpus:1;mem:10")
        c.quota("eng/a", "cpus:1")
        c.framework("A", "eng/a", demands=True)
        c.request("A", demand("cpus:1;mem:9999", 1, "eng/a"))
        c.framework("other", "o", demands=True)
        c.request("other", demand("cpus:1;mem:10", 1, "o"))
        c.request("B", demand("cpus:1;mem:10", 1, "eng/b"))
        c.agent("y", "cpus:2;mem:20")
        assert who(c.allocate()) == ["other"]

    def test_all_below_a_role_may_take_on_its_own_guarantee(self) -> None:
        c = TestCluster()
        c.agent("z", "cpus:1;mem:1000")
        c.framework("B", "eng/b", demands=True)
        c.request("B", demand("cpus:1;mem:10", 1, "eng/b"))
        for offer in c.allocate():
            c.launch(offer, "cpus:1;mem:10")
        c.quota("eng", "cpus:3")
        c.framework("poor", "p", demands=True)
        c.request("poor", demand("cpus:1;mem:10", 5, "p"))
        c.request("B", demand("cpus:1;mem:10", 5, "eng/b"))
        c.agent("y", "cpus:2;mem:20")
        assert who(c.allocate()) == ["B"]


class TestUpdates:
    def test_offers_are_rescinded_until_the_role_is_within_its_limit(self) -> None:
        """RescindOffersForUpdateQuotaEnforcingLimits: those of the role and below, no more than needed, no task."""
        c = TestCluster()
        c.framework("top", "q")
        c.framework("deep", "q/x")
        c.framework("other", "r")
        for number in range(6):
            c.agent(f"a{number}", "cpus:1;mem:100")
            c.allocate()
        task = next(offer for offer in c.offers if offer.role == "q")
        c.launch(task)
        used = offered(c, "q")
        beyond = c.quota("q", limit="cpus:2")
        assert {offer.role for offer in beyond} <= {"q", "q/x"}
        assert len(beyond) == used - 2
        assert offered(c, "q") == 2
        c.quota("q", limit="cpus:0")
        assert offered(c, "q") == 1
        assert {offer.role for offer in c.offers} == {"r"}

    def test_offers_of_others_are_rescinded_until_enough_is_free_for_a_guarantee(self) -> None:
        """RescindOffersForUpdateQuotaGuarantees."""
        c = TestCluster()
        c.framework("other", "r")
        for number in range(4):
            c.agent(f"a{number}", "cpus:1;mem:100")
        c.allocate()
        assert [offer.agent_id for offer in c.quota("q", "cpus:2;mem:200")] == ["a0", "a1"]
        assert c.allocate() == []

    def test_what_is_offered_on_a_guarantee_is_not_rescinded_for_another(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:2")
        c.framework("Q", "q")
        c.framework("other", "r")
        c.agent("a", "cpus:2;mem:100")
        c.allocate()
        c.agent("b", "cpus:2;mem:100")
        c.allocate()
        assert {offer.framework_id for offer in c.quota("p", "cpus:2")} <= {"other", "Q"}
        assert offered(c, "q") >= 2

    def test_nothing_is_rescinded_when_a_quota_goes(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:2", "cpus:3")
        c.framework("Q", "q")
        c.agent("a", "cpus:4;mem:100")
        c.allocate()
        assert c.quota("q") == []


class TestExplain:
    def why(self, c: TestCluster, framework: str) -> tuple[Why, str]:
        (reason,) = c.allocator.explain(framework)
        return reason.why, reason.sentence

    def test_a_limit_is_told_with_who_uses_it(self) -> None:
        c = TestCluster()
        c.quota("eng", limit="cpus:4")
        for name in ("one", "two", "three"):
            c.framework(name, "eng/batch", demands=True)
            c.request(name, demand("cpus:2;mem:10", 1, "eng/batch"))
        c.agent("a", "cpus:16;mem:1000")
        c.allocate()
        waiting = next(name for name in ("one", "two", "three") if c.allocator.explain(name))
        text = "role eng is at its limit of 4 cpus: 4 used, offered or reserved by 2 frameworks"
        assert self.why(c, waiting) == (Why.QUOTA_LIMIT, text)

    def test_what_is_kept_is_told_with_for_whom(self) -> None:
        c = TestCluster()
        c.quota("q", "cpus:3")
        c.framework("f", "r", demands=True)
        c.request("f", demand("cpus:2;mem:10", 1, "r"))
        c.agent("a", "cpus:4;mem:1000")
        c.allocate()
        assert self.why(c, "f") == (Why.GUARANTEED, "3 of the 4 cpus that are free are kept for the guarantees of q")

    def test_a_reservation_that_it_may_use_is_no_matter_of_the_limit(self) -> None:
        c = TestCluster()
        c.quota("q", limit="cpus:2")
        c.framework("f", "q", demands=True)
        c.request("f", demand("cpus:2;mem:10", 2, "q"))
        c.agent("a", "mem:1000;cpus(q):2")
        c.allocate()
        assert self.why(c, "f")[0] is Why.NO_FREE  # What is reserved is in use, but fits.
