"""The server's life as others see it: its supervisor, its record, SIGHUP."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from snugly import __version__
from snugly.errors import UserError
from snugly.server import notify
from snugly.server.record import Record, record_path, remove_record, write_record
from snugly.server.reload import Changes, compare
from snugly.settings import Settings, settings

log = logging.getLogger("snugly.server")


class Swapped:
    """An ASGI app that can be another one from the next request on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        await self.app(scope, receive, send)


class Life:
    """What happens around a server's requests. `adopt` puts changed settings into force."""

    def __init__(
        self, config: Settings, secure: bool, adopt: Callable[[dict[str, Any]], None]
    ) -> None:
        self._config, self._secure, self._adopt = config, secure, adopt
        self._known = settings()  # as the file had them; `config` also has the command's options
        self._reloading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_terminal = on_terminal()  # at the start

    @asynccontextmanager
    async def lived(self) -> AsyncIterator[None]:
        """From the first request that can be taken to the last."""
        self._loop = asyncio.get_running_loop()
        path = record_path(self._config.history)
        here = Record(
            os.getpid(), self._config.serve_host, self._config.serve_port, self._secure,
            __version__, time.time(),
        )  # fmt: skip
        with contextlib.suppress(OSError):  # a full disk: `snugly status` asks the settings then
            write_record(path, here)
        seconds = notify.watchdog_seconds()
        dog = asyncio.create_task(_watch(seconds)) if seconds else None
        where = f"{self._config.serve_host}:{self._config.serve_port}"
        notify.tell(notify.READY, notify.status(f"Serving on {where}"))
        try:
            yield
        finally:
            notify.tell(notify.STOPPING)
            if dog is not None:
                dog.cancel()
            with contextlib.suppress(OSError):
                remove_record(path)

    def hang_up(self) -> None:
        """SIGHUP: read the settings again. Of the server's first moments nothing is changed."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        notify.tell(*notify.reloading())
        try:
            changes = await asyncio.to_thread(self._read)
            if changes.live:
                self._adopt(changes.live)
            log.info("%s", changes.words)
            said = changes.words
        except UserError as error:
            said = f"The settings stay as they were: {error.problem}"
            log.warning("%s %s", said, error.because)
        notify.tell(notify.READY, notify.status(said))

    def _read(self) -> Changes:
        """Raises: UserError."""
        # Not the cached ones: what needs a restart must stay the same everywhere until then.
        new = settings.__wrapped__()
        changes = compare(self._known, new)
        self._known = replace(self._known, **changes.live)
        return changes


def on_terminal() -> bool:
    """Whether standard error is a terminal that is still there."""
    try:
        return os.isatty(2)
    except OSError:
        return False


async def _watch(seconds: float) -> None:
    """Say that the event loop turns. A server that hangs is started again by its supervisor."""
    while True:
        notify.tell(notify.WATCHDOG)
        await asyncio.sleep(seconds)
