"""`snugly serve` as a service: its supervisor, SIGHUP, its log, its installation."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.server.making import fake, stock

from snugly.cli.app import run
from snugly.cli.render import console
from snugly.settings import settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sockets are POSIX's")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A server in a process of its own, with a supervisor that listens."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", line: socket.socket) -> None:
        self.port, self.process, self.line = port, process, line

    def heard(self, wanted: str, seconds: float = 20.0) -> str:
        """The first message to the supervisor that has `wanted`."""
        self.line.settimeout(seconds)
        while wanted not in (message := self.line.recv(4096).decode()):
            pass
        return message

    def ask(self, **more: Any) -> httpx2.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "secret words"}]}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return httpx2.post(url, json=body, timeout=30, trust_env=False, **more)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Service]:
    if not settings().store.exists():
        stock(settings().store)
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(folder / "notify"))
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(folder / "notify"),
            "SNUGLY_ENGINE_COMMAND": json.dumps(fake()),
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "snugly", "serve", "--port", str(port), *arguments],
            env=environment, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Service(port, process, line)
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def command(*words: str) -> Done:
    """A command in this process, which is quicker than one of its own."""
    out, err = io.StringIO(), io.StringIO()
    console.cache_clear()
    settings.cache_clear()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(words)
    finally:
        console.cache_clear()
    return Done(code, out.getvalue(), err.getvalue())


def test_from_ready_to_stopping(tmp_path: Path, own_folders: Path) -> None:
    with serving(tmp_path, WATCHDOG_USEC="400000") as service:
        assert service.heard("READY=1").endswith(f"STATUS=Serving on 127.0.0.1:{service.port}")
        service.heard("WATCHDOG=1")

        # What it is asked is in the log, without words, and `status` and `logs` show it.
        assert service.ask().status_code == 200
        up = json.loads(command("status", "--json").stdout)
        assert up["up"] is True
        assert up["pid"] == service.process.pid
        assert up["models"][0]["name"] == "test/tiny/tiny.gguf"
        assert up["engine_bytes"] > 0
        assert "process" in command("status").stdout
        shown = command("logs")
        assert "/v1/chat/completions test/tiny/tiny.gguf 200 done 2 in, 8 out" in shown.stdout
        log = (own_folders / "server.log").read_text()
        assert "secret" not in log
        assert (own_folders / "server.log").stat().st_mode & 0o077 == 0
        assert all(json.loads(line) for line in log.splitlines())

        # A change that can be made while it runs, one that cannot, and a slip.
        text = "serve_body_bytes = 10\nserve_slots = 3\nserve_port = 1\n"
        (own_folders / "config.toml").write_text(text)
        service.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in service.heard("RELOADING=1")
        ready = service.heard("READY=1")
        assert "Changed: serve_body_bytes, serve_slots. Only after a restart: serve_port" in ready
        assert service.ask().status_code == 413
        (own_folders / "config.toml").write_text("serve_bodybytes = 10\n")
        service.process.send_signal(signal.SIGHUP)
        assert "stay as they were" in service.heard("READY=1")
        assert service.ask().status_code == 413
        (own_folders / "config.toml").write_text("serve_keyless = false\n")
        service.process.send_signal(signal.SIGHUP)
        service.heard("READY=1")
        assert service.ask().status_code == 401

        service.process.send_signal(signal.SIGTERM)
        service.heard("STOPPING=1")
        assert service.process.wait(20) == 0
    assert not (own_folders / "server.json").exists()
    down = command("status", "--json")
    assert json.loads(down.stdout) == {"up": False}
    assert down.returncode == 2


def test_a_closed_terminal_ends_the_server_and_sighup_does_not(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    if not settings().store.exists():
        stock(settings().store)
    port = free_port()
    child, terminal = pty.fork()
    if child == 0:
        words = [sys.executable, "-m", "snugly", "serve", "--port", str(port)]
        os.execve(sys.executable, words, {**os.environ, "SNUGLY_ENGINE_COMMAND": "[]"})
    said = b""
    while b"Listening" not in said:
        said += os.read(terminal, 4096)
    time.sleep(0.3)
    os.kill(child, signal.SIGHUP)  # somebody's `kill -HUP`, with the terminal still there
    time.sleep(0.5)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.close(terminal)
    deadline = time.monotonic() + 15
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ended[1] == 0


def test_logs_follow_over_a_rotation(tmp_path: Path) -> None:
    from snugly.cli.logs import following

    path = tmp_path / "server.log"
    path.write_text("old\n")
    lines = following(path, 0.01)

    def write(text: str) -> None:
        with open(path, "a") as file:
            file.write(text)

    import threading

    def act() -> None:
        time.sleep(0.2)
        write("one\nhalf")
        time.sleep(0.05)
        write(" a line\n")
        path.rename(tmp_path / "server.log.1")
        time.sleep(0.05)
        write("two\n")

    threading.Thread(target=act).start()
    assert [next(lines) for _ in range(3)] == ["one", "half a line", "two"]


SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
[ "$2" = {fails} ] && echo "no such thing" >&2 && exit 1
exit 0
"""


def systemctl(folder: Path, fails: str = "nothing") -> Path:
    """A systemctl that writes down what it is asked."""
    log = folder / "asked"
    program = folder / "bin" / "systemctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SYSTEMCTL.format(log=log, fails=fails))
    program.chmod(0o755)
    return log


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_installing_and_undoing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = systemctl(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    unit = tmp_path / "config/systemd/user/snugly.service"
    done = command("serve", "--install", "-m", "smollm2", "--port", "9000")
    assert done.returncode == 0
    assert done.stdout.strip() == str(unit)
    text = unit.read_text()
    assert '"--model" "smollm2" "--port" "9000"' in text
    assert f'Environment="SNUGLY_STORE={settings().store}"' in text
    assert "hf_secret" not in text
    assert unit.stat().st_mode & 0o077 == 0
    asked = log.read_text().splitlines()
    assert asked == [
        "--user show-environment", "--user daemon-reload", "--user enable snugly",
        "--user restart snugly",
    ]  # fmt: skip
    done = command("serve", "--uninstall")
    assert done.returncode == 0
    assert not unit.exists()
    assert "--user disable --now snugly" in log.read_text()
    assert command("serve", "--uninstall").returncode == 0  # once more does no harm


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_installing_where_systemd_cannot_be_asked_or_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, "show-environment")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = command("serve", "--install")
    assert done.returncode == 0
    assert "systemctl --user enable snugly" in done.stderr
    systemctl(tmp_path, "restart")
    done = command("serve", "--install")
    assert done.returncode == 2
    assert "no such thing" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_the_installed_command_is_one_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the unit is started as it stands there, with its variables alone."""
    from snugly.server import installing

    stock(settings().store)
    monkeypatch.setenv("SNUGLY_ENGINE_COMMAND", json.dumps(fake()))
    port = free_port()
    launch = installing.launch_of(("--port", str(port)), tmp_path / "x.log", os.environ)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(30)
        environment = {**launch.environment, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(
            launch.command, env=environment, cwd=launch.folder, stderr=subprocess.DEVNULL
        )
        try:
            assert b"READY=1" in line.recv(1000)
            told = httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False)
            assert told.status_code == 200
        finally:
            process.terminate()
            assert process.wait(20) == 0
