"""Machines in a maintenance schedule: who is one, and what is wrong with a schedule (spec: mesos-v1, section 5.2)."""

from __future__ import annotations

import pytest

from kernel.errors import CallError
from kernel.master.machines import Machines, checked_machines, checked_schedule, describe
from kernel.wire.common import DurationInfo, TimeInfo
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.operator import Schedule, Window

SOON = Unavailability(TimeInfo(10**18), DurationInfo(3600 * 10**9))
LATER = Unavailability(TimeInfo(2 * 10**18))


def window(*machines: MachineID, unavailability: Unavailability = SOON) -> Window:
    return Window(unavailability, machines)


@pytest.mark.parametrize(
    ("machine", "hostname", "ip", "same"),
    [
        (MachineID("n1"), "n1", "10.0.0.4", True),
        (MachineID("n1"), "N1", "10.0.0.4", True),
        (MachineID("n1"), "n2", "10.0.0.4", False),
        (MachineID(ip="10.0.0.4"), "n1", "10.0.0.4", True),
        (MachineID(ip="10.0.0.4"), "n1", "10.0.0.5", False),
        (MachineID("n1", "10.0.0.4"), "n1", "10.0.0.4", True),
        (MachineID("n1", "10.0.0.4"), "n1", "10.0.0.5", False),
        (MachineID(ip="::1"), "n1", "0:0::1", True),
        (MachineID("n1"), "", "not an ip", False),
    ],
)
def test_an_agent_is_on_the_machine_whose_every_name_it_has(machine: MachineID, hostname: str, ip: str, same: bool) -> None:
    machines = Machines(Schedule((window(machine),)))
    assert machines.find(hostname, ip) == (machine if same else None)
    assert machines.unavailability(hostname, ip) == (SOON if same else None)


def test_nothing_is_scheduled_in_an_empty_schedule() -> None:
    assert not Machines()
    assert Machines().find("n1", "10.0.0.4") is None


def test_names_are_compared_in_one_form() -> None:
    (only,) = checked_schedule(Schedule((window(MachineID("N1", "0:0::1")),))).windows
    assert only.machine_ids == (MachineID("n1", "::1"),)
    assert checked_machines((MachineID("", "10.0.0.1"),)) == (MachineID(None, "10.0.0.1"),)


@pytest.mark.parametrize(
    ("machines", "fault"),
    [
        ((), r"schedule\.windows\[0\]\.machine_ids: at least one machine is needed"),
        ((MachineID(),), r"machine_ids\[0\]: a hostname, an ip or both are needed"),
        ((MachineID("", ""),), r"machine_ids\[0\]: a hostname, an ip or both are needed"),
        ((MachineID("n" * 256),), r"machine_ids\[0\]\.hostname: at most 255 characters"),
        ((MachineID("a b"),), r"hostname: at most 255 characters without spaces"),
        ((MachineID("a\nb"),), r"hostname: at most 255 characters"),
        ((MachineID("n1", "300.0.0.1"),), r"machine_ids\[0\]\.ip: '300\.0\.0\.1' is not an IP address"),
        ((MachineID("n1"), MachineID("N1")), r"machine_ids\[1\]: machine 'n1' is named more than once"),
        ((MachineID("n1"), MachineID("n1", "10.0.0.4")), r"machine 'n1 \(10\.0\.0\.4\)' is named more than once"),
        ((MachineID("n1", "10.0.0.4"), MachineID("n1")), r"machine 'n1' is named more than once"),
        ((MachineID("n1", "10.0.0.4"), MachineID(ip="10.0.0.4")), r"machine '10\.0\.0\.4' is named more than once"),
        ((MachineID(ip="10.0.0.4"), MachineID("n1", "10.0.0.4")), r"is named more than once"),
    ],
)
def test_what_is_wrong_is_named(machines: tuple[MachineID, ...], fault: str) -> None:
    with pytest.raises(CallError, match=fault):
        checked_schedule(Schedule((window(*machines),)))


def test_each_machine_is_in_one_window() -> None:
    with pytest.raises(CallError, match=r"schedule\.windows\[1\]\.machine_ids\[0\]: machine 'n1' is named more than once"):
        checked_schedule(Schedule((window(MachineID("n1")), window(MachineID("n1"), unavailability=LATER))))


def test_machines_that_share_one_name_of_two_are_different() -> None:
    both = (MachineID("n1", "10.0.0.4"), MachineID("n1", "10.0.0.5"))
    assert checked_schedule(Schedule((window(*both),))).windows[0].machine_ids == both


def test_a_negative_duration_is_refused() -> None:
    wrong = Unavailability(TimeInfo(0), DurationInfo(-1))
    with pytest.raises(CallError, match=r"schedule\.windows\[0\]\.unavailability\.duration: -1 ns is not allowed"):
        checked_schedule(Schedule((window(MachineID("n1"), unavailability=wrong),)))


def test_what_is_brought_up_leaves_its_window_and_an_empty_window_goes() -> None:
    a, b, c = MachineID("a"), MachineID("b"), MachineID("c")
    machines = Machines(Schedule((window(a, b), window(c, unavailability=LATER))), [a, c])
    left = machines.without(frozenset({a, c}))
    assert left.schedule == Schedule((window(b),))
    assert left.down == frozenset()
    assert list(left.draining()) == [b]


def test_a_machine_in_words() -> None:
    assert [describe(machine) for machine in (MachineID("n1"), MachineID(ip="::1"), MachineID("n1", "::1"))] == ["n1", "::1", "n1 (::1)"]
