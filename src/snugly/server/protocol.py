"""uvicorn's HTTP protocol with two things it lacks: a deadline for headers, and cutting."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0  # from the first byte, or the connection, to the end of the headers
HEADER_BYTES = 64 * 1024
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Closes what sends its headers too slowly or too large; lets the app cut a connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Headers may not be endless either."""
        if self._deadline is not None:
            self._header_bytes += len(data)
            # A body may follow in the same piece; what uvicorn reads at once is 64 KiB to 256.
            if self._header_bytes > HEADER_BYTES + 256 * 1024:
                self._too_slow()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A further request on the same connection has its own deadline."""
        super().on_message_begin()
        extensions: dict[str, Any] = {"snugly.abort": self.transport.abort}
        self.scope["extensions"] = extensions
        if self._deadline is None:
            self._start_clock()

    def on_headers_complete(self) -> None:
        """They are here."""
        self._stop_clock()
        super().on_headers_complete()

    def _start_clock(self) -> None:
        self._header_bytes = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._stop_clock()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
