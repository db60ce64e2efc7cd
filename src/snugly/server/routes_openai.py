"""OpenAI's routes: chats, completions, responses, vectors, relevance, models."""

from functools import partial
from typing import Any

from snugly.chat.requests import InfillRequest
from snugly.chat.types import ChatRequest
from snugly.history import responses as stored
from snugly.server import remembering
from snugly.server.calls import Call
from snugly.server.cards import card_of, cards
from snugly.server.dialects import fim, openai_chat, openai_completions, openai_embeddings, rerank
from snugly.server.dialects import models as lists
from snugly.server.dialects import openai_responses as responses
from snugly.server.dialects.sending import SSE
from snugly.server.dialects.types import Reply
from snugly.server.routing import Body, Route
from snugly.server.writing import asked_of, fitting, gathered, pieces, ready, write_text


async def chat(call: Call, body: Body) -> Any:
    """A chat completion. A body in the shape of a response, as Cursor sends, is one."""
    if "messages" not in body and "input" in body:
        return await respond(call, body)
    request = openai_chat.read(body)

    def writer(reply: Reply) -> openai_chat.ChatWriter:
        return openai_chat.ChatWriter(reply, request.n, request.include_usage)

    return await write_text(call, request, openai_chat.write, writer)


async def complete(call: Call, body: Body) -> Any:
    """A completion of raw prompts, or one to fill in."""
    request = openai_completions.read(body)
    prompts = 1 if isinstance(request, InfillRequest) else len(request.prompts)

    def writer(reply: Reply) -> openai_completions.CompletionWriter:
        return openai_completions.CompletionWriter(
            reply, prompts * request.n, request.n, request.include_usage
        )

    whole = partial(openai_completions.write, n=request.n)
    return await write_text(call, request, whole, writer)


async def fill(call: Call, body: Body) -> Any:
    """Mistral's fill-in-the-middle."""
    request = fim.read(body)

    def writer(reply: Reply) -> fim.FimWriter:
        return fim.FimWriter(reply, request.n)

    return await write_text(call, request, fim.write, writer)


async def respond(call: Call, body: Body) -> Any:
    """A response; stored unless the client says otherwise."""
    before = await remembering.turns_before(call, responses.previous_id(body))
    asked = responses.read(body, before)
    request: ChatRequest = await ready(call, asked.request)
    async with call.service.lend(call, request.model, **asked_of(request)) as lent:
        reply = call.reply(lent.name, lent.lease, lent.wait_ms)
        deltas = pieces(call, lent, await fitting(call, lent, request))
        if request.stream:
            kept = remembering.Kept(call, asked)
            await call.stream(responses.ResponseWriter(reply, asked), kept.through(deltas))
            return None
        (answer,) = await gathered(call, deltas)
    await remembering.keep(call, asked, answer)
    return responses.write(reply, asked, answer)


async def stored_response(call: Call, body: Body) -> Any:
    """A response that was stored."""
    return await remembering.told(call, call.path_params["id"])


async def forget_response(call: Call, body: Body) -> Any:
    """Forget a stored response."""
    number = call.path_params["id"]
    if not await call.service.ledger.ask(lambda db: stored.delete(db, number)):
        raise remembering.unknown(number)
    return {"id": number, "object": "response", "deleted": True}


async def embed(call: Call, body: Body) -> Any:
    """Vectors of texts."""
    request = openai_embeddings.read(body)
    async with call.service.lend(
        call, request.model, "embed", context=request.context, keep_alive=request.keep_alive
    ) as lent:
        found = await lent.lease.running.embed(request)
        call.note(prompt_tokens=found.prompt_tokens)
        return openai_embeddings.write(
            call.reply(lent.name, lent.lease), found, as_base64=request.base64
        )


async def rank(call: Call, body: Body) -> Any:
    """Documents by relevance."""
    request = rerank.read(body)
    async with call.service.lend(call, request.model, "rerank") as lent:
        found = await lent.lease.running.rerank(request)
        call.note(prompt_tokens=found.prompt_tokens)
        if rerank.is_tei(body):
            return rerank.write_tei(request, found)
        return rerank.write(call.reply(lent.name, lent.lease), request, found)


async def models(call: Call, body: Body) -> Any:
    """Every installed model, in Anthropic's shape for Anthropic's clients."""
    found = await cards(call.service)
    if call.header("anthropic-version"):
        return lists.anthropic_models(found)
    return lists.openai_models(found)


async def model(call: Call, body: Body) -> Any:
    """One installed model."""
    card = await card_of(call.service, call.path_params["name"])
    if call.header("anthropic-version"):
        return lists.anthropic_model(card)
    return lists.openai_model(card)


def _post(path: str, handler: Any, summary: str, *needs: str, streams: bool = False) -> Route:
    return Route(
        "POST", path, "openai", handler, summary, needs=needs,
        streams=SSE if streams else "", asks_model=True,
    )  # fmt: skip


ROUTES = (
    _post("/v1/chat/completions", chat, "Chat", "messages", streams=True),
    _post("/v1/completions", complete, "Complete a prompt", "prompt", streams=True),
    _post("/v1/fim/completions", fill, "Fill in the middle", "prompt", streams=True),
    _post("/v1/responses", respond, "A response", streams=True),
    Route("GET", "/v1/responses/{id}", "openai", stored_response, "A stored response"),
    Route("DELETE", "/v1/responses/{id}", "openai", forget_response, "Forget a response"),
    _post("/v1/embeddings", embed, "Vectors of texts", "input"),
    _post("/v1/rerank", rank, "Documents by relevance", "query"),
    _post("/rerank", rank, "Documents by relevance", "query"),
    Route("GET", "/v1/models", "openai", models, "The installed models"),
    Route("GET", "/v1/models/{name:path}", "openai", model, "One model"),
)
