"""The machines that are scheduled for maintenance, and when (spec: mesos-v1, section 5.2). Pure.

A machine is named by hostname, ip or both; it is whatever agent has all that is named. (Mesos asks for both.) So no two names
may be those of one machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from kernel.errors import CallError
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.operator import Schedule, Window

HOSTNAME_CHARS_MAX = 255


class Machines:
    """A schedule, by machine; never changed. windows: when each is to be unavailable, in the order of the schedule; down: those
    that are now."""

    __slots__ = ("down", "schedule", "windows")

    def __init__(self, schedule: Schedule = Schedule(), down: Iterable[MachineID] = ()) -> None:  # noqa: B008 - immutable.
        self.schedule = schedule
        self.down = frozenset(down)
        self.windows = {machine: window.unavailability for window in schedule.windows for machine in window.machine_ids}

    def __bool__(self) -> bool:
        return bool(self.windows)

    def find(self, hostname: str, ip: str) -> MachineID | None:
        """The scheduled machine that an agent is on."""
        if not self.windows:
            return None
        hostname, ip = hostname.lower(), _canonical(ip) or ip
        names = (MachineID(hostname, ip), MachineID(hostname), MachineID(None, ip))
        return next((name for name in names if name in self.windows), None)

    def unavailability(self, hostname: str, ip: str) -> Unavailability | None:
        """When an agent is to be unavailable; None: nothing is planned."""
        machine = self.find(hostname, ip)
        return self.windows[machine] if machine is not None else None

    def is_down(self, hostname: str, ip: str) -> bool:
        """Whether no agent may be there now."""
        return self.find(hostname, ip) in self.down

    def draining(self) -> Iterator[MachineID]:
        """Those scheduled that are not down."""
        return (machine for machine in self.windows if machine not in self.down)

    def without(self, machines: frozenset[MachineID]) -> Machines:
        """The rest of the schedule; a window of none of them is as it was, one without a machine left goes."""
        windows = []
        for window in self.schedule.windows:
            left = tuple(machine for machine in window.machine_ids if machine not in machines)
            if left:
                windows.append(replace(window, machine_ids=left))
        return Machines(Schedule(tuple(windows)), self.down - machines)


def checked_schedule(schedule: Schedule) -> Schedule:
    """The schedule with its machines as they are compared. Raises CallError, naming the field."""
    named = _Named()
    windows = []
    for number, window in enumerate(schedule.windows):
        at = f"schedule.windows[{number}]"
        duration = window.unavailability.duration
        if duration is not None and duration.nanoseconds < 0:
            raise CallError(f"{at}.unavailability.duration: {duration.nanoseconds} ns is not allowed; 0 and more are")
        windows.append(Window(window.unavailability, _checked(window.machine_ids, f"{at}.machine_ids", named)))
    return Schedule(tuple(windows))


def checked_machines(machines: tuple[MachineID, ...]) -> tuple[MachineID, ...]:
    """Machines as they are compared. Raises CallError, naming the field."""
    return _checked(machines, "machines", _Named())


def describe(machine: MachineID) -> str:
    """`n1`, `10.0.0.4` or `n1 (10.0.0.4)`."""
    return f"{machine.hostname} ({machine.ip})" if machine.hostname and machine.ip else machine.hostname or machine.ip or ""


class _Named:
    """Machines that were named already, and the shorter names of those that were named in full."""

    __slots__ = ("_parts", "_whole")

    def __init__(self) -> None:
        self._whole: set[MachineID] = set()
        self._parts: set[MachineID] = set()

    def add(self, machine: MachineID) -> bool:
        """Note a machine; False when it may be one that was named before."""
        parts = {MachineID(machine.hostname), MachineID(None, machine.ip)} if machine.hostname and machine.ip else set()
        if machine in self._whole or machine in self._parts or parts & self._whole:
            return False
        self._whole.add(machine)
        self._parts |= parts
        return True


def _checked(machines: tuple[MachineID, ...], at: str, named: _Named) -> tuple[MachineID, ...]:
    if not machines:
        raise CallError(f"{at}: at least one machine is needed")
    found = tuple(_checked_machine(machine, f"{at}[{number}]") for number, machine in enumerate(machines))
    for number, machine in enumerate(found):
        if not named.add(machine):
            raise CallError(f"{at}[{number}]: machine '{describe(machine)}' is named more than once")
    return found


def _checked_machine(machine: MachineID, at: str) -> MachineID:
    hostname = machine.hostname
    if not hostname and not machine.ip:
        raise CallError(f"{at}: a hostname, an ip or both are needed")
    if hostname and (len(hostname) > HOSTNAME_CHARS_MAX or not hostname.isprintable() or " " in hostname):
        raise CallError(f"{at}.hostname: at most {HOSTNAME_CHARS_MAX} characters without spaces are allowed")
    ip = _canonical(machine.ip) if machine.ip else None
    if machine.ip and ip is None:
        raise CallError(f"{at}.ip: '{machine.ip[:50]}' is not an IP address")
    return MachineID(hostname.lower() if hostname else None, ip)


def _canonical(ip: str) -> str | None:
    try:
        return str(ipaddress.ip_address(ip))
    except ValueError:
        return None
