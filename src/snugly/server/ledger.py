"""Every request into the history, off the event loop, many in one transaction."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from snugly.errors import HistoryError
from snugly.history import requests
from snugly.history.db import Database
from snugly.history.opening import opened
from snugly.history.requests import Asked

T = TypeVar("T")

# A row of a request that has just begun waits so long for company: writing it at once would take
# the processor from the request itself before its first token, and a short one is written once.
_SOON_SECONDS = 0.1

log = logging.getLogger("snugly.server")


@dataclass(eq=False, slots=True)
class Line:
    """One request's row. `number` is None until it is in the file."""

    asked: Asked
    number: int | None = None


class Ledger:
    """Writes rows in the order they come, as many at once as came meanwhile.

    A history that cannot be written (a full disk) is said once and tried again with the
    next row: an answer is no less good without it.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._pending: dict[Line, list[asyncio.Future[None]]] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self.failing = False

    def begin(self, asked: Asked) -> Line:
        """Note a request that has begun; nobody waits for the disk."""
        line = Line(asked)
        self._pending.setdefault(line, [])
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_SOON_SECONDS, self._kick)
        return line

    async def settle(self, line: Line, asked: Asked) -> None:
        """Note how it went; on the disk when this returns."""
        line.asked = asked
        done = asyncio.get_running_loop().create_future()
        self._pending.setdefault(line, []).append(done)
        self._kick()
        await asyncio.shield(done)

    def _kick(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, {}
            rows = [(line.number, line.asked) for line in batch]
            try:
                numbers = await asyncio.to_thread(requests.write, self._db, rows)
            except HistoryError as error:
                if not self.failing:
                    log.warning("requests are not in the history: %s", error)
                self.failing = True
            else:
                self.failing = False
                for line, number in zip(batch, numbers, strict=True):
                    line.number = number
            for futures in batch.values():
                for future in futures:
                    if not future.done():
                        future.set_result(None)

    async def close(self) -> None:
        """Wait until everything is written."""
        if self._pending:
            self._kick()
        while self._flusher is not None and not self._flusher.done():
            await self._flusher

    async def ask(self, question: Callable[[Database], T]) -> T:
        """Something else of the history, off the loop. Raises: HistoryError."""
        return await asyncio.to_thread(question, self._db)


@asynccontextmanager
async def open_ledger(path: Path) -> AsyncIterator[Ledger]:
    """The ledger of this history; what a killed server left behind is marked first.

    Raises: HistoryError.
    """
    with opened(path) as db:
        left = requests.mark_interrupted(db)
        if left:
            log.warning("%d requests were interrupted when the server last ended", left)
        ledger = Ledger(db)
        try:
            yield ledger
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await ledger.close()
