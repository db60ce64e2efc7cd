"""A whole server in the test's own loop, over a real socket, with the fake engine."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from snugly.model.store import Store
from snugly.server.app import make_app
from snugly.server.http import http_config
from snugly.server.ledger import open_ledger
from snugly.server.service import Service
from snugly.server.serving import listening, policy_of, pool_of
from snugly.server.shelf import Shelf
from snugly.settings import Settings, settings
from tests.making import LLAMA_PAIRS, gguf_bytes, machine, text_pair

FAKE = Path(__file__).parents[1] / "fake_engine.py"
TOKEN = "t" * 43
TEMPLATE = text_pair("tokenizer.chat_template", "{{ messages }}")


@dataclass(frozen=True)
class Served:
    """A running server and a client for it."""

    service: Service
    client: httpx2.AsyncClient
    port: int

    async def chat(self, text: str = "hello there", **more: Any) -> httpx2.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}
        return await self.client.post("/v1/chat/completions", json=body, timeout=300)

    def asking(self, text: str = "hello there", **more: Any) -> Any:
        """A streamed chat, for `async with`."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], "stream": True}
        return self.client.stream("POST", "/v1/chat/completions", json=body | more, timeout=300)


def stock(root: Path, *names: str, data: bytes | None = None) -> None:
    """Tiny models in a store."""
    for name in names or ("tiny",):
        folder = root / "test" / name
        folder.mkdir(parents=True)
        whole = gguf_bytes((*LLAMA_PAIRS, TEMPLATE)) if data is None else data
        (folder / f"{name}.gguf").write_bytes(whole)


def fake(*switches: str) -> tuple[str, ...]:
    """The command of a fake engine."""
    return (sys.executable, str(FAKE), *switches)


@asynccontextmanager
async def served(
    *switches: str,
    token: str = TOKEN,
    models: tuple[str, ...] = ("tiny",),
    look: Any = machine,
    **changes: Any,
) -> AsyncIterator[Served]:
    """A server over tiny models whose engine has these switches."""
    given = {"engine_command": fake(*switches), "serve_slots": 1, **changes}
    config: Settings = replace(settings(), **given)
    if not config.store.exists():
        stock(config.store, *models)
    bound = listening("127.0.0.1", 0)
    port = bound.getsockname()[1]
    config = replace(config, serve_port=port)
    async with open_ledger(config.history) as ledger, pool_of(config, look) as pool:
        service = Service(config, pool, Shelf(Store(config.store)), ledger)
        app = make_app(service, policy_of(config, token, secure=False))
        server = uvicorn.Server(http_config(app))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        running = asyncio.create_task(server._serve(sockets=[bound]))
        while not server.started:
            await asyncio.sleep(0.005)
        limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=50)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, trust_env=False
        ) as client:
            try:
                yield Served(service, client, port)
            finally:
                server.should_exit = server.force_exit = True
                await running


def events(text: str) -> list[Any]:
    """The data of server-sent events; "[DONE]" as it is."""
    found = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in found]


def said(text: str) -> str:
    """What a streamed chat says."""
    pieces = [e["choices"][0]["delta"] for e in events(text) if e != "[DONE]" and e.get("choices")]
    return "".join(piece.get("content") or "" for piece in pieces)


async def eventually(check: Any, seconds: float = 5.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)
