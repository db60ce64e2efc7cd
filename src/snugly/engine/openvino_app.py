"""llama-server's HTTP dialect in front of OpenVINO GenAI: what `engine.llama_http` asks for."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from snugly.engine.openvino_batch import Answer, PipelineBroke
from snugly.engine.openvino_request import Asked, Refused, read_chat, read_completion
from snugly.engine.openvino_text import Stops, Words
from snugly.engine.worker import ENGINE_PING_SECONDS

Event = dict[str, Any]


class Model(Protocol):
    """What the routes need of a loaded model; `openvino_worker` has the real one."""

    context: int

    def prompt_of(self, asked: Asked) -> str:
        """The messages through the chat template."""
        ...

    def tokens_of(self, text: str, add_special: bool) -> list[int]:
        """The ids of a text's tokens; special tokens in it are taken as such."""
        ...

    def text_of(self, tokens: Iterable[int], special: bool = False) -> str:
        """The text of tokens; special ones are left out unless wanted."""
        ...

    def begin(self, tokens: list[int], asked: Asked, limit: int) -> Answer:
        """Start an answer of at most `limit` tokens."""
        ...

    def cancel(self, answer: Answer) -> None:
        """Let an answer be."""
        ...


@dataclass(slots=True)
class Progress:
    """Times and counts of one answer, as llama-server tells them."""

    n_prompt: int
    begun: float
    first: float = 0.0
    n_written: int = 0

    def timings(self, now: float) -> dict[str, float]:
        """In milliseconds and tokens per second. The first token belongs to the prompt."""
        prefill = (self.first or now) - self.begun
        decode = now - (self.first or now)
        return {
            "cache_n": 0,  # the library does not tell
            "prompt_ms": 1000 * prefill,
            "predicted_ms": 1000 * decode,
            "prompt_per_second": self.n_prompt / prefill if prefill > 0 else 0.0,
            "predicted_per_second": (self.n_written - 1) / decode if decode > 0 else 0.0,
        }


def make_app(model: Model) -> Starlette:
    """The routes over one model."""

    async def chat(request: Request) -> Response:
        return await _answered(model, await request.json(), read_chat, _chat_events)

    async def completion(request: Request) -> Response:
        return await _answered(model, await request.json(), read_completion, _completion_events)

    async def template(request: Request) -> Response:
        asked = read_chat(await request.json())
        return JSONResponse({"prompt": await asyncio.to_thread(model.prompt_of, asked)})

    async def tokenize(request: Request) -> Response:
        body = await request.json()
        tokens = model.tokens_of(str(body["content"]), bool(body.get("add_special")))
        return JSONResponse({"tokens": tokens})

    async def detokenize(request: Request) -> Response:
        body = await request.json()
        return JSONResponse({"content": model.text_of(body["tokens"], special=True)})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    posts = {
        "/v1/chat/completions": chat, "/completion": completion, "/apply-template": template,
        "/tokenize": tokenize, "/detokenize": detokenize,
    }  # fmt: skip
    routes = [Route(path, guarded(route), methods=["POST"]) for path, route in posts.items()]
    return Starlette(routes=[*routes, Route("/health", health)])


def guarded(route: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """`route` with errors in llama-server's shape."""

    async def safe(request: Request) -> Response:
        try:
            response: Response = await route(request)
        except Refused as refused:
            return refusal(str(refused), 400)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return refusal(f"The request cannot be read: {error!r}.", 400)
        except PipelineBroke as broke:
            return refusal(str(broke), 400)
        return response

    return safe


def refusal(
    message: str, status: int, kind: str = "invalid_request_error", **more: Any
) -> Response:
    """An error as llama-server writes one."""
    error = {"code": status, "message": message, "type": kind} | more
    return JSONResponse({"error": error}, status)


async def _answered(
    model: Model,
    body: dict[str, Any],
    read: Callable[[dict[str, Any]], Asked],
    events_of: "Callable[[Piece, Asked, Progress], list[Any]]",
) -> Response:
    asked = read(body)
    if asked.prompt is None or isinstance(asked.prompt, str):
        text = asked.prompt
        if text is None:
            text = await asyncio.to_thread(model.prompt_of, asked)
        tokens = await asyncio.to_thread(model.tokens_of, text, True)
    else:
        tokens = list(asked.prompt)
    if len(tokens) >= model.context:
        counts = {"n_prompt_tokens": len(tokens), "n_ctx": model.context}
        return refusal("the prompt is too long", 400, "exceed_context_size_error", **counts)
    if not tokens:
        return refusal("the prompt is empty", 400)
    room = model.context - len(tokens)
    limit = room if asked.max_tokens is None else max(1, min(asked.max_tokens, room))
    progress = Progress(len(tokens), time.monotonic())
    answer = model.begin(tokens, asked, limit)
    taken = await answer.tokens.get()  # or why not, which is a refusal still
    if isinstance(taken, Exception):
        raise taken
    pieces = _pieces(model, answer, asked, progress)
    stream = _sent(pieces, asked, progress, events_of)
    return StreamingResponse(stream, media_type="text/event-stream")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of an answer; the last one says how it ended. None for text: nothing yet."""

    text: str | None = ""
    tokens: tuple[int, ...] = ()
    finish: str = ""
    stop_word: str = ""


async def _pieces(
    model: Model, answer: Answer, asked: Asked, progress: Progress
) -> AsyncGenerator[Piece, None]:
    """The text of an answer as it comes, and a sign of life while there is none.

    Raises: PipelineBroke.
    """
    words, stops = Words(model.text_of), Stops(asked.stop)
    try:
        while not stops.found:
            try:
                async with asyncio.timeout(ENGINE_PING_SECONDS):
                    got = await answer.tokens.get()
            except TimeoutError:
                yield Piece(None)
                continue
            if isinstance(got, Exception):
                raise got
            if got is None:
                break
            progress.first = progress.first or time.monotonic()
            progress.n_written += len(got)
            if text := stops.feed(words.feed(got)):
                yield Piece(text, tuple(got))
        left = "" if stops.found else stops.feed(words.rest()) + stops.rest()
        finish = "stop" if stops.found or not answer.at_limit else "length"
        yield Piece(left, (), finish, stops.found)
    finally:  # also when the client is gone
        model.cancel(answer)


async def _sent(
    pieces: AsyncGenerator[Piece, None],
    asked: Asked,
    progress: Progress,
    events_of: Callable[[Piece, Asked, Progress], list[Any]],
) -> AsyncGenerator[bytes, None]:
    """Server-sent events of an answer."""
    try:
        async for piece in pieces:
            if piece.text is None:
                yield b":\n\n"
                continue
            for event in events_of(piece, asked, progress):
                text = event if isinstance(event, str) else json.dumps(event)
                yield f"data: {text}\n\n".encode()
    except PipelineBroke as broke:
        error = {"error": {"code": 500, "message": str(broke), "type": "server_error"}}
        yield f"data: {json.dumps(error)}\n\n".encode()
    finally:
        await pieces.aclose()


def _chat_events(piece: Piece, asked: Asked, progress: Progress) -> list[Any]:
    events: list[Any] = []
    if piece.text:
        events.append({"choices": [{"delta": {"content": piece.text}, "finish_reason": None}]})
    if not piece.finish:
        return events
    end: Event = {"choices": [{"delta": {}, "finish_reason": piece.finish}]}
    if asked.verbose:
        end["__verbose"] = {"stopping_word": piece.stop_word}
    usage = {"prompt_tokens": progress.n_prompt, "completion_tokens": progress.n_written}
    told = {"choices": [], "usage": usage, "timings": progress.timings(time.monotonic())}
    return [*events, end, told, "[DONE]"]


def _completion_events(piece: Piece, asked: Asked, progress: Progress) -> list[Any]:
    event: Event = {"content": piece.text, "tokens": list(piece.tokens), "stop": False}
    if piece.finish:
        event |= {
            "stop": True,
            "stop_type": "limit" if piece.finish == "length" else "word",
            "stopping_word": piece.stop_word,
            "tokens_evaluated": progress.n_prompt,
            "tokens_predicted": progress.n_written,
            "timings": progress.timings(time.monotonic()),
        }
    return [event]
