"""The launcher's process: `PYTHON -S -E -I -X utf8 main.py --dir DIR [--build TEXT]`.

Isolated, so that it starts quickly, stays small and depends on nothing that could be uninstalled under it.
Exit status: 0 ended as asked, 1 failed, 2 wrong usage, 3 another launcher serves this directory.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import sys
import threading
import traceback


def main(argv: list[str]) -> int:
    """Serve the launcher of a directory. `--lock FD` is what a predecessor in place hands on."""
    options = dict(zip(argv[::2], argv[1::2], strict=False))
    if "--dir" not in options or len(argv) % 2 or not set(options) <= {"--dir", "--build", "--lock"}:
        print("usage: main.py --dir DIR [--build TEXT]", file=sys.stderr)
        return 2
    # The directory that holds the package `kernel`, from a checkout as from an installed wheel; last, so that it hides nothing.
    sys.path.append(os.path.abspath(__file__).removesuffix("/kernel/agent/launcher/main.py"))
    from kernel.agent.launcher import protocol
    from kernel.agent.launcher.loop import Launcher
    from kernel.agent.launcher.terminals import VARIABLE

    kept = int(options.get("--lock", 2))
    terminals = os.environ.pop(VARIABLE, "") if kept > 2 else ""
    last = 2
    for fd in sorted({kept, *itertools.chain.from_iterable(json.loads(terminals or "{}").values())}):
        os.closerange(last + 1, fd)  # What the agent's own starter forgot to close must not stay open as long as we and the tasks live.
        last = fd
    os.closerange(last + 1, 2**31 - 1)
    os.makedirs(options["--dir"], mode=0o700, exist_ok=True)
    os.chdir(options["--dir"])
    os.chmod(".", 0o700)  # What keeps other users away from the socket.
    lock = kept if kept > 2 else os.open(protocol.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.set_inheritable(lock, False)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return protocol.ALREADY_RUNNING

    launcher = Launcher(options.get("--build", ""), terminals)
    status = 1

    def serve() -> None:
        nonlocal status
        try:
            successor = launcher.run()
            if successor:
                os.set_inheritable(lock, True)
                os.execv(successor[0], [*successor, "--lock", str(lock)])
            status = 0
        except BaseException:
            traceback.print_exc()

    # Not in the main thread: see `spawn`.
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
