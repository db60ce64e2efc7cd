"""One request from its first byte to its last: read with limits, answered, written down."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from snugly.chat.types import Delta, Usage
from snugly.engine.pool import Lease
from snugly.errors import SnuglyError
from snugly.history.db import now
from snugly.history.requests import Asked
from snugly.server.bodies import JSON, Gone
from snugly.server.dialects.sending import dump
from snugly.server.dialects.types import Reply, Writer

if TYPE_CHECKING:
    from snugly.server.service import Service

Headers = list[tuple[bytes, bytes]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Once so long has passed without a first token, the answer is begun, so that no proxy or
# client gives up on a long prompt; until then an error still has its own status.
FIRST_SECONDS = 10.0
UNREAD = "it does not read its answer"


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
        self.n = 1  # answers to each prompt
        self._read: dict[int, Usage] = {}  # by prompt
        self.send = send
        self._pass = send  # for pieces: the shortest way there is
        self.asked = Asked(now(), "", client, dialect, str(scope["path"]))
        self.line: Any = None
        self._writing = 0.0  # when the present piece was given to the connection; 0: none is
        self._watch: asyncio.TimerHandle | None = None
        self.stalled = False  # the client did not read, and was cut off

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
            # A prompt counts once, however many answers it got.
            self._read.setdefault(delta.choice // self.n, usage)
            self.note(
                prompt_tokens=sum(read.prompt_tokens for read in self._read.values()),
                completion_tokens=(asked.completion_tokens or 0) + usage.completion_tokens,
                cached_tokens=sum(read.cached_tokens for read in self._read.values()),
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
                if first is not None:
                    await self._pass_on(writer, first, deltas)
            except SnuglyError as error:
                if not self.started:
                    raise
                await self.service.failed(self, error)
                await self._put(writer.fail(error), last=True)
                return
        await self.service.settled(self, "done", 200)
        await self._put(writer.end(), last=True)

    async def _pass_on(
        self, writer: Writer, first: Delta, deltas: AsyncGenerator[Delta, None]
    ) -> None:
        """Pieces as they come; what came at once is sent at once."""
        events = [*writer.feed(first)]
        try:
            if not first.more:
                await self._put(events)
                events.clear()
            async for delta in deltas:
                self.saw(delta)
                events += writer.feed(delta)
                if events and not delta.more:
                    await self._write(b"".join(events), last=False)
                    events.clear()
        except SnuglyError:
            await self._put(events)
            raise
        await self._put(events)

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
            # What comes after the head is nothing to the layers around the routes.
            self._pass = self.scope.get("extensions", {}).get("snugly.send", self.send)
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
        data = events[0] if len(events) == 1 else b"".join(events)
        if data or last:
            await self._write(data, last)

    async def _write(self, data: bytes, last: bool) -> None:
        """Send; a client that does not read is given up, its buffer is never more than 64 KiB."""
        self._writing = time.monotonic()
        if self._watch is None:
            self._look()
        await self._pass({"type": "http.response.body", "body": data, "more_body": not last})
        self._writing = 0.0
        if self.stalled:
            raise Gone(UNREAD)

    def _look(self) -> None:
        """One timer for all pieces: it looks for how long the present one has been on its way."""
        stall = self.service.config.serve_stall_seconds
        left = stall - (time.monotonic() - self._writing if self._writing else 0.0)
        if left > 0:
            self._watch = asyncio.get_running_loop().call_later(left, self._look)
        else:
            self.stalled = True
            self.abort()  # which ends the waiting

    def ended(self) -> None:
        """Nothing more is written."""
        if self._watch is not None:
            self._watch.cancel()

    def abort(self) -> None:
        """Cut the connection at once."""
        cut = self.scope.get("extensions", {}).get("snugly.abort")
        if cut is not None:
            cut()
