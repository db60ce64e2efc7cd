"""Whom `snugly bench --against` asks: a llama-server with its own defaults, or any URL."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from snugly.engine.bench import Answer, Asks
from snugly.engine.native import NATIVE_WORKER
from snugly.engine.native_found import find
from snugly.engine.process import engine_environment
from snugly.errors import EngineError, UserError
from snugly.settings import Settings

if TYPE_CHECKING:
    import httpx2

OLLAMA_URL = "http://127.0.0.1:11434"  # its documented address; OLLAMA_HOST names another
_WAITING = "GOMP_SPINCOUNT"
_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 600.0


@asynccontextmanager
async def peer(name: str, model_path: str, settings: Settings) -> AsyncIterator[tuple[str, Asks]]:
    """What it is called, and a way to ask it.

    Raises: UserError when nobody answers there; EngineError when it does not start.
    """
    if name == "llama-server":
        async with _llama_server(model_path, settings) as url, _client(url) as client:
            yield "llama-server", _asks(client, "")
        return
    url = OLLAMA_URL if name == "ollama" else name
    if name == "ollama" and (host := os.environ.get("OLLAMA_HOST")):
        url = host if "://" in host else f"http://{host}"
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"{name!r} is nobody to compare with.", "",
            "Take llama-server, ollama, or the URL of a server that speaks OpenAI's API.",
        )  # fmt: skip
    async with _client(url.rstrip("/").removesuffix("/v1")) as client:
        yield name, _asks(client, await _first_model(client, url))


@asynccontextmanager
async def _client(url: str) -> "AsyncIterator[httpx2.AsyncClient]":
    import httpx2

    async with httpx2.AsyncClient(base_url=url, timeout=_ANSWER_SECONDS, trust_env=False) as client:
        yield client


async def _first_model(client: "httpx2.AsyncClient", url: str) -> str:
    """The first model that a server lists: it is the one that has been loaded or made last."""
    import httpx2

    try:
        listed = (await client.get("/v1/models")).json()["data"]
        return str(listed[0]["id"])
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{url} does not answer as a server of models does.",
            f"GET /v1/models: {error or type(error).__name__}.",
            "Start it, load the same model there, and check the address.",
        ) from None


@asynccontextmanager
async def _llama_server(model_path: str, settings: Settings) -> AsyncIterator[str]:
    """The llama-server that is found, with nothing but a model and a port."""
    found = find(settings)
    if found is None:
        raise EngineError(
            "There is no llama-server to compare with.", "", "`snugly engine build` makes one."
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _spawned(
        [found.path, "--model", model_path, "--host", "127.0.0.1", "--port", str(port)]
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await _healthy(process, url, time.monotonic() + settings.engine_start_seconds)
        yield url
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 10)
        process.kill()
        await asyncio.to_thread(process.wait)
        if process.stdin is not None:
            process.stdin.close()


def _spawned(command: list[str]) -> "subprocess.Popen[bytes]":
    """The peer's process; where there are POSIX's signals it dies with us, however we die."""
    dies_with_us = os.name == "posix"
    process = subprocess.Popen(
        [*NATIVE_WORKER, str(os.getpid())] if dies_with_us else command,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=peer_environment(dict(os.environ)),
    )  # fmt: skip
    if dies_with_us:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"command": command, "environment": {}}).encode() + b"\n")
        process.stdin.flush()
    return process


def peer_environment(environment: dict[str, str]) -> dict[str, str]:
    """An engine's environment with its own way of waiting, not ours."""
    kept = engine_environment(environment)
    return {name: kept[name] for name in kept if name != _WAITING or name in environment}


async def _healthy(process: "subprocess.Popen[bytes]", url: str, deadline: float) -> None:
    import httpx2

    async with _client(url) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(_LOOK_SECONDS)
    raise EngineError("llama-server did not start.", f"It ended with {process.poll()}.")


def _asks(client: "httpx2.AsyncClient", model: str) -> Asks:
    """Ask by OpenAI's completions, streamed: llama-server, Ollama and most others speak them."""

    async def ask(prompt: str, tokens: int) -> Answer:
        body = {
            "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        begun, first, usage = time.perf_counter(), 0.0, dict[str, int]()
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                said = (await answer.aread())[:200].decode(errors="replace")
                raise EngineError("The other server refused the request.", f"It said: {said}")
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    first = first or time.perf_counter()
                    usage = json.loads(line[6:]).get("usage") or usage
        now = time.perf_counter()
        counts = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        return Answer((first or now) - begun, now - begun, *counts)

    return ask
