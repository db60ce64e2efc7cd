"""What the server costs beside the engine's own socket, and how it bears many clients.

    python bench/gateway.py [one] [many] [flood]

one: one stream on SmolLM2, alternating between the server and the engine's socket under it.
many: 64 streams of 50 tokens/s from the fake engine, gaps and processor time of the server.
flood: 1,000 connections on a queue of 128.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.conftest import WEIGHTS  # noqa: E402
from tests.faults.clients import flood  # noqa: E402
from tests.faults.whole import free_port  # noqa: E402
from tests.making import LLAMA_PAIRS, gguf_bytes, u32_pair  # noqa: E402
from tests.server.making import TEMPLATE, fake, stock  # noqa: E402

ROUNDS = 24
TOKENS = 128
STREAMS, RATE, SECONDS = 64, 50, 10


@asynccontextmanager
async def server(
    folder: Path, store: Path, *arguments: str, **settings: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`snugly serve` as a process of its own; it and its address."""
    (folder / "config.toml").write_text("")
    port = free_port()
    own = {
        "STORE": str(store), "HISTORY": str(folder / "history.db"), "CACHE": str(folder / "cache"),
        "CONFIG": str(folder / "config.toml"), "SERVE_PORT": str(port), **settings,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "snugly", "serve", *arguments,
        env=os.environ | {f"SNUGLY_{name}": value for name, value in own.items()},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            for _ in range(600):
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get(f"{address}/health")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
        yield process, address
    finally:
        process.terminate()
        await process.wait()


def engine_sockets(pid: int) -> list[Path]:
    """Where the engines of a server listen."""
    places = {os.environ.get("XDG_RUNTIME_DIR", "/nowhere"), tempfile.gettempdir(), "/tmp"}
    return [path for p in places for path in Path(p).glob(f"snugly-engine-{pid}-*/e.sock")]


def percentile(values: list[float], percent: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(values)[int(len(values) * percent / 100)]


def seconds(process: psutil.Process) -> float:
    """Of the processor's time."""
    times = process.cpu_times()
    return times.user + times.system


async def timed(client: httpx2.AsyncClient, model: str) -> tuple[float, float]:
    """Milliseconds to the first token, and tokens per second after it."""
    body = {
        "model": model, "stream": True, "max_tokens": TOKENS, "temperature": 0,
        "messages": [{"role": "user", "content": "Write a long story about a lighthouse."}],
    }  # fmt: skip
    began, seen = time.perf_counter(), []
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for chunk in answer.aiter_raw():
            now = time.perf_counter()
            words = chunk.count(b'"content":"') - chunk.count(b'"content":""')
            seen += [now] * words
    return 1000 * (seen[0] - began), (len(seen) - 1) / (seen[-1] - seen[0])


async def one() -> None:
    """One stream, through the server and beside it."""
    found: dict[str, list[tuple[float, float]]] = {"server": [], "engine": []}
    with tempfile.TemporaryDirectory() as name:
        # Guessed tokens come in bursts, and whoever asks second would have the better guesses.
        quiet = {"SERVE_SLOTS": "1", "SPECULATE": "off"}
        async with server(Path(name), WEIGHTS, "-m", "smollm2", **quiet) as (process, url):
            async with httpx2.AsyncClient(base_url=url, timeout=120, trust_env=False) as first:
                await timed(first, "smollm2")  # the model is loaded by then
            transport = httpx2.AsyncHTTPTransport(uds=str(engine_sockets(process.pid)[0]))
            async with (
                httpx2.AsyncClient(base_url=url, timeout=120, trust_env=False) as through,
                httpx2.AsyncClient(
                    base_url="http://engine", transport=transport, timeout=120,
                    headers={"Connection": "close"},
                ) as beside,
            ):  # fmt: skip
                for client in (through, beside):
                    await timed(client, "smollm2")
                both = [("server", through), ("engine", beside)]
                for number in range(ROUNDS):  # who comes first changes
                    for who, client in both[:: 1 if number % 2 else -1]:
                        found[who].append(await timed(client, "smollm2"))
    middle = {
        who: [statistics.median(row[i] for row in rows) for i in (0, 1)]
        for who, rows in found.items()
    }
    for who, (ttft, tps) in middle.items():
        print(f"{who}: first token {ttft:.1f} ms, then {tps:.1f} tokens/s (medians of {ROUNDS})")
    pairs = [s[1] / e[1] for s, e in zip(found["server"], found["engine"], strict=True)]
    later = [s[0] - e[0] for s, e in zip(found["server"], found["engine"], strict=True)]
    print(
        f"the server: {statistics.median(later):+.1f} ms to the first token,"
        f" {statistics.median(pairs):.3f} of the engine's tokens/s (medians of pairs)"
    )


async def many() -> None:
    """Many streams at a steady pace."""
    gaps: list[float] = []
    done = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = [pair for pair in LLAMA_PAIRS if b"context_length" not in pair]
        pairs.append(u32_pair("llama.context_length", 1 << 20))
        stock(folder / "store", data=gguf_bytes((*pairs, TEMPLATE)))
        command = fake("--pieces", str(RATE * SECONDS), "--delay", str(1 / RATE))
        async with (
            server(
                folder, folder / "store", SERVE_SLOTS=str(STREAMS),
                ENGINE_COMMAND=json.dumps(command),
            ) as (process, url),
            httpx2.AsyncClient(base_url=url, timeout=120, trust_env=False) as client,
        ):  # fmt: skip
            body = {
                "model": "tiny", "stream": True, "max_tokens": RATE * SECONDS, "num_ctx": 1 << 17,
                "messages": [{"role": "user", "content": "hi"}],
            }  # fmt: skip
            await client.post("/v1/chat/completions", json=body | {"stream": False})

            request = json.dumps(body).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(request)}\r\n\r\n"

            async def stream(socket: str) -> None:
                """Bare reading: an HTTP client's own time for 3,200 pieces a second is a core."""
                nonlocal done
                before = None
                reader, writer = (
                    await asyncio.open_unix_connection(socket)
                    if socket
                    else await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                )
                writer.write(head.encode() + request)
                while line := await reader.readline():
                    if b"word" in line:
                        now = time.perf_counter()
                        if before is not None:
                            gaps.append(now - before)
                        before = now
                    elif b"[DONE]" in line:
                        done += 1
                        break
                writer.close()

            tree = psutil.Process(process.pid)
            watched = (tree, *tree.children(recursive=True), psutil.Process())
            spent = [seconds(each) for each in watched]
            began = time.perf_counter()
            await asyncio.gather(*(stream("") for _ in range(STREAMS)))
            took = time.perf_counter() - began
            cpu, *engine, own = [
                seconds(each) - before for each, before in zip(watched, spent, strict=True)
            ]
            through, gaps = gaps, []
            socket = str(engine_sockets(process.pid)[0])
            await asyncio.gather(*(stream(socket) for _ in range(STREAMS)))
    tokens = STREAMS * RATE * SECONDS
    print(
        f"{STREAMS} streams at {RATE} tokens/s: {done} of {2 * STREAMS} complete, those of the"
        f" server in {took:.1f} s; gap between tokens p99 {percentile(through, 99):.0f} ms through"
        f" the server, {percentile(gaps, 99):.0f} ms on the engine's own socket; the server took"
        f" {100 * cpu / took:.0f}% of a core, {1e6 * cpu / tokens:.0f} us a token (the fake engine"
        f" {100 * sum(engine) / took:.0f}%, this client {100 * own / took:.0f}%)"
    )


async def main() -> None:
    """What was asked for, or all."""
    chosen = sys.argv[1:] or ["one", "many", "flood"]
    if "one" in chosen:
        await one()
    if "many" in chosen:
        await many()
    if "flood" in chosen:
        with tempfile.TemporaryDirectory() as name:
            for place in ("STORE", "HISTORY", "CACHE"):
                os.environ[f"SNUGLY_{place}"] = f"{name}/{place.lower()}"
            figure = await flood(True)
            print(f"{figure.fault}: {figure.figure}")


if __name__ == "__main__":
    asyncio.run(main())
