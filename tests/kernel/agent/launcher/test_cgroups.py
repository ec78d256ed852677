"""Where the launcher's way home leads, as the kernel tells of control groups and mounts."""

from __future__ import annotations

import pytest

from kernel.agent.launcher.cgroups import homes

ONE = "33 32 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
TWO = "31 30 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = ["24 1 0:22 / /proc rw shared:5 - proc proc rw\n", "35 32 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"]


@pytest.mark.parametrize(
    ("groups", "mount", "home"),
    [
        ("0::/", TWO.format(root="/"), ("/sys/fs/cgroup", "/sys/fs/cgroup/cgroup.procs")),
        ("0::/init", TWO.format(root="/"), ("/sys/fs/cgroup", "/sys/fs/cgroup/init/cgroup.procs")),
        ("4:cpu,cpuacct:/", ONE.format(root="/"), ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/tasks")),
        ("4:cpu,cpuacct:/a/b", ONE.format(root="/"), ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a/b/tasks")),
        ("4:cpu,cpuacct:/docker/1", ONE.format(root="/docker/1"), ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/tasks")),
        ("4:cpu,cpuacct:/docker/1/x", ONE.format(root="/docker/1"), ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/x/tasks")),
        ("4:cpu,cpuacct:/docker/12", ONE.format(root="/docker/1"), None),
        ("4:cpu,cpuacct:/", ONE.format(root="/docker/1"), None),
    ],
)
def test_a_way_home_is_below_what_is_mounted(groups: str, mount: str, home: tuple[str, str] | None) -> None:
    assert homes([groups + "\n"], [*OTHERS, mount]) == ([home] if home else [])


def test_what_is_mounted_last_at_a_place_is_what_is_seen_there() -> None:
    mounts = [ONE.format(root="/"), ONE.format(root="/docker/1")]
    assert homes(["4:cpu,cpuacct:/docker/1"], mounts) == [("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/tasks")]
    assert homes(["4:cpu,cpuacct:/other"], mounts) == []


def test_spaces_in_a_mount_point() -> None:
    mount = r"31 30 0:26 / /groups\040here rw - cgroup2 cgroup2 rw"
    assert homes(["0::/\n"], [mount]) == [("/groups here", "/groups here/cgroup.procs")]
