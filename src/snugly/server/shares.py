"""What requests take of a context that several share, and answers that keep to their share."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from snugly.chat.requests import (
    CompletionRequest,
    GenerateRequest,
    InfillRequest,
    Prompt,
    TokenizeRequest,
)
from snugly.chat.types import ChatRequest, Delta, Usage
from snugly.engine.types import Running
from snugly.server.admission import Share
from snugly.server.service import Size

# Gemma 3 takes 256 tokens for a picture, Qwen2.5-VL 1 for 28 x 28 pixels, which is 1,300 for
# 1024 x 1024 (llama.cpp tools/mtmd/clip.cpp). The engine refuses what does not fit.
_PICTURE = 1000
# What templates add: to each message (SmolLM2 4, Llama 3 5), and once (Llama 3.1's words about
# tools 150, SmolLM2's system prompt 27).
_MESSAGE, _ONCE = 8, 192
# Beside what is counted: words guessed ahead of the answer (`engine.speculating`), and tokens that
# the engine holds back until they are a character or surely no call.
_AHEAD = 64
_LONG_TOKEN = 24  # bytes; a longer piece is several tokens that were held back, 3 bytes each
_BYTES_PER_TOKEN = 3


def size_of(request: GenerateRequest) -> Size:
    """What a request takes of the context."""

    async def count(running: Running) -> int:
        return await _counted(running, request) + _pictures(request) + _AHEAD

    return Size(_most(request), count, request.max_tokens)


def _most(request: GenerateRequest) -> int:
    """A token is a byte at least."""
    if isinstance(request, ChatRequest):
        tools = "".join(f"{t.name}{t.description}{t.parameters}" for t in request.tools)
        texts = [tools, *(f"{m.text}{m.reasoning}{m.tool_calls}" for m in request.messages)]
        added = _AHEAD + _ONCE + _MESSAGE * len(request.messages) + _pictures(request)
        return added + sum(map(_bytes, texts))
    return _AHEAD + max(_bytes(p) if isinstance(p, str) else len(p) for p in _prompts(request))


def _pictures(request: GenerateRequest) -> int:
    if not isinstance(request, ChatRequest):
        return 0
    return _PICTURE * sum(len(message.images) for message in request.messages)


def _prompts(request: CompletionRequest | InfillRequest) -> tuple[Prompt, ...]:
    if isinstance(request, CompletionRequest):
        return request.prompts
    extra = "".join(file.text for file in request.extra)
    return (f"{extra}{request.prefix}{request.suffix}",)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


async def _counted(running: Running, request: GenerateRequest, only: Prompt | None = None) -> int:
    """Tokens of the prompt; of several, the longest one's."""
    if isinstance(request, ChatRequest):
        return await running.count_tokens(request)
    counts = []
    for prompt in _prompts(request) if only is None else (only,):
        if isinstance(prompt, str):
            asked = TokenizeRequest(request.model, prompt, add_special=True)
            counts.append(len(await running.tokenize(asked)))
        else:
            counts.append(len(prompt))
    return max(counts)


async def shared(
    deltas: AsyncGenerator[Delta, None],
    share: Share,
    context: int,
    running: Running,
    request: GenerateRequest,
    prompt: Prompt | None = None,
) -> AsyncGenerator[Delta, None]:
    """An answer that ends with `length` where its share of the context does.

    Or where it is longer than the whole context: a model full of NaNs repeats one token for
    ever; llama-server stops where the context is full, and this holds whatever the engine.
    """
    pieces = used = 0
    async with aclosing(deltas):
        async for delta in deltas:
            tokens = _tokens(delta)
            pieces += tokens > 0
            used += tokens
            ended = delta.finish_reason is not None or delta.usage is not None
            if ended or (pieces <= context and share.holds(used)):
                yield delta
                continue
            yield replace(delta, finish_reason="length", more=True)
            break
        else:
            return
    # The engine, broken off, does not tell.
    told = await _counted(running, request, prompt)
    yield Delta(usage=Usage(told, pieces, 0, 0.0, 0.0, 0.0, 0.0))


def _tokens(delta: Delta) -> int:
    """Tokens in a piece: one, or more where text was held back until it was sure."""
    text = delta.text
    if delta.reasoning or delta.tool_calls:
        arguments = "".join(call.arguments for call in delta.tool_calls)
        text = f"{text}{delta.reasoning}{arguments}"
    if not text:
        return 0
    if len(text) <= _LONG_TOKEN:
        # What came before its first character was sure is held back: a token for each byte.
        return 1 if text[0].isascii() else len(text[0].encode(errors="replace"))
    return -(-_bytes(text) // _BYTES_PER_TOKEN)
