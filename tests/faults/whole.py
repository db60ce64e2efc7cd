"""Rows about the whole server as its own process: killed, bound, its port taken."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from snugly.history import requests
from snugly.history.opening import opened
from tests.faults.figure import Figure
from tests.server.making import fake, stock


def _environment(folder: Path, port: int) -> dict[str, str]:
    import json

    (folder / "config.toml").write_text("")
    return {
        **os.environ,
        "SNUGLY_STORE": str(folder / "store"),
        "SNUGLY_HISTORY": str(folder / "history.db"),
        "SNUGLY_CACHE": str(folder / "cache"),
        "SNUGLY_CONFIG": str(folder / "config.toml"),
        "SNUGLY_SERVE_PORT": str(port),
        "SNUGLY_ENGINE_COMMAND": json.dumps(fake("--pieces", "3", "--delay", "0.005")),
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serve(folder: Path, port: int, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "snugly", "serve", *arguments,
        env=_environment(folder, port), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _ready(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def server_killed(soak: bool) -> Figure:
    """Row 2: every answer that a client has whole is a row; what was begun is marked."""
    kills, acknowledged, lost, unmarked = 500 if soak else 1, 0, 0, 0
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    with TemporaryDirectory() as name:
        folder = Path(name)
        stock(folder / "store")
        for _ in range(kills):
            port = free_port()
            process = await _serve(folder, port)
            done = 0
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30
            ) as client:
                await _ready(client)
                with opened(folder / "history.db") as db:
                    before = sum(r.outcome == "done" for r in requests.recent(db, 10**6))
                    unmarked += sum(r.outcome == "running" for r in requests.recent(db, 10**6))

                async def asks(client: httpx2.AsyncClient = client) -> None:
                    nonlocal done
                    while True:
                        answer = await client.post("/v1/chat/completions", json=body)
                        done += answer.status_code == 200

                asking = [asyncio.create_task(asks()) for _ in range(4)]
                async with asyncio.timeout(60):
                    while done < 8:
                        await asyncio.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                await process.wait()
                await asyncio.wait(asking, timeout=10)
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)
            with opened(folder / "history.db") as db:
                after = sum(r.outcome == "done" for r in requests.recent(db, 10**6))
            acknowledged += done
            lost += max(0, done - (after - before))
    return Figure(
        2, "server killed while it writes", "every acknowledged row is there; the rest is marked",
        f"{kills} kills, {acknowledged} acknowledged, {lost} lost, {unmarked} unmarked",
        not lost and not unmarked and acknowledged > 0,
    )  # fmt: skip


async def _ends(folder: Path, port: int, *arguments: str) -> tuple[int, str]:
    process = await _serve(folder, port, *arguments)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def public_without_token(soak: bool) -> Figure:
    """Row 8."""
    codes = []
    with TemporaryDirectory() as name:
        for host in ("0.0.0.0", "::") if soak else ("0.0.0.0",):
            code, said = await _ends(Path(name), free_port(), "--host", host, "--no-token")
            codes.append(code)
    return Figure(
        8, "public bind without a token", "refuses to start",
        f"exit code {codes[0]}: {said.splitlines()[0]}", set(codes) == {2},
    )  # fmt: skip


async def port_taken(soak: bool) -> Figure:
    """Row 39."""
    with TemporaryDirectory() as name, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = await _ends(Path(name), taken.getsockname()[1])
    line = next((line for line in said.splitlines() if "error" in line), "")
    return Figure(
        39,
        "port taken",
        "a clear message",
        f"exit code {code}: {line}",
        code == 2 and "taken" in line,
    )


ROWS = (server_killed, public_without_token, port_taken)
