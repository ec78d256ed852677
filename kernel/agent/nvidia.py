"""Which NVIDIA GPUs are here, as the driver's own tool tells, and where their device files are.

The tool may be missing, broken or stuck with the driver; then there are no GPUs, and the agent works without.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

from msgspec.structs import replace

from kernel.agent.gpus import NO_GPUS, QUERY, Gpu, GpuError, GpusFound, parse

TOOL = "nvidia-smi"
ANSWER_S = 20.0  # The driver takes seconds to wake up where nothing keeps it awake.
ANSWER_BYTES_MAX = 1 << 20
DRIVER = "/proc/driver/nvidia/gpus"
CONTROLS = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")  # Device files that all who use a GPU need.


def find(device_dir: str = "/dev") -> GpusFound:
    """Ask the tool. Waits for it."""
    tool = shutil.which(TOOL)
    if tool is None:
        return NO_GPUS
    try:
        return GpusFound(tuple(_placed(gpu, device_dir) for gpu in parse(_ask(tool))))
    except GpuError as error:
        return GpusFound(trouble=f"{tool}: {error}")


def controls(device_dir: str) -> dict[str, tuple[int, int]]:
    """The device files that belong to no GPU, by path: their major and minor numbers."""
    paths = (f"{device_dir}/{name}" for name in CONTROLS)
    return {path: node for path in paths if (node := _node(path)) is not None}


def _ask(tool: str) -> str:
    command = [tool, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise GpuError(f"cannot be run: {error.strerror}") from error
    try:
        output, _ = process.communicate(timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        process.kill()  # Not waited for: what hangs in the driver cannot even be killed.
        raise GpuError(f"does not answer within {ANSWER_S:g} s") from None
    text = output[:ANSWER_BYTES_MAX].decode(errors="replace")
    if process.returncode != 0:
        raise GpuError(f"ends with status {process.returncode}: {' '.join(text.split())[:200]}")
    return text


def _placed(gpu: Gpu, device_dir: str) -> Gpu:
    path = f"{device_dir}/nvidia{_minor(gpu)}"
    node = _node(path)
    return gpu if node is None else replace(gpu, path=path, node=node)


def _minor(gpu: Gpu) -> int:
    """The number in the name of its device file, which need not be the tool's number: the driver's own files tell."""
    domain, _, rest = gpu.bus_id.partition(":")
    try:
        with open(f"{DRIVER}/{domain[-4:]}:{rest}/information", encoding="ascii", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        return int(fields["Device Minor"])
    except (OSError, KeyError, ValueError):
        return gpu.index


def _node(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (os.major(found.st_rdev), os.minor(found.st_rdev)) if stat.S_ISCHR(found.st_mode) else None
