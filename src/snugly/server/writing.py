"""From a request for text to its pieces: chats, completions, texts to fill in."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from snugly.chat.answer import Answer, gather
from snugly.chat.requests import (
    CompletionRequest,
    GenerateRequest,
    InfillRequest,
    Prompt,
)
from snugly.chat.steady import steady
from snugly.chat.types import ChatRequest, Delta, Message
from snugly.errors import PromptTooLong
from snugly.server.calls import Call
from snugly.server.dialects.types import Body, Reply, Writer
from snugly.server.filling import filled
from snugly.server.forcing import (
    as_calls,
    callable_tools,
    forced,
    knows_tools,
    must_call,
    or_else,
)
from snugly.server.pictures import check_seeing, check_sight
from snugly.server.scoring import ends_with_prompt, prompt_scores, scored, to_be_scored
from snugly.server.security import holder_of
from snugly.server.service import Lent, advise
from snugly.server.shares import shared, size_of

# Of the context, what an answer gets at least where a prompt may be trimmed and the client
# does not say how long the answer may be.
_ROOM_FOR_ANSWER = 4

Whole = Callable[[Reply, Sequence[Answer]], Any]
MakeWriter = Callable[[Reply], Writer]


async def write_text(
    call: Call, request: GenerateRequest, whole: Whole, writer: MakeWriter
) -> Body | None:
    """Answer a request for text, whole or in pieces, in the dialect of the two functions."""
    request = await ready(call, request)
    if isinstance(request, CompletionRequest) and to_be_scored(call.service.pool, request):
        return await _write_scored(call, request, whole, writer)
    async with call.service.lend(call, request.model, **asked_of(request)) as lent:
        reply = call.reply(lent.name, lent.lease, lent.wait_ms)
        if isinstance(request, ChatRequest):
            request = await fitting(call, lent, request)
        return await _written(call, request, pieces(call, lent, request), reply, whole, writer)


async def ready(call: Call, request: Any) -> Any:
    """The request as it goes to the engine, once it is known that it can.

    Raises: BadRequest for pictures that the model cannot see; what finding it raises.
    """
    call.n = request.n
    if isinstance(request, ChatRequest):
        await check_sight(call.service, request)
    return placed(call, request)


def placed(call: Call, request: Any) -> Any:
    """The request with whose it is, and what is volatile at its end."""
    if isinstance(request, ChatRequest) and call.service.config.steady_prompts:
        request = steady(request)
    return replace(request, holder=holder_of(call.scope))


async def _written(
    call: Call,
    request: GenerateRequest,
    deltas: AsyncGenerator[Delta, None],
    reply: Reply,
    whole: Whole,
    writer: MakeWriter,
) -> Body | None:
    if request.stream:
        await call.stream(writer(reply), deltas)
        return None
    body: Body = whole(reply, await gathered(call, deltas))
    return body


async def _write_scored(
    call: Call, request: CompletionRequest, whole: Whole, writer: MakeWriter
) -> Body | None:
    """The same for prompts whose tokens' probabilities are wanted.

    They are told by a process of its own, which is given back before the model goes on:
    where memory is short only one of the two is there.
    """
    asked = asked_of(request)
    async with call.service.lend(call, request.model, "score", **asked) as lent:
        told = prompt_scores(lent, request)
        if ends_with_prompt(request):
            reply = call.reply(lent.name, lent.lease, lent.wait_ms)
            return await _written(call, request, told, reply, whole, writer)
        heads = [delta async for delta in told]
    async with call.service.lend(call, request.model, **asked) as lent:
        reply = call.reply(lent.name, lent.lease, lent.wait_ms)
        deltas = _after(lent, request, heads)
        return await _written(call, request, deltas, reply, whole, writer)


async def _after(
    lent: Lent, request: CompletionRequest, heads: Sequence[Delta]
) -> AsyncGenerator[Delta, None]:
    """Each prompt as it was scored, and how it goes on."""
    alone = replace(request, echo=False)
    for choice in range(len(request.prompts) * request.n):
        for delta in heads:
            if delta.choice == choice:
                yield delta
        prompt = request.prompts[choice // request.n]
        async for delta in _completed(lent, alone, prompt, choice):
            yield delta


def asked_of(request: GenerateRequest) -> dict[str, Any]:
    """How a model is to be lent for a request."""
    return {
        "context": request.context,
        "keep_alive": request.keep_alive,
        "size": size_of(request),
    }


async def gathered(call: Call, deltas: AsyncGenerator[Delta, None]) -> tuple[Answer, ...]:
    """Whole answers."""
    found: list[Delta] = []
    async with aclosing(deltas):
        async for delta in deltas:
            call.saw(delta)
            found.append(delta)
    return gather(found)


def pieces(call: Call, lent: Lent, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    """The pieces of all answers, one answer after the other."""
    if not isinstance(request, ChatRequest):
        return _completions(lent, request)
    asked = advise(request, lent.volume)
    # No layer more than it takes: each is passed through for every token.
    return _chatted(lent, _alone(asked, 0)) if asked.n == 1 else _chats(lent, asked)


async def _chats(lent: Lent, asked: ChatRequest) -> AsyncGenerator[Delta, None]:
    for choice in range(asked.n):
        async for delta in _one(_chatted(lent, _alone(asked, choice)), choice):
            yield delta


async def _completions(
    lent: Lent, request: CompletionRequest | InfillRequest
) -> AsyncGenerator[Delta, None]:
    prompts = (
        request.prompts
        if isinstance(request, CompletionRequest)
        else (await filled(lent, request),)
    )
    for index, prompt in enumerate(prompts):
        for choice in range(index * request.n, (index + 1) * request.n):
            async for delta in _completed(lent, request, prompt, choice):
                yield delta


def _chatted(lent: Lent, request: ChatRequest) -> AsyncGenerator[Delta, None]:
    """One answer; a call where that is what it must be."""
    running, context = lent.lease.running, lent.lease.plan.context
    plain = shared(running.stream(request), lent.share, context, running, request)
    if not must_call(request):
        return plain
    bound = shared(running.stream(forced(request)), lent.share, context, running, request)
    surely = as_calls(bound, callable_tools(request))
    return or_else(plain, surely) if knows_tools(lent.volume.spec.chat_template) else surely


async def _completed(
    lent: Lent, request: CompletionRequest | InfillRequest, prompt: Prompt, choice: int
) -> AsyncGenerator[Delta, None]:
    if isinstance(request, CompletionRequest) and request.echo:
        async for delta in _one(scored(lent, request, prompt), choice):
            yield delta
        if request.max_tokens == 0:
            return
    one = _alone(request, choice % request.n)
    running, context = lent.lease.running, lent.lease.plan.context
    stream = shared(running.complete(one, prompt), lent.share, context, running, one, prompt)
    async for delta in _one(stream, choice):
        yield delta


def _alone(request: Any, choice: int) -> Any:
    """One of several answers; with a seed each has its own, so that they differ."""
    if request.seed is not None:
        return replace(request, n=1, seed=request.seed + choice)
    return replace(request, n=1)


async def _one(deltas: AsyncGenerator[Delta, None], choice: int) -> AsyncGenerator[Delta, None]:
    async with aclosing(deltas):
        async for delta in deltas:
            yield replace(delta, choice=choice) if choice else delta


# ---- prompts that are too long


async def fitting(call: Call, lent: Lent, request: ChatRequest) -> ChatRequest:
    """The request, shortened where its client allows that and it must be.

    Left out are whole turns, the oldest first, never the system prompt nor the last
    question; a header of the answer says how many.

    Raises: PromptTooLong where even the last question alone is too long.
    """
    check_seeing(lent, request)
    if not request.trim:
        return request
    context = lent.lease.plan.context
    room = context - min(request.max_tokens or context // _ROOM_FOR_ANSWER, context // 2)
    tokens = before = await lent.lease.running.count_tokens(request)
    kept, dropped = request, 0
    while tokens > room:
        shorter = without_oldest(kept.messages)
        if shorter is None:
            if tokens < context:
                break  # the answer gets what is left
            raise PromptTooLong(
                f"The last question alone has {tokens:,} tokens and the context holds {context:,}.",
                "Everything before it has been left out already, as the request allows.",
                "Shorten it, or take a model with a longer context.",
            )
        dropped += len(kept.messages) - len(shorter)
        kept = replace(kept, messages=shorter)
        tokens = await lent.lease.running.count_tokens(kept)
    if dropped:
        said = f"messages={dropped}; tokens={before - tokens}"
        call.headers.append((b"x-snugly-left-out", said.encode()))
    return kept


def without_oldest(messages: Sequence[Message]) -> tuple[Message, ...] | None:
    """The conversation without its oldest exchange; None where only the last question is left.

    An exchange is a question with all that answers it: a tool's result never stands alone.
    """
    first = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    following = (i for i in range(first + 1, len(messages)) if messages[i].role == "user")
    second = next(following, None)
    return None if second is None else (*messages[:first], *messages[second:])
