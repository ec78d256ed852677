"""Filters of system calls: profiles in Docker's form, and what of them is for a container and its machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.containerizer.oci_spec import unsupported_in_image
from kernel.agent.containerizer.seccomp import Place, Profile, SeccompError, parse, told
from kernel.agent.containerizer.seccomp_default import DEFAULT
from kernel.agent.containerizer.seccomp_profiles import Profiles
from kernel.errors import ConfigError
from kernel.wire.container import ContainerInfo, LinuxInfo, SeccompInfo

HERE = Place("x86_64", "6.1.0-13-amd64", ("CAP_CHOWN", "CAP_SYS_CHROOT"))


def profile(*rules: dict[str, Any], **fields: Any) -> Profile:
    return parse(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules, **fields}).encode())


def allowed(given: Profile, place: Place = HERE) -> set[str]:
    """The calls that are allowed whatever their arguments."""
    rules = told(given, place)["syscalls"]
    return {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") for name in rule["names"]}


def rule(**fields: Any) -> dict[str, Any]:
    return {"names": ["call"], "action": "SCMP_ACT_ALLOW", **fields}


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"excludes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"includes": {}, "excludes": {}}, True),
    ],
)
def test_a_rule_may_be_for_some_containers_only(conditions: dict[str, Any], applies: bool) -> None:
    assert allowed(profile(rule(**conditions))) == ({"call"} if applies else set())


def test_what_runc_is_told() -> None:
    found = told(
        profile(
            rule(args=[{"index": 1, "value": 3, "valueTwo": 4, "op": "SCMP_CMP_MASKED_EQ"}]),
            {"name": "old", "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": None},
            defaultErrnoRet=1,
            archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        ),
        HERE,
    )
    assert found == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["call"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 3, "valueTwo": 4, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["old"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }
    assert told(profile(architectures=["SCMP_ARCH_X86"]), HERE)["architectures"] == ["SCMP_ARCH_X86"]
    assert "architectures" not in told(profile(), HERE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "no profile"),
        (b"{}", "defaultAction"),
        (b'{"defaultAction": "SCMP_ACT_NOTIFY"}', "its defaultAction 'SCMP_ACT_NOTIFY' is none of SCMP_ACT_ALLOW"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "x"}]}', "its syscalls.action 'x'"),
        (
            b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": '
            b'[{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "EQ"}]}]}',
            "its syscalls.args.op 'EQ'",
        ),
    ],
)
def test_what_is_wrong_with_a_profile_is_said(text: bytes, says: str) -> None:
    with pytest.raises(SeccompError, match=says):
        parse(text)


def test_our_own_keeps_from_the_kernel_and_allows_what_programs_need() -> None:
    plain, admin = allowed(DEFAULT), allowed(DEFAULT, Place("x86_64", "6.1", ("CAP_SYS_ADMIN",)))
    assert {"read", "execve", "openat", "futex", "clone3"} - plain == {"clone3"}
    assert not {"mount", "unshare", "setns", "bpf", "init_module", "kexec_load", "keyctl", "perf_event_open", "reboot"} & plain
    assert {"mount", "unshare", "setns", "bpf", "clone3"} <= admin
    clone3 = [rule for rule in told(DEFAULT, HERE)["syscalls"] if rule["names"] == ["clone3"]]
    assert clone3 == [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]  # So that libraries take clone.
    assert "chroot" in plain
    assert "arm_fadvise64_64" in allowed(DEFAULT, Place("aarch64", "6.1", ()))


# ---- Which --------------------------------------------------------------------------------------------------


def asking(**fields: Any) -> ContainerInfo:
    return ContainerInfo(linux_info=LinuxInfo(seccomp=SeccompInfo(**fields)))


def test_a_task_has_its_own_else_the_agents_else_ours(tmp_path: Path) -> None:
    for name in ("tasks", "agents"):
        (tmp_path / name).write_text(
            json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO"}]})
        )
    agents = Profiles(str(tmp_path), "agents")
    found = [agents.profile(info) for info in (ContainerInfo(), asking(), asking(profile_name="tasks"))]
    assert [one.syscalls[0].names for one in found if one is not None and one.syscalls] == [("agents",), ("agents",), ("tasks",)]
    assert agents.profile(asking(unconfined=True)) is None
    assert Profiles("", "").profile(ContainerInfo()) is DEFAULT


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "absent", ""])
def test_a_profile_that_is_not_there_is_said(name: str, tmp_path: Path) -> None:
    if name:
        with pytest.raises(SeccompError, match="seccomp profile"):
            Profiles(str(tmp_path), "").profile(asking(profile_name=name))
    with pytest.raises(SeccompError, match="--seccomp_config_dir"):
        Profiles("", "").profile(asking(profile_name="x"))
    with pytest.raises(ConfigError, match="--seccomp_profile_name"):
        Profiles(str(tmp_path), name or "absent")


def test_a_name_and_unconfined_exclude_each_other() -> None:
    assert "exclude each other" in (unsupported_in_image(asking(profile_name="x", unconfined=True)) or "")
