"""Filters of system calls: profiles as Docker and Mesos have them, and what of one runc is told for a container. Pure.

A profile's rules depend on the container's capabilities and on the machine; what runc takes has no conditions any more. Sources: OCI
runtime-spec 1.0.2, config-linux.md, Seccomp; Docker's documentation, "Seccomp security profiles".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from kernel.errors import CallError

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
ACTIONS = (
    ALLOW,
    ERRNO,
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
)
OPERATORS = tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
PROFILE_BYTES_MAX = 1 << 20
PLACES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64"), "riscv64": ("riscv64", "SCMP_ARCH_RISCV64")}
"""What machines are called by profiles, and by libseccomp."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class SeccompError(CallError):
    """A profile cannot be used; the text says why."""


class Argument(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What an argument of a call must be. value_two: of SCMP_CMP_MASKED_EQ, whose value is the mask."""

    index: int
    value: int
    op: str
    value_two: int = 0


class Conditions(Struct, frozen=True, rename="camel"):
    """caps: of which the container has all (excludes: any). arches: the machine is one. min_kernel: as `4.8`."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


class Rule(Struct, frozen=True, rename="camel"):
    """What becomes of calls, by all of args. A profile of old has one `name`."""

    action: str
    names: tuple[str, ...] = ()
    args: tuple[Argument, ...] | None = None
    errno_ret: int | None = None
    includes: Conditions | None = None
    excludes: Conditions | None = None
    name: str = ""


class Architecture(Struct, frozen=True, rename="camel"):
    """A machine's own, and the others whose programs it runs."""

    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class Profile(Struct, frozen=True, rename="camel"):
    """A filter for any container. architectures: without arch_map, for which machines it is."""

    default_action: str
    default_errno_ret: int | None = None
    arch_map: tuple[Architecture, ...] | None = None
    architectures: tuple[str, ...] | None = None
    syscalls: tuple[Rule, ...] | None = None


class Place(Struct, frozen=True):
    """Where a container runs: what `uname` says of the machine and its kernel; capabilities: its bounding set, as `CAP_CHOWN`."""

    machine: str
    release: str
    capabilities: Collection[str]


def path_of(name: str, folder: str) -> str:
    """The file of a profile. Raises SeccompError."""
    if not folder:
        raise SeccompError(f"seccomp profile {name!r}: this agent has none by name (--seccomp_config_dir)")
    if not _NAME.fullmatch(name):
        raise SeccompError(f"seccomp profile {name[:100]!r}: it must be the name of a file in {folder}")
    return f"{folder}/{name}"


def parse(text: bytes) -> Profile:
    """A profile as a file has it. Raises SeccompError."""
    try:
        profile = msgspec.json.decode(text, type=Profile)
    except msgspec.MsgspecError as error:
        raise SeccompError(f"it is no profile: {error}") from None
    rules = profile.syscalls or ()
    _known("defaultAction", [profile.default_action], ACTIONS)
    _known("syscalls.action", [rule.action for rule in rules], ACTIONS)
    _known("syscalls.args.op", [argument.op for rule in rules for argument in rule.args or ()], OPERATORS)
    return profile


def _known(field: str, values: Collection[str], allowed: Collection[str]) -> None:
    unknown = next((value for value in values if value not in allowed), None)
    if unknown is not None:
        raise SeccompError(f"its {field} {unknown[:100]!r} is none of {', '.join(allowed)}")


def told(profile: Profile, place: Place) -> dict[str, Any]:
    """What runc is told: `linux.seccomp` of its configuration."""
    rules = [rule for rule in profile.syscalls or () if _applies(rule, place)]
    found: dict[str, Any] = {"defaultAction": profile.default_action, "syscalls": [_rule(rule) for rule in rules]}
    if profile.default_errno_ret is not None:
        found["defaultErrnoRet"] = profile.default_errno_ret
    architectures = _architectures(profile, place.machine)
    if architectures:
        found["architectures"] = architectures
    return found


def _architectures(profile: Profile, machine: str) -> list[str]:
    """Without any it is the machine's own only, as runc has it."""
    own = PLACES.get(machine, ("", ""))[1]
    for entry in profile.arch_map or ():
        if entry.architecture == own:
            return [own, *(entry.sub_architectures or ())]
    return list(profile.architectures or ())


def _rule(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"names": [*rule.names, *filter(None, [rule.name])], "action": rule.action}
    if rule.errno_ret is not None:
        found["errnoRet"] = rule.errno_ret
    if rule.args:
        found["args"] = [msgspec.to_builtins(argument) for argument in rule.args]
    return found


def _applies(rule: Rule, place: Place) -> bool:
    includes, excludes = rule.includes or Conditions(), rule.excludes or Conditions()
    arch = PLACES.get(place.machine, (place.machine, ""))[0]
    return (
        set(includes.caps) <= set(place.capabilities)
        and (not includes.arches or arch in includes.arches)
        and _numbers(place.release) >= _numbers(includes.min_kernel)
        and not set(excludes.caps) & set(place.capabilities)
        and arch not in excludes.arches
        and not (excludes.min_kernel and _numbers(place.release) >= _numbers(excludes.min_kernel))
    )


def _numbers(release: str) -> tuple[int, ...]:
    """`6.1.0-rc2` -> (6, 1): what kernels are compared by."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
