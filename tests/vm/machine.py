"""A Linux of the tests' own, for what depends on how a machine was set up: which control groups it has mounted.

It is Debian's kernel for user mode (user-mode-linux, laid out by `tests/setup_vm.sh`): one process of this machine, which needs no
root and no processor that helps. It sees the files of this machine, and what it writes is forgotten; its users are its own, so a command
is root in it. One cpu; no network but its own loopback.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HOME = REPOSITORY / ".cache" / "vm"
KERNEL = HOME / "usr" / "bin" / "linux.uml"
CGROUPS = ("1", "2", "mixed", "container-1", "container-2")  # As `init.sh` mounts them.
ENVIRON = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": str(REPOSITORY),
    "TMPDIR": "/run/tmp",
}


class MachineError(Exception):
    """The machine did not come to the end of the command; the text has what its kernel said last."""


def run(command: Sequence[str], cgroups: str, environ: Mapping[str, str] | None = None, mem_mib: int = 2560) -> int:
    """Run a command in the repository, in a new machine; return its exit status. Its output is ours. Raises MachineError."""
    with tempfile.TemporaryDirectory(prefix="meseta-vm-") as share, tempfile.TemporaryFile() as console:
        environ = {**ENVIRON, **(environ or {})}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in environ.items()]
        lines += [f"cd {shlex.quote(str(REPOSITORY))}", shlex.join(command)]
        Path(share, "command").write_text("\n".join(lines) + "\n")
        said = {"VM_HOME": HOME, "VM_SHARE": share, "VM_CGROUPS": cgroups}
        arguments = [f"mem={mem_mib}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", f"uml_dir={share}/"]
        arguments += [f"init={REPOSITORY}/tests/vm/init.sh", "con=null", "con0=null,fd:2", "con1=null,fd:1", "con2=fd:0,null"]
        arguments += [f"{name}={value}" for name, value in said.items()]
        sys.stdout.flush()
        machine = subprocess.Popen(
            [KERNEL, *arguments],
            stdin=subprocess.PIPE,  # Nothing is written: its end tells the machine that we are gone, however that came about.
            stderr=console,
            start_new_session=True,
        )
        try:
            machine.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # Its processes are processes of this machine.
                os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
        try:
            return int(Path(share, "status").read_text())
        except FileNotFoundError:
            console.seek(0)
            text = console.read()[-4000:].decode(errors="replace")
            raise MachineError(f"the virtual machine ended before its command; its kernel said last:\n{text}") from None
