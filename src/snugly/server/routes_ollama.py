"""Ollama's routes."""

import asyncio
from typing import Any

from snugly.chat.answer import Answer
from snugly.chat.requests import LoadRequest
from snugly.model.store import Store
from snugly.server.calls import Call
from snugly.server.cards import cards, full_card_of, sampling_lines
from snugly.server.dialects import models as lists
from snugly.server.dialects import ollama, ollama_models
from snugly.server.dialects.sending import NDJSON
from snugly.server.dialects.types import Reply
from snugly.server.pulling import pulled
from snugly.server.routing import Body, Route
from snugly.server.security import Access
from snugly.server.writing import write_text


async def chat(call: Call, body: Body) -> Any:
    """A chat; without messages the model is loaded or unloaded."""
    request = ollama.read_chat(body)
    if isinstance(request, LoadRequest):
        return await _load(call, request, chat=True)

    def whole(reply: Reply, answers: Any) -> Any:
        return ollama.write_chat(reply, _first(answers))

    return await write_text(call, request, whole, ollama.ChatWriter)


async def generate(call: Call, body: Body) -> Any:
    """A prompt; an empty one loads or unloads the model."""
    request = ollama.read_generate(body)
    if isinstance(request, LoadRequest):
        return await _load(call, request, chat=False)

    def whole(reply: Reply, answers: Any) -> Any:
        return ollama.write_generate(reply, _first(answers))

    return await write_text(call, request, whole, ollama.GenerateWriter)


def _first(answers: Any) -> Answer:
    answer: Answer = answers[0]
    return answer


async def _load(call: Call, request: LoadRequest, chat: bool) -> Any:
    volume = await call.service.volume(request.model)
    reply = Reply(call.id, request.model, call.created)
    if request.keep_alive == 0:
        await call.service.pool.unload(volume.installed.ref)
        return ollama.write_loaded(reply, chat, unloaded=True)
    async with call.service.lend(
        call, request.model, context=request.context, keep_alive=request.keep_alive
    ):
        pass
    return ollama.write_loaded(reply, chat, unloaded=False)


async def embed(call: Call, body: Body) -> Any:
    """Vectors of texts."""
    reply, found = await _embedded(call, body)
    return ollama.write_embed(reply, found)


async def embeddings(call: Call, body: Body) -> Any:
    """The vector of one text, in the older way."""
    _, found = await _embedded(call, body)
    return ollama.write_embeddings(found)


async def _embedded(call: Call, body: Body) -> Any:
    request = ollama.read_embed(body)
    async with call.service.lend(
        call, request.model, "embed", context=request.context, keep_alive=request.keep_alive
    ) as lent:
        found = await lent.lease.running.embed(request)
        call.note(prompt_tokens=found.prompt_tokens)
        return call.reply(lent.name, lent.lease, lent.wait_ms), found


async def tags(call: Call, body: Body) -> Any:
    """The installed models."""
    return lists.ollama_tags(await cards(call.service))


async def running(call: Call, body: Body) -> Any:
    """The loaded models."""
    return lists.ollama_ps(await cards(call.service))


async def show(call: Call, body: Body) -> Any:
    """Everything of one model."""
    name = ollama_models.read_name(body)
    volume = await call.service.volume(name)
    return lists.ollama_show(await full_card_of(call.service, name), sampling_lines(volume))


async def version(call: Call, body: Body) -> Any:
    """The version of Ollama's API that is spoken."""
    return ollama_models.write_version()


async def pull(call: Call, body: Body) -> Any:
    """Fetch a model, with its progress in lines."""
    request = ollama_models.read_pull(body)
    lines = pulled(call.service, request.model)
    if request.stream:
        await call.lines(NDJSON, lines)
        return None
    async for _ in lines:
        pass
    return {"status": "success"}


async def delete(call: Call, body: Body) -> Any:
    """Remove a model from the store."""
    volume = await call.service.volume(ollama_models.read_name(body))
    await call.service.pool.unload(volume.installed.ref)
    store = Store(call.service.config.store)
    await asyncio.to_thread(store.remove, volume.installed)
    call.service.shelf.forget()
    return {}


async def copy(call: Call, body: Body) -> Any:
    """Not done: a second name for a file would be a second file."""
    ollama_models.read_copy(body)
    raise ollama_models.refused("copy")


async def push(call: Call, body: Body) -> Any:
    """Not done: there is no registry."""
    raise ollama_models.refused("push")


async def create(call: Call, body: Body) -> Any:
    """Not done: templates and weights come from models only."""
    raise ollama_models.refused("create")


async def blobs(call: Call, body: Body) -> Any:
    """Not done: it belongs to create."""
    raise ollama_models.refused("blobs")


async def root(call: Call, body: Body) -> Any:
    """What Ollama's clients look for to see whether a server is there."""
    await call.whole(b"Ollama is running", b"text/plain; charset=utf-8")


def _post(path: str, handler: Any, summary: str, streams: str = "", asks: bool = False) -> Route:
    return Route(
        "POST", path, "ollama", handler, summary,
        needs=("model",) if asks else (), streams=streams, asks_model=asks,
    )  # fmt: skip


def _admin(method: str, path: str, handler: Any, summary: str, streams: str = "") -> Route:
    return Route(method, path, "ollama", handler, summary, Access.ADMIN, streams=streams)


ROUTES = (
    _post("/api/chat", chat, "Chat", NDJSON, asks=True),
    _post("/api/generate", generate, "Answer a prompt", NDJSON, asks=True),
    _post("/api/embed", embed, "Vectors of texts", asks=True),
    _post("/api/embeddings", embeddings, "The vector of a text", asks=True),
    Route("GET", "/api/tags", "ollama", tags, "The installed models"),
    Route("GET", "/api/ps", "ollama", running, "The loaded models"),
    _post("/api/show", show, "Everything of one model"),
    Route("GET", "/api/version", "ollama", version, "The version of the API"),
    _admin("POST", "/api/pull", pull, "Fetch a model", NDJSON),
    _admin("DELETE", "/api/delete", delete, "Remove a model"),
    _admin("POST", "/api/copy", copy, "Refused"),
    _admin("POST", "/api/push", push, "Refused"),
    _admin("POST", "/api/create", create, "Refused"),
    _admin("POST", "/api/blobs/{digest}", blobs, "Refused"),
    Route("GET", "/", "ollama", root, "Whether a server is here", media_type="text/plain"),
)
