"""Rows about addresses and secrets: nothing is fetched for a client, nothing private is told."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import httpx2
import psutil

from snugly.model.store import Store
from snugly.server.tokens import read_token, token_path
from tests.faults.figure import Figure
from tests.faults.transfers import fetch, hub
from tests.faults.whole import _environment, _ready, free_port
from tests.server.making import fake, served, stock


@asynccontextmanager
async def trap() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address on this machine, and the first bytes of every connection to it."""
    heard: list[bytes] = []

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"")
        with contextlib.suppress(OSError, TimeoutError):
            heard[-1] = await asyncio.wait_for(reader.read(4096), 1)
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", heard
    finally:
        server.close()


def _with_picture(url: str) -> list[tuple[str, dict[str, Any]]]:
    """Every dialect's way to name a picture, a sound or a file."""
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}}, {"type": "image_url", "image_url": url},
        {"type": "input_audio", "input_audio": {"url": url}},
        {"type": "video_url", "video_url": {"url": url}},
    ]  # fmt: skip
    bodies = [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]})
        for part in parts
    ]
    source = {"type": "image", "source": {"type": "url", "url": url}}
    return [
        *bodies,
        ("/v1/messages", {"max_tokens": 8, "messages": [{"role": "user", "content": [source]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": url}]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [
            {"type": "input_file", "file_url": url}]}]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi", "images": [url]}]}),
        ("/api/generate", {"prompt": "hi", "images": [url]}),
    ]  # fmt: skip


async def picture_urls(soak: bool) -> Figure:
    """Row 29."""
    asked = let = 0
    async with served() as it, trap() as (address, heard):
        urls = [
            address + "/x.png", "file:///etc/passwd", "http://169.254.169.254/latest", "//x/y",
            "ftp://127.0.0.1/x", address.replace("http", "HTTP"), "data:text/html,x",
        ]  # fmt: skip
        for url in urls if soak else urls[:2]:
            for path, body in _with_picture(url):
                answer = await it.client.post(path, json={"model": "tiny", **body}, timeout=30)
                asked += 1
                let += answer.status_code != 400
        await asyncio.sleep(0.1)
    return Figure(
        29, "remote image URLs, in every dialect", "400",
        f"{asked} requests, {let} not refused, {len(heard)} connections", not let and not heard,
    )  # fmt: skip


_FIELDS = (
    "base_url api_base endpoint url api_url upstream proxy server host provider extra_headers"
    " webhook callback_url openai_api_base"
).split()
_HEADERS = ("x-upstream", "x-base-url", "x-forwarded-host", "x-original-url", "x-rewrite-url",
            "forwarded", "x-openai-base", "destination", "x-proxy")  # fmt: skip


async def other_addresses(soak: bool) -> Figure:
    """Row 30: an address in a request is not looked at; a hub's redirect gets no key.

    There is no cloud in this version: the hub is the one server that is ever given a key.
    """
    asked = 0
    async with served("--pieces", "1") as it, trap() as (address, heard):
        for field in _FIELDS:
            more: dict[str, Any] = {field: address, "options": {field: address}}
            await it.chat(**more)
        for header in _HEADERS:
            body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
            headers = {header: address, "authorization": "Bearer sk-mine"}
            await it.client.post("/v1/chat/completions", json=body, headers=headers)
        asked += len(_FIELDS) + len(_HEADERS) + await _absolute(it.port, address)
        await asyncio.sleep(0.1)
    pulls, sent = await asyncio.to_thread(_pulls, 20 if soak else 2)
    return Figure(
        30, "client names another server; a hub redirects", "ignored; no key is sent on",
        f"{asked} requests, {len(heard)} connections to the address; {pulls} pulls by redirects,"
        f" {sent} keys sent on", not heard and not sent,
    )  # fmt: skip


async def _absolute(port: int, address: str) -> int:
    """Requests as proxies get them."""
    for line in (f"GET {address}/x HTTP/1.1", f"CONNECT {address[7:]} HTTP/1.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{line}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
    return 2


def _pulls(count: int) -> tuple[int, int]:
    with patch.dict(os.environ, {"HF_TOKEN": "hf_secret"}):
        sent = 0
        for _ in range(count):
            with TemporaryDirectory() as name, hub() as made:
                fetch(made, Store(Path(name)))
                assert made.authorizations["endpoint"][0] == "Bearer hf_secret"
                sent += sum(bool(value) for value in made.authorizations["storage"])
    return count, sent


# Where keys of other programs lie; what a client may send along.
_ENVIRONMENT = ("HF_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY")


async def told_keys(soak: bool) -> Figure:
    """Row 32: keys in the environment, in headers, in bodies, in addresses; and the words."""
    secrets = {name: f"{name.lower()}-{os.urandom(8).hex()}" for name in _ENVIRONMENT}
    for place in ("bearer", "x-api-key", "field", "query", "cookie", "words"):
        secrets[place] = f"{place}-{os.urandom(8).hex()}"
    with TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        stock(folder / "store")
        environment = _environment(folder, port) | {n: secrets[n] for n in _ENVIRONMENT}
        environment["SNUGLY_ENGINE_COMMAND"] = _engine_command()
        process = await _start(environment)
        try:
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60
            ) as client:
                await _ready(client)
                token = read_token(token_path(folder / "history.db"))
                told, asked = await _ask(client, token, secrets, 20 if soak else 1)
            told |= await asyncio.to_thread(_processes, process.pid)
        finally:
            process.terminate()
        out, err = await asyncio.wait_for(process.communicate(), 30)
        told |= {"standard error": err, "standard output": out}
        told |= {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }
        assert token.encode() in told.pop("server.token")  # the one place for it, and it is found
    wanted = [*secrets.values(), token]
    found = [(place, w) for place, text in told.items() for w in wanted if w.encode() in text]
    for place, secret in found:
        print("told:", place, re.sub(r"-[0-9a-f]{16}$", "", secret)[:12])
    return Figure(
        32, "keys in logs, errors, the history, process lists, engines' environments", "absent",
        f"{len(wanted)} secrets, {asked} requests, {len(told)} places looked at,"
        f" {len(found)} found", not found,
    )  # fmt: skip


def _engine_command() -> str:
    import json

    return json.dumps(fake("--pieces", "3"))


async def _start(environment: dict[str, str]) -> asyncio.subprocess.Process:
    import sys

    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "snugly", "serve", "--verbose", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _ask(
    client: httpx2.AsyncClient, token: str, secrets: dict[str, str], rounds: int
) -> tuple[dict[str, bytes], int]:
    """Requests that go well and badly, with every secret in its place; what was answered."""
    told: dict[str, bytes] = {}
    headers = {"authorization": f"Bearer {secrets['bearer']}", "x-api-key": secrets["x-api-key"],
               "cookie": f"session={secrets['cookie']}"}  # fmt: skip
    words = [{"role": "user", "content": secrets["words"]}]
    bodies: list[dict[str, Any]] = [
        {"model": "tiny", "messages": words, "api_key": secrets["field"]},
        {"model": "nobody", "messages": words, "api_key": secrets["field"]},
        {"model": "tiny", "messages": words, "max_tokens": -1, "user": secrets["field"]},
        {"model": "tiny", "messages": words[0], "api_key": secrets["field"]},
    ]  # fmt: skip
    paths = ("/v1/chat/completions", "/v1/messages", "/api/chat", "/snugly/load", "/nowhere")
    asked = 0
    for _ in range(rounds):
        for path in paths:
            for body in bodies:
                for key in (headers, {"authorization": f"Bearer {token}"}):
                    address = f"{path}?key={secrets['query']}"
                    answer = await client.post(address, json=body, headers=key)
                    asked += 1
                    told[f"answer {asked}"] = answer.content + repr(answer.headers).encode()
        for path in ("/metrics", "/ready", "/v1/models", "/openapi.json"):
            told[f"answer {path}"] = (await client.get(path)).content
    return told, asked


def _processes(pid: int) -> dict[str, bytes]:
    """Command lines of the server and its engines; environments of the engines."""
    server = psutil.Process(pid)
    told = {"the server's command": " ".join(server.cmdline()).encode()}
    for engine in server.children(recursive=True):
        told[f"engine {engine.pid}'s command"] = " ".join(engine.cmdline()).encode()
        told[f"engine {engine.pid}'s environment"] = repr(engine.environ()).encode()
    return told


ROWS = (picture_urls, other_addresses, told_keys)
