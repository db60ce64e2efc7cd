"""Where an engine listens: a Unix socket in a private folder, or loopback with a key.

Nobody but the same user can open a socket in a 0700 folder. Windows has no such thing
for llama.cpp, so there an engine listens on a loopback port and asks for a random key.
"""

import asyncio
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "snugly-engine-"
_LONGEST_SOCKET_PATH = 100  # macOS allows 103 bytes, Linux 107


@dataclass(frozen=True, slots=True)
class Address:
    """One engine's address. `socket` is a path, or empty for loopback."""

    socket: str
    port: int
    key: str

    @property
    def base_url(self) -> str:
        """What HTTP requests go to; the host is only a name when there is a socket."""
        return "http://engine" if self.socket else f"http://127.0.0.1:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the engine. Raises: OSError."""
        if self.socket:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection("127.0.0.1", self.port)

    def release(self) -> None:
        """Remove the socket's folder."""
        if self.socket:
            shutil.rmtree(os.path.dirname(self.socket), ignore_errors=True)


def new_address(platform: str = sys.platform) -> Address:
    """An address that no other engine has, private to this user."""
    if platform == "win32":
        return Address("", _free_port(), secrets.token_urlsafe(32))
    sweep()
    owner = f"{_PREFIX}{os.getpid()}-{_process_space()}-"
    folder = tempfile.mkdtemp(prefix=owner, dir=_runtime_folder())
    # llama.cpp takes a host name that ends in ".sock" for a socket.
    return Address(os.path.join(folder, "e.sock"), 0, "")


def _runtime_folder() -> str:
    """The user's runtime folder when its path leaves room for a socket, else /tmp."""
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):
        room = _LONGEST_SOCKET_PATH - len(_PREFIX) - len("1234567-4026531836-12345678/e.sock")
        if place and len(place) < room and os.access(place, os.W_OK | os.X_OK):
            return place
    return tempfile.gettempdir()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sweep() -> None:
    """Remove the folders of owners that are no longer alive (they were killed)."""
    for folder in Path(_runtime_folder()).glob(f"{_PREFIX}*"):
        # In a shared temporary folder anybody may have made such a name.
        owner = re.fullmatch(r"([0-9]{1,9})-([0-9]+)-.*", folder.name.removeprefix(_PREFIX))
        if owner and owner[2] == _process_space() and not _alive(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _process_space() -> str:
    """A number for who shares our process ids: a container has its own, on one folder."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
