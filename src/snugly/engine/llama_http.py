"""A running llama.cpp worker: what is asked of it over its private socket."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from snugly.chat.requests import (
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    InfillRequest,
    Prompt,
    Ranking,
    RerankRequest,
    TokenizeRequest,
)
from snugly.chat.sse import EventStream
from snugly.chat.types import ChatRequest, Delta, Generation, Usage
from snugly.engine import wire_raw
from snugly.engine.loose_calls import LooseCalls, names_to_watch
from snugly.engine.pieces import Pieces
from snugly.engine.process import EngineProcess
from snugly.engine.resident import held_bytes, peak_bytes
from snugly.engine.speculating import Guessed
from snugly.engine.streamed import Streamed, streamed
from snugly.engine.wire import body_of, refusal
from snugly.errors import EngineError, UserError
from snugly.plan.types import Plan

if TYPE_CHECKING:
    import httpx2

_CHAT = "/v1/chat/completions"


class LlamaCppRunning:
    """A worker that answers."""

    def __init__(self, plan: Plan, process: EngineProcess, silence_seconds: float) -> None:
        self.plan = plan
        self.pid = process.pid
        self._process = process
        self._silence_seconds = silence_seconds
        self._http: httpx2.AsyncClient | None = None
        self.guessed: Guessed | None = None  # counts what guessing ahead brings

    @property
    def http(self) -> "httpx2.AsyncClient":
        """The one client for this worker's socket."""
        import httpx2

        if self._http is None:
            address = self._process.address
            self._http = httpx2.AsyncClient(
                # No TLS to a private socket: a context for it would be 0.8 MiB of certificates
                # for each engine, and 17 ms in which nobody else is answered.
                transport=httpx2.AsyncHTTPTransport(uds=address.socket or None, verify=False),
                base_url=address.base_url,
                headers={"Connection": "close"}
                | ({"Authorization": f"Bearer {address.key}"} if address.key else {}),
                timeout=httpx2.Timeout(10.0, read=self._silence_seconds),
                # A connection each: the server drops idle ones without a word, and closing
                # one is how an answer is cancelled.
                limits=httpx2.Limits(max_keepalive_connections=0),
                trust_env=False,
            )
        return self._http

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing the iterator cancels the answer."""
        finished = False
        async with self._guarded():
            async with self._opened(_CHAT, body_of(request), request.schema) as answer:
                pieces, events = Pieces(top=request.logprobs), EventStream()
                calls = LooseCalls(names_to_watch(request))
                while not finished and (chunk := await answer.read()):
                    for data, more in told(events.feed(chunk)):
                        if data == "[DONE]":
                            finished = True
                            break
                        for delta in calls.feed(pieces.read(data, more)):
                            yield delta
                            if delta.usage is not None:
                                self._count(request, delta.usage)
            if not finished:
                raise await self._process.failure("The engine stopped in the middle of its answer.")

    async def complete(
        self, request: CompletionRequest | InfillRequest, prompt: Prompt
    ) -> AsyncGenerator[Delta, None]:
        """Go on with one prompt as it stands."""
        body = wire_raw.completion_body(request, prompt)
        finished = False
        async with self._guarded():
            async with self._opened(wire_raw.COMPLETION, body, request.schema) as answer:
                silent, events = request.max_tokens == 0, EventStream()
                pieces = Pieces(wire_raw.completion_delta, request.logprobs, silent)
                while not finished and (chunk := await answer.read()):
                    for data, more in told(events.feed(chunk)):
                        delta = pieces.read(data, more)
                        yield delta
                        if delta.usage is not None:
                            self._count(request, delta.usage)
                        if delta.finish_reason:
                            finished = True
                            break
            if not finished:
                raise await self._process.failure("The engine stopped in the middle of its answer.")

    def _count(self, request: Generation, usage: Usage) -> None:
        if self.guessed is not None:
            self.guessed.note(request, usage)

    @asynccontextmanager
    async def _opened(
        self, path: str, body: dict[str, Any], schema: dict[str, Any] | None
    ) -> AsyncIterator[Streamed]:
        """The answer to `body`, which is a stream of events."""
        address, silence = self._process.address, self._silence_seconds
        data = json.dumps(body | {"return_progress": True}).encode()
        async with streamed(address, path, data, silence) as answer:
            if answer.status != 200:
                error = refusal(_json(await answer.whole()), answer.status)
                if schema and isinstance(error, EngineError | UserError):
                    raise UserError("The engine cannot use this schema.", error.because)
                raise error
            yield answer

    async def count_tokens(self, request: ChatRequest) -> int:
        """Tokens of the request after the model's chat template."""
        body = body_of(request)
        kept = ("messages", "tools", "tool_choice", "chat_template_kwargs")
        async with self._guarded():
            shaped = await self._post(
                "/apply-template", {name: body[name] for name in kept if name in body}
            )
            answer = await self._post(
                wire_raw.TOKENIZE,
                {"content": shaped["prompt"], "add_special": True, "parse_special": True},
            )
        return len(wire_raw.tokens_of(answer))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Vectors of texts."""
        async with self._guarded():
            answer = await self._post(wire_raw.EMBEDDINGS, wire_raw.embed_body(request))
        return wire_raw.embeddings_of(answer, request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Documents by relevance."""
        async with self._guarded():
            answer = await self._post(wire_raw.RERANK, wire_raw.rerank_body(request))
        return wire_raw.ranking_of(answer)

    async def tokenize(self, request: TokenizeRequest) -> tuple[int, ...]:
        """The ids of a text's tokens."""
        async with self._guarded():
            answer = await self._post(wire_raw.TOKENIZE, wire_raw.tokenize_body(request))
        return wire_raw.tokens_of(answer)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of tokens."""
        async with self._guarded():
            answer = await self._post(wire_raw.DETOKENIZE, {"tokens": list(tokens)})
        return str(answer.get("content", ""))

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        response = await self.http.post(path, json=body)
        if response.status_code != 200:
            raise refusal(_json(response.content), response.status_code)
        return response.json()

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """Turn what a broken connection means into an error with the cause in words."""
        import httpx2

        try:
            yield
        except (httpx2.ReadTimeout, TimeoutError):
            await self.stop()
            raise EngineError(
                "The engine went silent and was stopped.",
                f"Nothing came from it for {self._silence_seconds:.0f} seconds.",
                "Ask again to start it anew; a very slow machine may need"
                " SNUGLY_ENGINE_SILENCE_SECONDS.",
            ) from None
        except ValueError as error:  # an event without end
            await self.stop()
            raise EngineError("The engine's answer cannot be read.", f"{error}.") from error
        except (httpx2.TransportError, OSError):
            if await self._process.lives_on():
                # Others are being answered by it: one broken connection is not its end.
                raise EngineError(
                    "The engine broke off this answer.", "It closed the connection.", "Try again."
                ) from None
            raise await self._process.failure(
                "The engine stopped while it was answering."
            ) from None

    @property
    def alive(self) -> bool:
        """Whether the worker is there and was not stopped."""
        return self._process.running

    @property
    def last_words(self) -> str:
        """Why it ended, in words."""
        return self._process.last_words

    def peak_bytes(self) -> int | None:
        """Peak resident memory of the worker so far."""
        return peak_bytes(self.pid)

    def held_bytes(self) -> int | None:
        """RAM of the worker that the system does not count as available."""
        return held_bytes(self.pid)

    async def stop(self) -> None:
        """End the worker: TERM, then KILL."""
        if self.guessed is not None:
            self.guessed.save()
        try:
            if self._http is not None:
                await self._http.aclose()
        finally:
            await self._process.stop()


def told(events: list[str]) -> list[tuple[str, bool]]:
    """What the engine wrote, each with whether the next is here already.

    How far it has read the prompt is passed over. It says so after each batch, and finds out
    then that nobody listens any more. Without that it would look once a second, and not at all
    while others' pieces keep it busy (HTTP_POLLING_SECONDS in tools/server/server-context.cpp,
    recv_with_timeout).
    """
    # Within a text the quotes would be escaped.
    if len(events) == 1:  # nearly always
        return [] if '"prompt_progress"' in events[0] else [(events[0], False)]
    found = [data for data in events if '"prompt_progress"' not in data]
    last = len(found) - 1
    return [(data, place < last) for place, data in enumerate(found)]


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return {"error": {"message": content[:200].decode(errors="replace")}}
