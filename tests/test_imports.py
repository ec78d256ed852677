"""Who may import whom (docs/architecture.md), read from the sources: a wrong arrow fails here, with the file that draws it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("kernel", "frameworks", "chronos", "hadoop_adapter", "web", "bench")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


BASE = (
    *("kernel.errors", "kernel.clock", "kernel.metrics", "kernel.config", "kernel.daemons", "kernel.endpoints", "kernel.flags"),
    *("kernel.zookeeper", "kernel"),
)
WIRE = (*BASE, "kernel.wire")
SERVICES = (*WIRE, "kernel.net", "kernel.store", "kernel.election", "kernel.mainloop")
SDK = (*SERVICES, "frameworks.sdk")
CLIENT = (*SERVICES, "kernel.cli", "kernel.commands")

# The longest prefix of a module that is listed here says what else it may import of ours, besides its own prefix.
MAY_IMPORT = {
    "kernel": (),  # Whatever is not listed below.
    "kernel.errors": (),
    "kernel.clock": (),
    "kernel.metrics": ("kernel.errors",),
    "kernel.config": ("kernel.errors",),
    "kernel.flags": ("kernel.errors", "kernel.config"),
    "kernel.daemons": (),
    "kernel.endpoints": (),
    "kernel.zookeeper": ("kernel.errors",),
    "kernel.supervisor": (),  # Run by its path, without site-packages.
    "kernel.cli": BASE,
    "kernel.up": (*BASE, "kernel.cli", "kernel.supervisor"),
    "kernel.commands": (*CLIENT, "kernel.planning"),
    "kernel.wire": BASE,
    "kernel.net": WIRE,
    "kernel.store": BASE,
    "kernel.election": (*WIRE, "kernel.net"),
    "kernel.mainloop": (*BASE, "kernel.store"),
    "kernel.master": SERVICES,
    "kernel.master.allocator": ("kernel.wire", "kernel.errors", "kernel.clock"),
    "kernel.planning": ("kernel.wire", "kernel.errors", "kernel.clock", "kernel.master.allocator", "kernel.master.quota_validation"),
    "kernel.executor": WIRE,
    "kernel.agent": (*SERVICES, "kernel.executor"),  # The built-in executors run inside the agent.
    "kernel.agent.launcher": (),  # A process of its own, standard library only.
    "kernel.agent.launcher.client": ("kernel.errors", "kernel.agent.launcher"),  # The agent's end of it.
    "frameworks": (),
    "frameworks.sdk": SERVICES,
    "frameworks.run": (*SDK, *CLIENT),
    "frameworks.services": (*SDK, *CLIENT),
    "frameworks.celery_pool": (*SDK, *CLIENT),
    "chronos": (*SDK, *CLIENT),
    "hadoop_adapter": (*SDK, *CLIENT),
    "web": ("kernel.wire", "kernel.errors", "kernel.config", "kernel.flags", "kernel.daemons"),
    "bench": tuple(name for name in SOURCES if not name.startswith("bench")),  # It measures all of them.
}

HOMES = {
    "aiohttp": r"kernel/net/|kernel/(master|agent)/|bench/|chronos/api|frameworks/\w+/api|hadoop_adapter/",
    "celery": r"frameworks/celery_pool/|chronos/calls/celery\.py",
    "click": r"kernel/(cli|flags|up)\.py|kernel/commands/|(frameworks/\w+|chronos|hadoop_adapter|web|bench)/(cli|main|report)(\.py|/)",
    "croniter": r"chronos/schedule/cron\.py",
    "docker": r"kernel/agent/containerizer/docker\.py",
    "flask": r"web/",
    "kazoo": r"kernel/((store|election)/)?zookeeper\.py",
    "kombu": r"frameworks/celery_pool/|chronos/calls/celery\.py",
    "matplotlib": r"kernel/planning/chart\.py",
    "prometheus_client": r"kernel/(metrics|net/prometheus)\.py",
    "re2": r"kernel/wire/constraints\.py",
    "redis": r"kernel/store/redis\.py|frameworks/celery_pool/broker\.py",
    "requests": r"(?!)",  # It comes with docker; we have no use for it.
    "sqlite3": r"kernel/store/sqlite\.py|chronos/(history|feed|rows)\.py",
    "uvloop": r"kernel/net/loop\.py",
    "yaml": r"chronos/importers/yaml\.py",
}

CORES = (
    *("kernel.master.core", "kernel.agent.core", "kernel.agent.launcher.core", "frameworks.sdk.scheduler", "frameworks.run.core"),
    *("chronos.validation", "chronos.joins", "chronos.core", "chronos.notify", "chronos.importers.crontab", "chronos.importers.folder"),
    *("chronos.importers.kubernetes", "chronos.importers.celery_beat"),
)
IMPURE_OF_OS = r"\bos\.(?!W[A-Z]+\b|waitstatus_to_exitcode\b)\w+"  # Reading a wait status touches nothing.
IMPURE = {"asyncio", "concurrent", "os", "pathlib", "random", "secrets", "select", "socket", "subprocess", "tempfile", "threading", "time"}
# What cores need of these is inert: the loop's own messages (Tick, Persist, Reply), `Now`, `Setting`.
EDGES_WITH_VALUES = {"kernel.mainloop", "kernel.clock", "kernel.config"}


def imports(module: str) -> Iterator[str]:
    """Everything a module imports, also inside functions; `from x import y` is y's module where y is one."""
    tree = ast.parse(SOURCES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            name = node.module or ""
            submodules = [f"{name}.{alias.name}" for alias in node.names if f"{name}.{alias.name}" in SOURCES]
            yield from submodules
            if len(submodules) < len(node.names):
                yield name


def under(module: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a module is one of, or lies in one of, the packages. `kernel` names its `__init__` alone."""
    return any(module == prefix or (prefix != "kernel" and module.startswith(prefix + ".")) for prefix in prefixes)


def ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


@pytest.mark.parametrize("module", SOURCES)
def test_imports_follow_the_layers(module: str) -> None:
    layer = max((prefix for prefix in MAY_IMPORT if under(module, (prefix,)) or prefix == module.partition(".")[0]), key=len)
    allowed = (layer, *MAY_IMPORT[layer])
    wrong = {name for name in imports(module) if ours(name) and not under(name, allowed)}
    assert not wrong, f"{module}, in the layer {layer}, imports {sorted(wrong)}"


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(library: str) -> None:
    strangers = [
        path.relative_to(ROOT).as_posix()
        for module, path in SOURCES.items()
        if any(name.partition(".")[0] == library for name in imports(module))
        and not re.match(HOMES[library], path.relative_to(ROOT).as_posix())
    ]
    assert not strangers


def closure(module: str) -> set[str]:
    """A module and all of ours that it needs."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in SOURCES and name not in found and name not in EDGES_WITH_VALUES:
            found.add(name)
            waiting += imports(name)
    return found


@pytest.mark.parametrize("core", [core for core in CORES if core in SOURCES])
def test_cores_are_pure(core: str) -> None:
    """Equal inputs in equal order give equal effects: no clock, no chance, no files, no sockets, no event loop."""
    for module in closure(core):
        source = SOURCES[module].read_text()
        touched = {name.partition(".")[0] for name in imports(module)} & IMPURE
        if not re.search(IMPURE_OF_OS, source):
            touched.discard("os")
        assert not touched, f"{module}, needed by {core}, imports {sorted(touched)}"
        assert not re.search(r"\buuid[14]\(", source), f"{module} makes ids of chance"


def test_every_module_says_what_it_is_for() -> None:
    silent = [module for module, path in SOURCES.items() if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_the_launcher_and_the_supervisor_need_the_standard_library_only() -> None:
    for process in ("kernel.agent.launcher.main", "kernel.supervisor"):
        for module in closure(process):
            strangers = {name for name in imports(module) if name not in SOURCES and name.partition(".")[0] not in sys.stdlib_module_names}
            assert not strangers, f"{module}, needed by {process}"
