"""One streamed answer over an engine's private socket: bytes as they come, no layer between.

A general HTTP client spends a third of the gateway's time per token on pools, timeouts and
waiting anew for each read (docs/performance.md); here a protocol hands what came to whoever
waits. httptools, which serves uvicorn too, parses. The connection is closed afterwards, and
closing it is how an answer is cancelled.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools

from snugly.engine.address import Address

CONNECT_SECONDS = 10.0
# What may lie unread before the engine has to wait: a client that does not read holds this
# much, the server's buffer for it (64 KiB) and the kernel's.
_MOST_UNREAD = 64 * 1024


class Streamed(asyncio.Protocol):
    """An answer on its way: `status`, and pieces of the body until an empty one."""

    def __init__(self, silence_seconds: float) -> None:
        self._silence = silence_seconds
        self._loop = asyncio.get_running_loop()
        # None: closed. It holds us, and only a collection would find both.
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._unread = 0
        self._since = 0.0  # when the present waiting began
        self._clock: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = self._complete = False
        self._open_ended = True  # until a header tells where the body ends
        self._failure: Exception | None = None
        self.status = 0  # 0 until the headers are here

    async def begin(self) -> None:
        """Wait for the status. Raises: TimeoutError, OSError."""
        while not self.status:
            await self._something()

    async def read(self) -> bytes:
        """What came since the last time, waited for; empty at the end of the answer.

        Raises: TimeoutError when nothing comes for too long; OSError for a broken connection.
        """
        while not self._pieces:
            if self._complete:
                return b""
            await self._something()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._unread = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def whole(self) -> bytes:
        """All that is left of the body. Raises: as `read`."""
        pieces = []
        while data := await self.read():
            pieces.append(data)
        return b"".join(pieces)

    def _something(self) -> "asyncio.Future[None]":
        if self._failure is not None:
            raise self._failure
        self._waiter, self._since = self._loop.create_future(), self._loop.time()
        if self._clock is None:
            self._clock = self._loop.call_later(self._silence, self._tick)
        return self._waiter

    def _tick(self) -> None:
        """One timer for all pieces: it looks how long the present one is waited for."""
        self._clock = None
        if self._waiter is None or self._waiter.done():
            return  # whoever waits next sets it again
        due = self._since + self._silence
        if self._loop.time() >= due:
            self._fail(TimeoutError("the engine is silent"))
        else:
            self._clock = self._loop.call_at(due, self._tick)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._failure)

    def close(self) -> None:
        """End the connection at once."""
        if self._clock is not None:
            self._clock.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._parser = None

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        # uvloop's transports have the methods without being asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))
        if self._unread > _MOST_UNREAD and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The engine said its last word; a body without a length ends so, and no other."""
        if self.status and self._open_ended:
            self._complete = True
            self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self._complete:
            self._fail(error or ConnectionResetError("closed in the middle of an answer"))

    # ---- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header: only those that tell where the body ends matter."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._open_ended = False

    def on_headers_complete(self) -> None:
        """The status is known."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece."""
        self._pieces.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._complete = True


@asynccontextmanager
async def streamed(
    address: Address, path: str, body: bytes, silence_seconds: float
) -> AsyncIterator[Streamed]:
    """POST `body` (JSON) and give the answer once its status is there.

    Raises: TimeoutError after `silence_seconds` without a byte; OSError for a connection
    that cannot be made or that breaks.
    """
    loop = asyncio.get_running_loop()

    def protocol() -> Streamed:
        return Streamed(silence_seconds)

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            transport, answer = await (
                loop.create_unix_connection(protocol, address.socket)
                if address.socket
                else loop.create_connection(protocol, "127.0.0.1", address.port)
            )
    except TimeoutError:
        raise ConnectionError("the engine takes no connection") from None
    try:
        key = f"Authorization: Bearer {address.key}\r\n" if address.key else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n{key}\r\n"
        )
        transport.write(head.encode() + body)
        await answer.begin()
        yield answer
    finally:
        answer.close()
