"""What is measured of the machine."""

from __future__ import annotations

from kernel.agent.oversubscription.measuring import machine, memory_mib


def test_memory_is_read_as_the_kernel_tells_it() -> None:
    assert memory_mib(["MemTotal:       8192000 kB", "MemFree: 1 kB", "MemAvailable:    2048000 kB"]) == (8000, 2000)


def test_a_kernel_that_does_not_tell_what_is_available_tells_nothing() -> None:
    assert memory_mib(["MemTotal:       8192000 kB", "MemFree: 1 kB"]) == (0, 0)


def test_this_machine_has_memory_and_a_load() -> None:
    found = machine()
    assert found.mem > found.mem_available > 0
    assert found.load_5 >= 0
