"""The GPUs of this machine, and which of them a container has. Values and decisions only; `kernel.agent.nvidia` asks the driver.

A GPU is a unit: a container has it alone and whole. Which it has is kept with what runs, so after a restart the same are taken.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate

from msgspec import Struct

from kernel.errors import ConfigError, KernelError
from kernel.wire.resources import Resource

QUERY = ("index", "uuid", "name", "memory.total", "pci.bus_id")  # Of `nvidia-smi --query-gpu`, in the order of the columns.
GPUS_MAX = 1024


class GpuError(KernelError):
    """The driver's tool says nothing that can be used; the text says why."""


class Gpu(Struct, frozen=True, array_like=True):
    """One GPU. index: its number at the driver; node: major and minor number of its device file at path, None where there is none."""

    index: int
    uuid: str
    name: str
    memory_mib: int
    bus_id: str
    path: str = ""
    node: tuple[int, int] | None = None

    @property
    def rule(self) -> str:
        """Its device as the kernel's device rules name it, "" where it has no file."""
        return f"c {self.node[0]}:{self.node[1]}" if self.node is not None else ""


class GpusFound(Struct, frozen=True):
    """What was found on this machine. trouble: why not more, in words; "" when all is well."""

    found: tuple[Gpu, ...] = ()
    trouble: str = ""


NO_GPUS = GpusFound()


def parse(text: str) -> tuple[Gpu, ...]:
    """What `nvidia-smi --query-gpu=... --format=csv,noheader,nounits` printed, a line each. Raises GpuError."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if not row:
            continue
        cells = [cell.strip() for cell in row]
        if len(cells) != len(QUERY) or not cells[0].isascii() or not cells[0].isdigit() or not cells[1]:
            raise GpuError(f"cannot read its answer {','.join(row)[:100]!r}")
        index, uuid, name, memory, bus_id = cells
        memory_mib = int(memory) if memory.isascii() and memory.isdigit() else 0  # "[N/A]" where memory is shared.
        found.append(Gpu(int(index), uuid, name, memory_mib, bus_id.lower()))
    if len({gpu.index for gpu in found}) != len(found) or len(found) > GPUS_MAX:
        raise GpuError("its answer names a GPU twice, or too many")
    return tuple(sorted(found, key=lambda gpu: gpu.index))


def offered(found: Sequence[Gpu], wanted: Collection[int] | None, count: int | None, trouble: str) -> tuple[Gpu, ...]:
    """The GPUs that the agent offers. wanted: their numbers, None all; count: how many, None as many as there are; trouble: why
    none were found. Raises ConfigError when they are not there."""
    here = f"; {trouble}" if trouble else f" (found: {', '.join(str(gpu.index) for gpu in found) or 'none'})"
    if wanted is not None:
        missing = sorted(set(wanted) - {gpu.index for gpu in found})
        if missing:
            raise ConfigError(f"--nvidia-gpu-devices: GPU {missing[0]} is not on this machine{here}")
        found = [gpu for gpu in found if gpu.index in wanted]
    if count is None:
        return tuple(found)
    if count > len(found):
        which = "this machine has" if wanted is None else "--nvidia-gpu-devices names"
        raise ConfigError(f"--resources: gpus:{count} is more than the {len(found)} that {which}{here}")
    return tuple(found[:count])


def choose(gpus: Iterable[Gpu], taken: Collection[int], count: int) -> tuple[int, ...] | None:
    """The numbers of so many GPUs that nobody has, the lowest first; None when there are not enough."""
    free = sorted({gpu.index for gpu in gpus} - set(taken))
    return tuple(free[:count]) if len(free) >= count else None


def count(resources: Iterable[Resource]) -> int:
    """How many GPUs these resources have."""
    return sum(round(resource.scalar.value) for resource in resources if resource.name == "gpus" and resource.scalar is not None)


def assign(gpus: Iterable[Gpu], taken: Collection[int], counts: Sequence[int]) -> list[tuple[int, ...]] | None:
    """The same for several that are started together, one after the other: all of them or none."""
    together = choose(gpus, taken, sum(counts))
    if together is None:
        return None
    ends = list(accumulate(counts))
    return [together[end - wanted : end] for wanted, end in zip(counts, ends, strict=True)]


def variables(gpus: Sequence[Gpu]) -> dict[str, str]:
    """What tells programs, and the images of NVIDIA, which GPUs are theirs. None of them: none, not all."""
    names = ",".join(gpu.uuid for gpu in gpus)
    return {"NVIDIA_VISIBLE_DEVICES": names or "void", "CUDA_VISIBLE_DEVICES": names}
