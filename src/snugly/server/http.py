"""The HTTP server itself: uvicorn, with signals and an end as `snugly serve` needs them.

Apart from `serving`, so that it is imported while the first model loads.
"""

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from snugly.server.life import Life, on_terminal
from snugly.server.protocol import GuardedProtocol

# Longer than any client keeps an idle connection (httpx 5 s, Go 90 s behind proxies, Node 5 s):
# whoever closes first while the other is just sending makes a failed request.
_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 5
# After so many new objects Python looks for cycles among them, in 0.2 ms (a refusal leaves some 80,
# an answer 20). The command line's 200,000 would keep the garbage of thousands of requests.
_NEW_OBJECTS = 5_000


class HttpServer(uvicorn.Server):
    """uvicorn's server that returns when it was told to stop, so that models are stopped too.

    The original sends itself the signal again, which ends the process in the middle of that.
    """

    def __init__(self, config: uvicorn.Config, life: Life) -> None:
        super().__init__(config)
        self._life = life

    async def main_loop(self) -> None:
        """Take requests, and let the supervisor know."""
        # What is loaded by now stays: a full collection looks at 64,000 objects otherwise, which
        # takes 36 ms, or ten times that on a busy machine, and all streams wait for it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        async with self._life.lived():
            await super().main_loop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP for as long as the block lasts."""
        taken = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in taken}
        if sys.platform != "win32":
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        """Read the settings again; end when it means that our terminal was closed."""
        if self._life.on_terminal and not on_terminal():
            self.handle_exit(number, frame)
        else:
            self._life.hang_up()


def http_config(
    app: Any, certificate: Path | None = None, key: Path | None = None
) -> uvicorn.Config:
    """How uvicorn is to serve the app."""
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
