"""Becomes a llama-server: `python -I -S native_worker.py PARENT_PID`.

The protocol is that of `snugly.engine.worker`: a line of configuration on stdin, a line on
stdout when the server listens, and the end of stdin means that the parent is gone. This
process turns into the server (exec), so that its id, its memory and its end are the
server's. A second one tells when it listens, and where the kernel cannot end the server
with its parent it stays to watch. Standard library only: it starts without site-packages.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.01  # for the server to listen
_WATCH_EVERY_S = 0.2  # for the parent's end, where we watch


def main() -> None:
    """Read the configuration, leave a watcher, become the server."""
    parent = int(sys.argv[1])
    _die_with_parent(parent)
    config = _read_line()
    server = os.getpid()
    first = os.fork()
    if first == 0:
        if os.fork():
            os._exit(0)  # the watcher has no parent: it is nobody's zombie
        _watch(server, config)
    os.waitpid(first, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    command = config["command"]
    try:
        os.execve(command[0], command, {**os.environ, **config["environment"]})
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(127)


def _read_line() -> Any:
    """The line on stdin, byte by byte past no end: what follows is not ours to take."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(1)
        line += piece
    return json.loads(line)


def _die_with_parent(parent: int) -> None:
    """On Linux the kernel kills us, and what we become, with the thread that started us."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _watch(server: int, config: Any) -> None:
    """Say when the server listens; then watch stdin where the kernel does not."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the end of stderr is the server's end
    while not _healthy(config):
        if not _alive(server) or _parent_gone(server, 0):
            os._exit(0)
        time.sleep(_LOOK_EVERY_S)
    os.write(1, b'{"event": "listening"}\n')
    os.close(1)
    if sys.platform != "linux":
        while _alive(server) and not _parent_gone(server, _WATCH_EVERY_S):
            pass
    os._exit(0)


def _parent_gone(server: int, seconds: float) -> bool:
    """Whether stdin has ended; then the server is killed and its folder removed by others."""
    readable, _, _ = select.select([0], [], [], seconds)
    if readable and not os.read(0, 4096):
        if _alive(server):
            os.kill(server, signal.SIGKILL)
        return True
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _healthy(config: Any) -> bool:
    """Whether the server answers that its model is loaded: 503 until then."""
    try:
        if config["socket"]:
            line = socket.socket(socket.AF_UNIX)
        else:
            line = socket.socket(socket.AF_INET)
        with line:
            line.settimeout(5.0)
            line.connect(config["socket"] or ("127.0.0.1", config["port"]))
            line.sendall(b"GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            return b" 200 " in line.recv(64).partition(b"\r\n")[0]
    except OSError:
        return False


if __name__ == "__main__":
    main()
