"""llama.cpp's own routes, and those of lm-evaluation-harness and LM Studio beside them."""

import asyncio
from functools import partial
from typing import Any

from snugly.chat.requests import InfillRequest
from snugly.server.calls import Call
from snugly.server.cards import card_of, cards
from snugly.server.dialects import llamacpp
from snugly.server.dialects import models as lists
from snugly.server.dialects.faults import HttpFault
from snugly.server.dialects.sending import SSE
from snugly.server.dialects.types import Reply
from snugly.server.routing import Body, Route
from snugly.server.writing import write_text


async def complete(call: Call, body: Body) -> Any:
    """A raw completion, or several."""
    request = llamacpp.read_completion(body)
    return await _write(call, request, body, request.wants_tokens, len(request.prompts))


async def infill(call: Call, body: Body) -> Any:
    """Fill in the middle."""
    request: InfillRequest = llamacpp.read_infill(body)
    return await _write(call, request, body, False, 1)


async def _write(call: Call, request: Any, body: Body, wants_tokens: bool, prompts: int) -> Any:
    wanted = llamacpp.response_fields(body)

    def whole(reply: Reply, answers: Any) -> Any:
        found = [
            llamacpp.write(reply, answer, wanted, index) for index, answer in enumerate(answers)
        ]
        return found[0] if prompts == 1 else found

    return await write_text(
        call, request, whole, partial(_writer, wanted=wanted, wants_tokens=wants_tokens)
    )


def _writer(reply: Reply, wanted: Any, wants_tokens: bool) -> llamacpp.RawWriter:
    return llamacpp.RawWriter(reply, wanted, wants_tokens)


async def tokenize(call: Call, body: Body) -> Any:
    """The tokens of a text."""
    request = llamacpp.read_tokenize(body)
    async with call.service.lend(call, request.model) as lent:
        running = lent.lease.running
        tokens = await running.tokenize(request)
        if not request.with_pieces:
            return llamacpp.write_tokenize(tokens)
        if len(tokens) > 4096:
            raise HttpFault(400, "With pieces at most 4,096 tokens are told.")
        pieces = [await running.detokenize((token,)) for token in tokens]
        return llamacpp.write_tokenize(tokens, pieces)


async def detokenize(call: Call, body: Body) -> Any:
    """The text of tokens."""
    request = llamacpp.read_detokenize(body)
    async with call.service.lend(call, request.model) as lent:
        return llamacpp.write_detokenize(await lent.lease.running.detokenize(request.tokens))


async def embed(call: Call, body: Body) -> Any:
    """Vectors, as llama.cpp tells them."""
    request = llamacpp.read_embedding(body)
    async with call.service.lend(call, request.model, "embed") as lent:
        found = await lent.lease.running.embed(request)
        call.note(prompt_tokens=found.prompt_tokens)
        return llamacpp.write_embeddings(found)


async def props(call: Call, body: Body) -> Any:
    """What the default model is, or the one named in `model`."""
    return llamacpp.write_props(await _named(call))


async def tokenizer_info(call: Call, body: Body) -> Any:
    """The tokenizer of the default model, or of the one named in `model`."""
    return llamacpp.write_tokenizer_info(await _named(call))


async def _named(call: Call) -> Any:
    return await card_of(call.service, call.query("model"))


async def load(call: Call, body: Body) -> Any:
    """Load a model now."""
    volume = await call.service.volume(str(body.get("model", "")))
    await call.service.pool.load(volume.installed, volume.spec)
    return {"success": True}


async def unload(call: Call, body: Body) -> Any:
    """Unload a model when its answers are done."""
    volume = await call.service.volume(str(body.get("model", "")))
    return {"success": await call.service.pool.unload(volume.installed.ref)}


async def lmstudio_v0(call: Call, body: Body) -> Any:
    """The models as LM Studio's first API tells them."""
    return lists.lmstudio_v0(await cards(call.service))


async def lmstudio_v0_model(call: Call, body: Body) -> Any:
    """One model as LM Studio's first API tells it."""
    return lists.lmstudio_v0_model(await card_of(call.service, call.path_params["name"]))


async def lmstudio_v1(call: Call, body: Body) -> Any:
    """The models as LM Studio's second API tells them."""
    return lists.lmstudio_v1(await cards(call.service))


async def slots(call: Call, body: Body) -> Any:
    """Off: llama.cpp's would show what others are asking."""
    await asyncio.sleep(0)
    raise HttpFault(403, "Slots are not shown.", "They would tell what others are asking.")


def _post(
    path: str, handler: Any, summary: str, *needs: str, streams: str = "", asks: bool = True
) -> Route:
    return Route(
        "POST", path, "llama.cpp", handler, summary,
        needs=needs, streams=streams, asks_model=asks,
    )  # fmt: skip


ROUTES = (
    _post("/completion", complete, "Complete a prompt", "prompt", streams=SSE),
    _post("/completions", complete, "Complete a prompt", "prompt", streams=SSE),
    _post("/infill", infill, "Fill in the middle", streams=SSE),
    _post("/tokenize", tokenize, "Tokens of a text", asks=False),
    _post("/detokenize", detokenize, "Text of tokens", "tokens", asks=False),
    _post("/embedding", embed, "Vectors of texts"),
    _post("/embeddings", embed, "Vectors of texts"),
    Route("GET", "/props", "llama.cpp", props, "What the model is", query=("model",)),
    Route("GET", "/slots", "llama.cpp", slots, "Off"),
    Route("GET", "/tokenizer_info", "llama.cpp", tokenizer_info, "The tokenizer", query=("model",)),
    Route("GET", "/api/v0/models", "lmstudio", lmstudio_v0, "The installed models"),
    Route("GET", "/api/v0/models/{name:path}", "lmstudio", lmstudio_v0_model, "One model"),
    Route("GET", "/api/v1/models", "lmstudio", lmstudio_v1, "The installed models"),
)
