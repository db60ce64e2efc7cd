"""Row 41: `python -m tests.faults.soak [--minutes N] [--clients N] [--csv FILE]`.

A whole server with the real engine on three copies of SmolLM2, of which two fit beside each
other, under mixed work: streams, cancelled and left ones, embeddings, tools, counting, refusals,
loads and unloads. The first model stays loaded throughout. Every second what the gateway and
that model's engine hold is looked at: descriptors, resident memory, children, and zombies, of
which none may be there at two looks.
20 minutes unless told; 120 are the long run. The exit code is 1 where something grows.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil

from snugly.errors import SnuglyError
from snugly.server.tokens import read_token, token_path
from tests.conftest import WEIGHTS
from tests.faults.figure import Figure
from tests.faults.series import Trend, trend
from tests.faults.traffic import Traffic
from tests.faults.whole import free_port

MODELS = ("one", "two", "three")
MiB = 2**20
EVERY = 1.0  # seconds between two looks
LEAST_MINUTES = 5  # shorter ones show what goes wrong at once, no slope


@dataclass
class Watched:
    """What was seen, by name: (seconds, value) each."""

    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    restarts: int = 0

    def note(self, now: float, **values: float) -> None:
        """One look."""
        for name, value in values.items():
            self.series.setdefault(name, []).append((now, value))


@asynccontextmanager
async def whole_server(folder: Path, cap_bytes: int) -> AsyncIterator[tuple[psutil.Process, int]]:
    """`snugly serve` as its own process with the first model pinned; and its port."""
    weights = next(WEIGHTS.glob("HuggingFaceTB/*/SmolLM2-135M-Instruct.Q4_1.gguf"))
    for name in MODELS:
        place = folder / "store" / "test" / name
        place.mkdir(parents=True)
        shutil.copy(weights, place / f"{name}.gguf")
    (folder / "config.toml").write_text("")
    port = free_port()
    variables = {
        "SNUGLY_STORE": "store", "SNUGLY_HISTORY": "history.db", "SNUGLY_CACHE": "cache",
        "SNUGLY_CONFIG": "config.toml",
    }  # fmt: skip
    environment = {
        **os.environ, **{name: str(folder / path) for name, path in variables.items()},
        "SNUGLY_MEMORY_LIMIT_BYTES": str(cap_bytes), "SNUGLY_SERVE_SLOTS": "2",
        "SNUGLY_FOLLOW_LOAD": "false",  # the engine that is watched must stay the same
    }  # fmt: skip
    with (folder / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "snugly", "serve", "--port", str(port), "-m", MODELS[0],
            env=environment, stderr=said,
        )  # fmt: skip
    try:
        yield psutil.Process(process.pid), port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)


async def loaded(client: httpx2.AsyncClient, token: str) -> dict[str, int]:
    """The process of each loaded model. Raises: httpx2.TransportError before it serves."""
    answer = await client.get("/snugly/loaded", headers={"authorization": f"Bearer {token}"})
    return {model["name"]: int(model["pid"]) for model in answer.json()["models"]}


async def watch(
    gateway: psutil.Process, client: httpx2.AsyncClient, token: str, seen: Watched
) -> None:
    """Look at the processes until cancelled."""
    began, first = time.monotonic(), 0
    before: set[int] = set()
    while True:
        await asyncio.sleep(EVERY)
        now = time.monotonic() - began
        children = gateway.children(recursive=True)
        zombies = {child.pid for child in children if _status(child) == psutil.STATUS_ZOMBIE}
        # One that has ended this moment is not yet waited for; a second later it must be.
        lasting, before = zombies & before, zombies
        seen.note(
            now, gateway_fds=gateway.num_fds(), gateway_rss=gateway.memory_info().rss,
            gateway_threads=gateway.num_threads(), engines=len(children), zombies=len(zombies),
            lasting=len(lasting),
            all_rss=gateway.memory_info().rss + sum(_rss(child.pid) for child in children),
        )  # fmt: skip
        with contextlib.suppress(httpx2.TransportError, psutil.Error, KeyError):
            pids = await loaded(client, token)
            pid = pids[f"test/{MODELS[0]}/{MODELS[0]}.gguf"]
            seen.restarts += first not in (0, pid)
            first = pid
            engine = psutil.Process(pid)
            seen.note(now, engine_fds=engine.num_fds(), engine_rss=engine.memory_info().rss)


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return ""


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


async def soaked(minutes: float, clients: int, csv: Path | None = None) -> Figure:
    """Row 41 for so many minutes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        # SmolLM2 with two slots of 8,192 takes some 0.4 GiB by plan: two of three fit.
        async with whole_server(folder, int(1.1 * 2**30)) as (gateway, port):
            timeout = httpx2.Timeout(300)
            limits = httpx2.Limits(max_connections=200)
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=timeout, limits=limits
            ) as client:
                token = await _up(client, token_path(folder / "history.db"))
                seen, traffic = Watched(), Traffic(client, MODELS, token)
                end = time.monotonic() + 60 * minutes
                watching = asyncio.create_task(watch(gateway, client, token, seen))
                await asyncio.gather(
                    *(traffic.run(seed, lambda: time.monotonic() > end) for seed in range(clients))
                )
                watching.cancel()
                await asyncio.sleep(2 * EVERY)  # those who left are noticed
                ready = (await client.get("/ready")).json()
    if csv is not None:
        _write(csv, seen)
    return figure(seen, traffic, minutes, int(ready["requests_waiting"]))


async def _up(client: httpx2.AsyncClient, token: Path) -> str:
    """The server's token, once its first model is loaded."""
    async with asyncio.timeout(180):
        while True:
            with contextlib.suppress(httpx2.TransportError, SnuglyError):
                key = read_token(token)
                if await loaded(client, key):
                    return key
            await asyncio.sleep(0.1)


def figure(seen: Watched, traffic: Traffic, minutes: float, waiting: int) -> Figure:
    """What came of it."""
    trends: dict[str, Trend] = {
        name: trend(seen.series[name])
        for name in ("gateway_fds", "gateway_rss", "engine_fds", "engine_rss")
    }
    zombies, lasting = (
        max(value for _, value in seen.series[name]) for name in ("zombies", "lasting")
    )
    asked = sum(traffic.seen.values())
    for line in traffic.strange[:10]:
        print("strange:", line)
    print(dict(sorted(traffic.seen.items())))
    parts = [
        f"gateway {trends['gateway_fds'].words()} descriptors;"
        f" {trends['gateway_rss'].words(' MiB', MiB)} resident",
        f"engine {trends['engine_fds'].words()} descriptors;"
        f" {trends['engine_rss'].words(' MiB', MiB)} resident",
    ]
    if minutes < LEAST_MINUTES:
        parts.append("too short to judge slopes")
    ok = (
        (minutes < LEAST_MINUTES or all(each.flat for each in trends.values()))
        and not lasting
        and not traffic.strange
        and not seen.restarts
        and not waiting
    )
    return Figure(
        41, f"{minutes:g} minutes of mixed work, SmolLM2", "flat descriptors, memory, no zombies",
        f"{asked:,} requests, {len(traffic.strange)} went wrong; {'; '.join(parts)};"
        f" at most {zombies:.0f} zombies at a look and {lasting:.0f} at two,"
        f" {seen.restarts} restarts, {waiting} left waiting", ok,
    )  # fmt: skip


def _write(path: Path, seen: Watched) -> None:
    lines = [
        f"{name},{when:.1f},{value:.0f}"
        for name, all_ in seen.series.items()
        for when, value in all_
    ]
    path.write_text("\n".join(["name,seconds,value", *lines]) + "\n", encoding="utf-8")


async def mixed_work(soak: bool) -> Figure:
    """Row 41: 20 minutes, or half a one."""
    return await soaked(20 if soak else 0.5, 4)


def main() -> int:
    """Run it and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--csv", type=Path, help="every look, as a table")
    chosen = parser.parse_args()
    found = asyncio.run(soaked(chosen.minutes, chosen.clients, chosen.csv))
    print(f"{found.row} {'ok ' if found.ok else 'BAD'} {found.fault}: {found.figure}")
    return 0 if found.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
