"""Reading what serving needs. Each returns facts; what they mean is said in `serving`."""

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from snugly.doctor.serving import Leftover, PortFacts, ServiceFacts
from snugly.errors import UserError
from snugly.machine.host import NoAnswer, run_tool
from snugly.server.installing import place_of
from snugly.server.units import Launch
from snugly.settings import Settings

_ANSWER_SECONDS = 3.0
_GRACE_SECONDS = 2.5
# How engines are started (engine/process.py, engine/address.py): the id of whoever started
# one stands in its arguments, behind the worker's name or in the name of its socket's folder.
_WORKER = re.compile(r"(?:^|\0)(?:snugly\.engine\.\w*worker|\S*[/\\]native_worker\.py)\0(\d+)\b")
_SOCKET = re.compile(r"snugly-engine-(\d+)-\d+-\w+[/\\]e\.sock")


def read_port(config: Settings) -> PortFacts:
    """Try to listen where the server would; when that is taken, find out by whom."""
    host, port = config.serve_host, config.serve_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _holder(config)
            return PortFacts(host, port, error=error.strerror or str(error))
    return PortFacts(host, port)


def _holder(config: Settings) -> PortFacts:
    host, port = config.serve_host, config.serve_port
    name, pid, ours = "", listener(port), False
    if pid:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            name = process.name()
            command = process.cmdline()
            ours = "serve" in command and any("snugly" in part for part in command[:4])
    return PortFacts(host, port, True, "", name, pid, _version(config), ours)


def listener(port: int) -> int:
    """The process that listens on a TCP port; 0 where the system does not tell us."""
    with suppress(psutil.Error, OSError):
        for line in psutil.net_connections(kind="tcp"):
            if line.pid and _listens(line, port):
                return int(line.pid)
    for process in psutil.process_iter():  # macOS tells only of each process by itself
        with suppress(psutil.Error, OSError):
            if any(_listens(line, port) for line in process.net_connections(kind="tcp")):
                return int(process.pid)
    return 0


def _listens(line: Any, port: int) -> bool:
    return bool(line.status == psutil.CONN_LISTEN and line.laddr and line.laddr.port == port)


def _version(config: Settings) -> str:
    """The version of the Snugly that answers there and knows our token; else empty."""
    import httpx2

    from snugly.server.tokens import read_token, token_path

    certificate = config.history.parent / "server.crt"
    try:
        token = read_token(token_path(config.history))
    except UserError:
        token = ""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.serve_host, config.serve_host)
    shown = f"[{host}]" if ":" in host else host
    for scheme in ("http", "https") if certificate.exists() else ("http",):
        with suppress(httpx2.HTTPError, ValueError, KeyError, TypeError, OSError):
            answer = httpx2.get(
                f"{scheme}://{shown}:{config.serve_port}/snugly/loaded",
                headers={"Authorization": f"Bearer {token}"},
                timeout=_ANSWER_SECONDS,
                verify=str(certificate) if scheme == "https" else True,
                trust_env=False,
            )
            return str(answer.json()["version"])
    return ""


def read_leftovers() -> tuple[list[Leftover], int]:
    """Engines without the Snugly that started them, and how many have theirs.

    An engine ends within two seconds of its Snugly (docs/reliability.md, row 3); what has not
    then does not do so by itself.
    """
    first, _ = _engines()
    if first:
        time.sleep(_GRACE_SECONDS)
    left, engines = _engines()
    known = {one.pid for one in first}
    return [one for one in left if one.pid in known], engines


def _engines() -> tuple[list[Leftover], int]:
    left, engines = [], 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            parent = started_by(process.cmdline())
            if parent is None or not _same_space(process.pid):
                continue
            if _started_before(parent, process):
                engines += 1
            elif process.status() != psutil.STATUS_ZOMBIE:
                left.append(Leftover(process.pid, process.memory_info().rss))
    return left, engines


def _started_before(parent: int, process: psutil.Process) -> bool:
    """Whether the parent lives; another process may have got its number since."""
    try:
        return bool(psutil.Process(parent).create_time() <= process.create_time() + 1)
    except psutil.NoSuchProcess:
        return False


def started_by(command: list[str]) -> int | None:
    """The process id that an engine was given as its parent's; None for other programs."""
    text = "\0".join(command)
    match = _WORKER.search(text) or _SOCKET.search(text)
    return int(match[1]) if match else None


def read_service(environment: Mapping[str, str]) -> ServiceFacts:
    """The user unit of systemd, if there is one, and what systemd makes of it."""
    if sys.platform != "linux":
        return ServiceFacts()
    try:
        path = place_of("linux", Launch(("",), {}, "", ""), environment).path
        text = path.read_text(encoding="utf-8")
    except OSError:
        return ServiceFacts()
    match = re.search(r'^ExecStart="((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    program = re.sub(r"\\(.)", r"\1", match[1]).replace("%%", "%") if match else ""
    try:
        state = run_tool("systemctl", "--user", "is-active", path.stem).strip()
    except NoAnswer:
        state = ""
    there = os.access(program, os.X_OK)
    return ServiceFacts(str(path), program, there, "" if state == "unknown" else state)


def _same_space(pid: int) -> bool:
    """Whether a process counts ids as we do: one in a container has its own."""
    own, its = Path("/proc/self/ns/pid"), Path(f"/proc/{pid}/ns/pid")
    if not own.exists():
        return True
    return os.stat(own).st_ino == os.stat(its).st_ino
