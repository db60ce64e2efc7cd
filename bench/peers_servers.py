"""Who takes part in `bench/peers.py`: servers of one model, started fresh for every measurement.

`peer` is llama-server with nothing but a model and a port, `ollama` the same with what Ollama
documents as its defaults (4,096 tokens of context, one answer at a time), `snugly` and `wheel`
are `snugly serve` on the native engine and on the wheel.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

OLLAMA = ("--ctx-size", "4096", "--parallel", "1")  # docs.ollama.com/faq, "context window size"
START_SECONDS = 300.0
LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Contender:
    """A way of serving a model."""

    name: str
    model: str
    server: str  # the peer's llama-server
    home: Path  # what Snugly keeps between its starts
    ours: str = ""  # the llama-server that Snugly runs; empty: the same

    def command(self, port: int) -> list[str]:
        """How it is started."""
        where = ["--port", str(port)]
        if self.name in ("peer", "ollama"):
            more = OLLAMA if self.name == "ollama" else ()
            return [self.server, "--model", self.model, *where, *more]
        return [sys.executable, "-m", "snugly", "serve", "-m", self.model, *where]

    def environment(self) -> dict[str, str]:
        """Ours, and for Snugly a store and a history of its own; the cache is the user's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "GGML_"))}
        if self.name in ("peer", "ollama"):
            return kept
        engine = {"snugly": "native", "wheel": "xllamacpp"}[self.name]
        config = self.home / "config.toml"
        config.touch()
        return kept | {
            "SNUGLY_STORE": str(self.home / "models"), "SNUGLY_CONFIG": str(config),
            "SNUGLY_HISTORY": str(self.home / "history.db"), "SNUGLY_ENGINE": engine,
            "SNUGLY_LLAMA_SERVER": self.ours or self.server,
        }  # fmt: skip


@asynccontextmanager
async def serving(contender: Contender) -> AsyncIterator["Client"]:
    """The contender, started and ready; ended when the block is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            contender.command(port), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env=contender.environment(),
        )  # fmt: skip
        try:
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=1800, trust_env=False,
                # llama-server closes kept-alive connections without a word (docs/journal.md).
                limits=httpx2.Limits(max_keepalive_connections=0),
            ) as http:  # fmt: skip
                while not await _healthy(http):
                    if process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
                        said.seek(0)
                        raise SystemExit(f"{contender.name}: {said.read()[-2000:].decode()}")
                    await asyncio.sleep(LOOK_SECONDS)
                name = (await http.get("/v1/models")).json()["data"][0]["id"]
                yield Client(http, name, begun)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


async def _healthy(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/health")).status_code == 200
    except httpx2.TransportError:
        return False


class Refused(Exception):
    """A server that did not answer what it was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as its client saw it. Seconds from the request on."""

    seconds: float
    first_s: float
    tokens: int
    prompt_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one server."""

    http: httpx2.AsyncClient
    model: str
    begun: float  # when its process was started

    async def ask(
        self,
        messages: list[dict[str, str]],
        tokens: int,
        ends: tuple[int, ...] = (),
    ) -> Answer:
        """A greedy answer, streamed; `ends` are tokens that are never to be written."""
        body: dict[str, Any] = {
            "model": self.model, "messages": messages, "max_tokens": tokens, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if ends:
            body["logit_bias"] = {str(end): -100 for end in ends}
        begun, first, usage, text = time.perf_counter(), 0.0, None, []
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise Refused(f"{self.model}: {(await answer.aread())[:300]!r}")
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                usage = event.get("usage") or usage
                piece = (event.get("choices") or [{}])[0].get("delta", {}).get("content")
                if piece:
                    first = first or time.perf_counter()
                    text.append(piece)
        now = time.perf_counter()
        if usage is None:
            raise Refused("it told no usage")
        told = usage["completion_tokens"], usage["prompt_tokens"]
        return Answer(now - begun, (first or now) - begun, *told, "".join(text))

    async def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text, of so many tokens (llama-server's own tokenizer)."""
        ids = (await self.http.post("/tokenize", json={"content": text})).json()["tokens"]
        if len(ids) < tokens:
            raise SystemExit(f"a text of {len(ids)} tokens is too short for {tokens}")
        back = await self.http.post("/detokenize", json={"tokens": ids[:tokens]})
        return str(back.json()["content"])
