"""Becomes a llama-server: `python -I -S native_worker.py PARENT_PID`.

Reads a line of configuration on stdin and turns into the server (exec), so that this
process's id, memory and end are the server's. On Linux the kernel ends it with its parent;
elsewhere a child of it watches stdin, whose end means that the parent is gone. Standard
library only: it starts without site-packages.
"""

import json
import os
import select
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
_WATCH_EVERY_S = 0.2


def main() -> None:
    """Read the configuration, become the server."""
    _die_with_parent(int(sys.argv[1]))
    config = _read_line()
    if sys.platform != "linux" and os.fork() == 0:
        _watch(os.getppid())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    command = config["command"]
    if config.get("polite"):
        os.nice(10)
    try:
        os.execve(command[0], command, {**os.environ, **config["environment"]})
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(127)


def _read_line() -> Any:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(1)
        line += piece
    return json.loads(line)


def _die_with_parent(parent: int) -> None:
    """The kernel kills us, and what we become, with the thread that started us."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


def _watch(server: int) -> None:
    """Kill the server when stdin ends; end with the server."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # the end of these two is the server's end
    os.dup2(nothing, 2)
    while os.getppid() == server:
        readable, _, _ = select.select([0], [], [], _WATCH_EVERY_S)
        if readable and not os.read(0, 4096):
            os.kill(server, signal.SIGKILL)
            break
    os._exit(0)


if __name__ == "__main__":
    main()
