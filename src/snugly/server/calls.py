"""One request from its first byte to its last: read with limits, answered, written down."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from snugly.chat.types import Delta
from snugly.engine.pool import Lease
from snugly.errors import SnuglyError
from snugly.history.db import now
from snugly.history.requests import Asked
from snugly.server.dialects.faults import HttpFault
from snugly.server.dialects.reading import parse
from snugly.server.dialects.sending import dump
from snugly.server.dialects.types import Reply, Writer

if TYPE_CHECKING:
    from snugly.server.service import Service

Headers = list[tuple[bytes, bytes]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

BODY_SECONDS = 60.0  # how long a client may take to send what it said it would
# Of a body that is too large so much is read and dropped: a connection that is closed on what
# it still sends is reset, and the client never sees why.
_READ_IN_VAIN = 64 * 1024 * 1024
# Once so long has passed without a first token, the answer is begun, so that no proxy or
# client gives up on a long prompt; until then an error still has its own status.
FIRST_SECONDS = 10.0
JSON = b"application/json"


class Gone(Exception):
    """The client left, or does not read its answer."""


class Call:
    """What one request needs: its body, who asks, and the way back."""

    def __init__(
        self,
        service: "Service",
        scope: Mapping[str, Any],
        send: Send,
        route: str,
        dialect: str,
        client: str,
    ) -> None:
        self.service = service
        self.route = route  # as it stands in the table: paths with {names}, a bounded number
        self.scope = scope
        self.path_params: Mapping[str, str] = scope.get("path_params", {})
        self.id = secrets.token_hex(12)
        self.began = time.monotonic()
        self.created = time.time()
        self.client = client
        self.headers: Headers = []  # of the answer
        self.started = False  # the status has been sent
        self.send = send
        self.asked = Asked(now(), "", client, dialect, str(scope["path"]))
        self.line: Any = None

    def header(self, name: str) -> str:
        """A header of the request, empty where there is none."""
        wanted = name.encode()
        for key, value in self.scope["headers"]:
            if key == wanted:
                return str(value.decode("latin-1"))
        return ""

    def query(self, name: str) -> str:
        """A parameter of the query, empty where there is none."""
        pairs = parse_qsl(self.scope.get("query_string", b"").decode("latin-1"))
        return next((value for key, value in pairs if key == name), "")

    def reply(self, model: str, lease: Lease, wait_ms: float = 0.0) -> Reply:
        """What a writer must know."""
        return Reply(self.id, model, self.created, lease.load_ms, wait_ms)

    def note(self, **known: Any) -> None:
        """Something for the row in the history."""
        self.asked = replace(self.asked, **known)

    def saw(self, delta: Delta) -> None:
        """Count a piece of the answer."""
        asked = self.asked
        if asked.ttft_ms is None and (delta.text or delta.reasoning or delta.tool_calls):
            self.note(ttft_ms=self.spent_ms())
        usage = delta.usage
        if usage is not None:
            self.note(
                prompt_tokens=max(asked.prompt_tokens or 0, usage.prompt_tokens),
                completion_tokens=(asked.completion_tokens or 0) + usage.completion_tokens,
                cached_tokens=max(asked.cached_tokens or 0, usage.cached_tokens),
            )
        if asked.answer is not None and delta.text:
            self.note(answer=asked.answer + delta.text)

    def spent_ms(self) -> float:
        """Milliseconds since the request came."""
        return 1000 * (time.monotonic() - self.began)

    # ---- the answer

    async def json(self, value: Any, status: int = 200, headers: Headers | None = None) -> None:
        """A whole answer."""
        await self.whole(dump(value), JSON, status, headers)

    async def whole(
        self, body: bytes, media_type: bytes, status: int = 200, headers: Headers | None = None
    ) -> None:
        """A whole answer of any kind."""
        length = (b"content-length", str(len(body)).encode())
        await self._begin(status, [(b"content-type", media_type), length, *(headers or [])])
        await self._write(body, last=True)

    async def stream(self, writer: Writer, deltas: AsyncGenerator[Delta, None]) -> None:
        """An answer in pieces, as they come. An error after the first byte is told in it."""
        async with aclosing(deltas):
            try:
                first = await self._first(writer, deltas)
                await self._begin_stream(writer)
                while first is not None:
                    await self._put(writer.feed(first))
                    first = None
                    async for delta in deltas:
                        self.saw(delta)
                        await self._put(writer.feed(delta))
            except SnuglyError as error:
                if not self.started:
                    raise
                await self.service.failed(self, error)
                await self._put(writer.fail(error), last=True)
                return
        await self.service.settled(self, "done", 200)
        await self._put(writer.end(), last=True)

    async def lines(self, media_type: str, lines: AsyncGenerator[bytes, None]) -> None:
        """Lines as they come, of something else than an answer."""
        async with aclosing(lines):
            async for line in lines:
                if not self.started:
                    await self._begin(200, [(b"content-type", media_type.encode())])
                await self._write(line, last=False)
        await self._write(b"", last=True)

    async def _first(self, writer: Writer, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
        """The first piece. While it is awaited for long, signs of life are sent."""
        waiting = asyncio.ensure_future(anext(deltas, None))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=FIRST_SECONDS)
                if done:
                    break
                await self._begin_stream(writer)
                await self._put([writer.ping()])
        except BaseException:
            waiting.cancel()
            await asyncio.wait({waiting})
            raise
        delta = waiting.result()
        if delta is not None:
            self.saw(delta)
        return delta

    async def _begin_stream(self, writer: Writer) -> None:
        if not self.started:
            kind = (b"content-type", writer.media_type.encode())
            # Proxies must hand on each piece at once.
            more = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
            await self._begin(200, [kind, *more])
            await self._put(writer.start())

    async def refuse(self, status: int, body: bytes, headers: Headers) -> None:
        """An error, whole."""
        length = (b"content-length", str(len(body)).encode())
        await self._begin(status, [*headers, length])
        await self._write(body, last=True)

    async def _begin(self, status: int, headers: Headers) -> None:
        self.started = True
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self.headers],
            }
        )

    async def _put(self, events: list[bytes], last: bool = False) -> None:
        data = b"".join(events)
        if data or last:
            await self._write(data, last)

    async def _write(self, data: bytes, last: bool) -> None:
        """Send; a client that does not read is given up, its buffer is never more than 64 KiB."""
        try:
            async with asyncio.timeout(self.service.config.serve_stall_seconds):
                await self.send({"type": "http.response.body", "body": data, "more_body": not last})
        except TimeoutError:
            self.abort()
            raise Gone("it does not read its answer") from None

    def abort(self) -> None:
        """Cut the connection at once."""
        cut = self.scope.get("extensions", {}).get("snugly.abort")
        if cut is not None:
            cut()


async def read_body(scope: Mapping[str, Any], receive: Receive, most: int) -> bytes:
    """The body of a request, within its limits.

    Raises: HttpFault 413 for one that is too large, 408 for one that does not come; Gone.
    """
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone("it left before the request was whole")
                piece = message.get("body", b"")
                size += len(piece)
                if size <= most:
                    pieces.append(piece)
                elif size > most + _READ_IN_VAIN:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise HttpFault(408, f"The request did not come whole in {BODY_SECONDS:.0f} s.") from None
    if size > most:
        raise _too_large(most)
    return b"".join(pieces)


def _too_large(most: int) -> HttpFault:
    return HttpFault(
        413,
        "The request is too large.",
        f"At most {most:,} bytes are read.",
        "`serve_body_bytes` in the settings allows more.",
    )


def json_body(scope: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; {} where there is none.

    A form that a foreign page can send without asking is no JSON: the type must say it is.

    Raises: HttpFault 415; BadRequest.
    """
    if not body:
        return {}
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    kind = kinds[0].partition(b";")[0].strip().lower() if len(kinds) == 1 else b""
    if kind != JSON:
        raise HttpFault(
            415,
            "The request must be JSON.",
            f"Its Content-Type is {kind[:60].decode('latin-1') or 'not given'}.",
            "Send `Content-Type: application/json`.",
        )
    return parse(body)


async def left(receive: Receive) -> None:
    """Returns when the client has closed its side."""
    while (await receive())["type"] != "http.disconnect":
        pass


def words_of(body: Mapping[str, Any]) -> str:
    """What a client asked, for a history that keeps words: pictures left out by length."""
    kept = ("messages", "prompt", "input", "system", "input_prefix", "input_suffix", "suffix")
    text = json.dumps({key: body[key] for key in kept if key in body}, ensure_ascii=False)
    return text if len(text) <= 1_000_000 else text[:1_000_000]
